package workdir

import (
	"testing"

	"go.uber.org/goleak"

	"layered.build/builder/executor/rootless/rootlesstest"
)

// No test leaves a goroutine.
func TestMain(m *testing.M) {
	rootlesstest.Enter()
	goleak.VerifyTestMain(m)
}
