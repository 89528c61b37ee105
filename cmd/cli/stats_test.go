package cli

import (
	"strings"
	"testing"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

func TestStats(t *testing.T) {
	var s stats
	for name, u := range map[string]*executor.Usage{
		"skipped": nil,
		"RUN make\n  all": {CPU: 1500 * time.Millisecond, System: 250 * time.Millisecond, Wall: time.Second, PeakMemory: 3 << 20,
			ReadBytes: 1, WriteBytes: 2_000_000, RxBytes: 3000, TxBytes: 400, Processes: 5},
		"RUN host": {HostNetwork: true, Processes: 1},
	} {
		s.observe(executor.Event{Type: executor.EventDone, Step: &dag.Step{Meta: dag.Meta{Name: name}}, Usage: u})
	}
	var b strings.Builder
	if err := s.print(&b); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"TIME CPU SYSTEM MEMORY READ WRITTEN RECEIVED SENT PROCESSES STEP ",
		" 1.00s 1.50s 0.25s 3MiB 1B 2MB 3kB 400B 5 RUN make all",
		" 0.00s 0.00s 0.00s 0B 0B 0B - - 1 RUN host",
		" 1.00s 1.50s 0.25s 3MiB 1B 2MB 3kB 400B 5 all (times",
	} {
		if !strings.Contains(" "+got, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(got, "skipped") {
		t.Errorf("a step without a process: %s", got)
	}
}
