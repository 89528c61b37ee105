package sandboxtest

import (
	"testing"

	"layered.build/builder/executor/sandbox"
)

// Run runs the suite on sandboxes that newSandbox makes.
func Run(t *testing.T, newSandbox func(t *testing.T) sandbox.Sandbox) {
	t.Run("output", func(t *testing.T) {
		e := NewEnv(t, newSandbox(t))
		r := e.Run(t, e.Shell("echo out; echo err >&2; exit 3"))
		if r.Code != 3 || r.Out != "out\n" || r.Err != "err\n" {
			t.Errorf("got %+v", r)
		}
		if c := e.Changes(t); len(c) != 0 {
			t.Errorf("left in the upper directory: %v", c)
		}
	})
}
