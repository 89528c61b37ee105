// Package doctor finds out what a machine offers to builds: which rungs of
// isolation work here, and what would lift those that do not. It changes nothing.
package doctor

import (
	"context"
	"os"
	"sync"

	"layered.build/builder/executor/rootless"
)

// State tells how a fact is to be taken.
type State string

// The states.
const (
	OK      State = "ok"
	Missing State = "missing" // builds work without, or with less
	Info    State = "info"
)

// Fact is one line about the machine.
type Fact struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Value string `json:"value"`
	// Remedy is the one command or setting that would change it.
	Remedy string `json:"remedy,omitempty"`
}

// Rung is one rung of isolation.
type Rung struct {
	Isolation rootless.Isolation `json:"isolation"`
	Works     bool               `json:"works"`
	Used      bool               `json:"used"`
	// Driver is how stacks become root file systems on it.
	Driver string `json:"driver,omitempty"`
	// Reason says why it does not work, or works with less; Remedy what would lift
	// that.
	Reason string `json:"reason,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// Report is what Examine found.
type Report struct {
	Works bool   `json:"works"` // builds can run
	Rungs []Rung `json:"rungs"`
	Facts []Fact `json:"facts"`
}

// Examine looks at the machine, for this process's user and a store's folder, which
// need not exist. It starts this program anew, as its own child, to try the rungs:
// main must call Probe.
func Examine(ctx context.Context, store string) Report {
	var r Report
	var wg sync.WaitGroup
	wg.Go(func() { r.Rungs = rungs(ctx, store) })
	wg.Go(func() { r.Facts = facts(store) })
	wg.Wait()
	for i := range r.Rungs {
		if r.Rungs[i].Works {
			r.Works, r.Rungs[i].Used = true, true
			break
		}
	}
	return r
}

// existing is the deepest folder of a path that exists.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" || path == "." {
			return path
		}
		path = parent(path)
	}
}
