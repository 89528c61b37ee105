package build_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor"
	"layered.build/builder/fixtures/project"
	"layered.build/builder/parser"
)

// TestSharedIncremental edits random projects, and has one of two machines that share a cache
// build them after each edit, or one that begins with nothing. The image must be the one that
// a machine without any cache makes; a step may only run if what it reads, or what the steps
// before it read, was never like this before, on any machine; and who runs nothing and
// exports nothing fetches nothing. $BUILDER_TEST_EDITS is the number of edits (100),
// $BUILDER_TEST_SEED the seed.
func TestSharedIncremental(t *testing.T) {
	newMachine := machines(t)
	edits := project.Number(t, "BUILDER_TEST_EDITS", 100)
	seed := project.Number(t, "BUILDER_TEST_SEED", int(time.Now().UnixNano()&0xffffffff))
	t.Logf("seed %d", seed)
	s := &sharing{}
	const perProject = 20
	for s.edits < edits && !t.Failed() {
		rnd := rand.New(rand.NewPCG(uint64(seed), uint64(s.edits)))
		n := min(perProject, edits-s.edits)
		t.Run(strconv.Itoa(s.edits), func(t *testing.T) { s.sequence(t, rnd, newMachine(), n) })
	}
	t.Logf("%d edits, of which %d cannot be built; %d builds: %d steps ran, %d were cached, %d of these on a machine that had nothing", s.edits, s.failures, s.builds, s.ran, s.cached, s.brought)
	if edits >= 100 && (s.ran == 0 || s.brought == 0 || 2*s.failures > s.edits) {
		t.Error("the projects are of no use")
	}
}

// sharing counts what was done.
type sharing struct {
	edits, failures, builds, ran, cached, brought int
}

// version is a project between two edits.
type version struct {
	from   *project.Project
	ignore *parser.Ignore
	text   string
}

// outcome is what a build made.
type outcome struct {
	id     digest.Digest
	err    error
	ran    []string // steps, as signatures names them
	cached int
	events string
	warned string
}

// sequence makes a project and edits it.
func (s *sharing) sequence(t *testing.T, rnd *rand.Rand, m *machine, edits int) {
	m.t = t
	from := project.New(t, rnd, project.Options{Base: m.host + "/base:1", Seldom: 4})
	m.dir = from.Dir
	place := &sharedtest.Memory{}
	machines := []*engine.Host{newHost(t), newHost(t)}
	history := []string{"the project"}
	seen := map[string]bool{} // what steps have read
	for range edits {
		from.SaveIgnore(t)
		ignore, err := parser.ReadIgnore(from.Dir, "")
		if err != nil {
			t.Fatal(err)
		}
		v := version{from: from, ignore: ignore, text: from.Dockerfile()}
		signatures := from.Signatures(t)
		check := func(who string, got outcome) {
			s.builds++
			s.cached += got.cached
			for _, name := range got.ran {
				sig, ok := signatures[name]
				if ok {
					s.ran++
				}
				if ok && seen[sig] {
					t.Errorf("%q ran on %s although nothing that it reads is new\nafter: %s\n%s\n%s", name, who, strings.Join(history, ", "), v.text, got.events)
				}
			}
			if got.warned != "" {
				t.Errorf("warned: %s\n%s", got.warned, got.events)
			}
		}
		at := rnd.IntN(2)
		got := s.onMachine(m.shares(place, shared.ModeMax), machines[at], v, true)
		check("machine "+strconv.Itoa(at), got)
		m.caches = build.Caches{}
		want := s.withNothing(m, v, true)
		s.edits++
		if got.id != want.id || (got.err == nil) != (want.err == nil) {
			t.Errorf("image %q, %v; a clean build makes %q, %v\nafter: %s\n%s\n%s", got.id, got.err, want.id, want.err, strings.Join(history, ", "), v.text, got.events)
		}
		if got.err != nil {
			s.failures++
			from.Mend(t)
			history = append(history, "mended")
		} else {
			for _, sig := range signatures {
				seen[sig] = true
			}
			m.shares(place, shared.ModeMax)
			switch rnd.IntN(4) {
			case 0: // looks, and needs no layer
				before := place.Opened()
				found := s.withNothing(m, v, false)
				check("a new machine", found)
				s.brought += found.cached
				if n := place.Opened() - before; found.err != nil || n > 0 {
					t.Errorf("%v, %d blobs were fetched although nothing needs them\n%s\n%s", found.err, n, v.text, found.events)
				}
			case 1:
				found := s.withNothing(m, v, true)
				check("a new machine", found)
				s.brought += found.cached
				if found.id != want.id {
					t.Errorf("a new machine brought image %q, %v; a clean build makes %q\n%s", found.id, found.err, want.id, v.text)
				}
			}
		}
		if t.Failed() {
			return
		}
		history = append(history, from.Edit(t))
	}
}

// withNothing builds on a machine that has nothing yet.
func (s *sharing) withNothing(m *machine, v version, out bool) outcome {
	m.t.Helper()
	dir := filepath.Join(m.t.TempDir(), "store")
	got := s.onMachine(m, newHostAt(m.t, dir), v, out)
	if err := os.RemoveAll(dir); err != nil {
		m.t.Fatal(err)
	}
	return got
}

// onMachine builds a version. Out: the image is made, and all of its layers.
func (s *sharing) onMachine(m *machine, h *engine.Host, v version, out bool) outcome {
	var o outcome
	epoch := time.Unix(project.Epoch, 0)
	m.nothingOut = !out
	m.alter = func(r *build.Request, d *build.Definition) {
		r.AllTargets, r.Plan.AllStages = true, true
		r.Plan.BuildArgs = map[string]string{"V": strconv.Itoa(v.from.Arg)}
		if out {
			r.Plan.Epoch = &epoch
		}
		d.Ignore = v.ignore
	}
	var events []string
	m.hook = func(ev executor.Event) {
		if ev.Type == executor.EventWarning && !strings.Contains(string(ev.Data), "nothing was exported there yet") {
			o.warned += string(ev.Data)
		}
		if ev.Step == nil || ev.Step.Meta.Stage == "" {
			return
		}
		_, text, _ := strings.Cut(ev.Step.Meta.Name, "] ")
		events = append(events, string(ev.Type)+" "+ev.Step.Meta.Name+" "+ev.Reason+string(ev.Data))
		switch ev.Type {
		case executor.EventCached:
			o.cached++
		case executor.EventStarted:
			o.ran = append(o.ran, ev.Step.Meta.Stage+" "+text)
		}
	}
	m.events = nil
	o.err = m.build(m.t.Context(), h, m.host, v.text)
	o.events = strings.Join(events, "\n")
	if o.err == nil {
		o.id = m.product.ID()
	}
	return o
}
