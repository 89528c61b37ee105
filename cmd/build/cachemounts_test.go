package build_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/cmd/build"
	"layered.build/builder/executor"
	"layered.build/builder/fixtures"
)

// carries has a machine share a place with its cache mounts.
func (m *machine) carries(p shared.Backend, scope string, parents ...string) *machine {
	all := shared.Select{All: true}
	m.caches = build.Caches{
		From: []shared.Source{{Backend: p, From: shared.From{Scopes: append([]string{scope}, parents...), Mounts: all}}},
		To:   []shared.Target{{Backend: p, To: shared.To{Scope: scope, Mode: shared.ModeMax, Mounts: all}}},
	}
	m.hook = func(ev executor.Event) { // under its lock
		switch {
		case ev.Type == executor.EventDone && ev.Step == nil && strings.Contains(ev.Task, "cache mount"):
			m.tasks = append(m.tasks, ev.Task)
		case ev.Type == executor.EventWarning && !strings.Contains(string(ev.Data), "nothing was exported there yet"):
			m.tasks = append(m.tasks, "warning: "+string(ev.Data))
		}
	}
	return m
}

func (m *machine) did(want ...string) {
	m.t.Helper()
	for i := range m.tasks {
		m.tasks[i] = strings.TrimSuffix(m.tasks[i], " memory")
	}
	if !slices.Equal(m.tasks, want) {
		m.t.Errorf("did %q, want %q", m.tasks, want)
	}
}

const (
	mountFrom = "FROM %[1]s/base:1\n"
	mountRun  = "RUN --mount=type=cache,id=m,target=/c "
	exported  = "exporting cache mount m to"
	restored  = "restoring cache mount m from"
)

// TestCarriedMounts restores on a machine what another has left in a cache mount, if a process
// uses it.
func TestCarriedMounts(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	first := newMachine().carries(place, "main")
	first.run(mountFrom + mountRun + "mkdir /c/d && echo one > /c/d/a && ln /c/d/a /c/b && cat /c/b > /all")
	first.did(exported)

	// What is cached runs nothing: neither is the mount fetched, nor lost.
	opened := place.Opened()
	cached := newMachine().carries(place, "main")
	if ran := cached.run(mountFrom + mountRun + "mkdir /c/d && echo one > /c/d/a && ln /c/d/a /c/b && cat /c/b > /all"); len(ran) != 0 {
		t.Errorf("ran %q", ran)
	}
	cached.did()
	cached.is("all", "one\n")
	if n := place.Opened() - opened; n != 1 {
		t.Errorf("%d blobs were read, want the layer", n)
	}

	second := newMachine().carries(place, "main")
	second.run(mountFrom + mountRun + "echo two >> /c/d/a && cat /c/b > /all")
	second.did(restored, exported)
	second.is("all", "one\ntwo\n")

	// What only reads changes nothing, and nothing is sent.
	third := newMachine().carries(place, "main")
	third.run(mountFrom + mountRun + "cat /c/d/a > /all\n" + "RUN --mount=type=cache,id=other,target=/c ls -A /c > /other")
	third.did(restored)
	third.is("all", "one\ntwo\n")
	third.is("other", "")

	// Another scope reads this one's, and writes its own.
	pull := newMachine().carries(place, "pull", "main")
	pull.run(mountFrom + mountRun + "echo pull > /c/p && cat /c/d/a > /all")
	pull.did(restored, exported)
	pull.is("all", "one\ntwo\n")
	main := newMachine().carries(place, "main")
	main.run(mountFrom + mountRun + "ls /c > /all")
	main.is("all", "b\nd\n")

	// What a step that failed has left is not sent, unlike what others did.
	failing := newMachine().carries(place, "main")
	err := failing.build(t.Context(), newHost(t), failing.host, fmt.Sprintf(mountFrom+mountRun+"touch /c/bad && false", failing.host))
	if err == nil {
		t.Error("it did not fail")
	}
	failing.did(restored)
	last := newMachine().carries(place, "main")
	last.run(mountFrom + mountRun + "ls -A /c > /all; true")
	last.is("all", "b\nd\n")
}

// TestCarriedMountKey prefers what belongs to the same files of the context.
func TestCarriedMountKey(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	const file = "# builder: mount-key=lock,more\n" + mountFrom
	for _, lock := range []string{"one", "two", "three"} {
		m := newMachine().carries(place, "main")
		fixtures.WriteFiles(t, m.dir, "lock", lock, "more", "")
		m.run(file + mountRun + "echo " + lock + " > /c/lock")
	}
	for lock, want := range map[string]string{"one": "one\n", "three": "three\n"} {
		m := newMachine().carries(place, "main")
		fixtures.WriteFiles(t, m.dir, "lock", lock, "more", "")
		m.run(file + mountRun + "true " + lock + "; cat /c/lock > /all")
		m.is("all", want)
	}
	lacking := newMachine().carries(place, "main")
	lacking.run(file + mountRun + "ls /c > /all")
	if lacking.is("all", "lock\n"); len(lacking.tasks) == 0 || !strings.HasPrefix(lacking.tasks[0], "warning: the key of cache mounts: lock:") {
		t.Errorf("did %q", lacking.tasks)
	}
}

// TestCarriedMountFaults builds with places whose mounts are damaged or gone: the mount is
// empty then, that is told, and what is whole is sent for the next machine.
func TestCarriedMountFaults(t *testing.T) {
	newMachine := machines(t)
	for name, fault := range map[string]func(*sharedtest.Memory){
		"damaged": func(p *sharedtest.Memory) { p.Damage() },
		"gone": func(p *sharedtest.Memory) {
			p.Fault = func(op string) error {
				if op == "open" {
					return fs.ErrNotExist
				}
				return nil
			}
		},
		"truncated": func(p *sharedtest.Memory) {
			p.Mangle = func(_ digest.Digest, b []byte) []byte { return b[:len(b)/2] }
		},
	} {
		t.Run(name, func(t *testing.T) {
			place := &sharedtest.Memory{}
			first := newMachine().carries(place, "")
			first.t = t
			first.run(mountFrom + mountRun + "echo one > /c/a")
			fault(place)
			second := newMachine().carries(place, "")
			second.t = t
			second.run(mountFrom + mountRun + "echo two > /c/b; ls /c > /all")
			second.is("all", "b\n")
			if len(second.tasks) != 3 || !strings.Contains(second.tasks[1], "cannot be restored") || second.tasks[2] != exported+" memory" {
				t.Errorf("did %q", second.tasks)
			}
			place.Fault, place.Mangle = nil, nil
			third := newMachine().carries(place, "")
			third.t = t
			third.run(mountFrom + mountRun + "ls /c > /all; echo changed > /c/b")
			third.is("all", "b\n")
			third.did(restored, exported)
		})
	}
}
