package build_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/cmd/build"
	"layered.build/builder/fixtures"
)

// machine is one of those that share a cache: a store of its own.
type machine struct {
	*client
	t    *testing.T
	host string // of the base image
	// tasks are those that were done for cache mounts, and warnings.
	tasks []string
}

func machines(t *testing.T) func() *machine {
	fixtures.NeedOverlay(t)
	fixtures.NeedRealRoot(t, "it runs containers")
	fixtures.NeedProgram(t, "busybox")
	host := twoFaced(t, "a")
	return func() *machine { return &machine{client: newClient(t, "a"), t: t, host: host} }
}

// shares has a machine read and write a place.
func (m *machine) shares(p shared.Backend, mode string) *machine {
	m.caches = build.Caches{From: []shared.Source{{Backend: p}}, To: []shared.Target{{Backend: p, To: shared.To{Mode: mode}}}}
	return m
}

const sharedDockerfile = `FROM %[1]s/base:1 AS one
COPY file /file
RUN echo one > /one && cat /file >> /one
FROM %[1]s/base:1
COPY other /other
RUN echo two > /two
COPY --from=one /one /from
RUN cat /from /two > /all
`

// run builds in a new store, and returns the steps that ran.
func (m *machine) run(dockerfile string) []string {
	m.t.Helper()
	m.events = nil
	if err := m.build(m.t.Context(), newHost(m.t), m.host, fmt.Sprintf(dockerfile, m.host)); err != nil {
		m.t.Fatalf("build: %v\n%s", err, strings.Join(m.events, "\n"))
	}
	var ran []string
	for _, ev := range m.events {
		if name, ok := strings.CutPrefix(ev, "done ["); ok && !strings.Contains(name, "] FROM ") && !strings.HasPrefix(name, "internal]") {
			ran = append(ran, strings.TrimSpace(name))
		}
	}
	return ran
}

func (m *machine) is(name, want string) {
	m.t.Helper()
	if got := m.content(m.t, name); got != want {
		m.t.Errorf("%s holds %q, want %q", name, got, want)
	}
}

// TestSharedCache builds on a machine what another has built: nothing runs, and only what
// depends on an edit does.
func TestSharedCache(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	first := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, first.dir, "other", "other")
	if ran := first.run(sharedDockerfile); len(ran) != 6 {
		t.Fatalf("ran %q", ran)
	}
	if place.Opened() != 0 {
		t.Errorf("%d blobs were read by who wrote them", place.Opened())
	}
	second := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, second.dir, "other", "other")
	var asked atomic.Int32
	place.Fault = func(op string) error {
		if op != "index" && op != "open" {
			asked.Add(1)
		}
		return nil
	}
	if ran := second.run(sharedDockerfile); len(ran) != 0 {
		t.Errorf("ran %q", ran)
	}
	place.Fault = nil
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests to write what the place itself has given", n)
	}
	second.is("all", "one\nthe file of atwo\n")

	edited := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, edited.dir, "other", "other", "file", "edited ")
	if ran := edited.run(sharedDockerfile); len(ran) != 4 {
		t.Errorf("after an edit ran %q", ran)
	}
	edited.is("all", "one\nedited two\n")

	// What reads a file that did not change does not run, whatever was edited.
	cutoff := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, cutoff.dir, "other", "edited")
	if ran := cutoff.run(sharedDockerfile); len(ran) != 4 || strings.Contains(strings.Join(ran, "\n"), "one 2/3") {
		t.Errorf("after another edit ran %q", ran)
	}
	cutoff.is("all", "one\nthe file of atwo\n")
}

// TestSharedEntries builds on layers that are in a shared cache only: what is written on top
// of them fetches none, and what copies out of them fetches the one that has the file.
func TestSharedEntries(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	const text = `FROM %%s/base:1 AS one
RUN echo one > /one && mkdir -m 750 /d && chown 7:8 /d
RUN echo two > /two && ln /two /d/two
RUN echo three > /three
FROM one AS top
COPY other /d/other
FROM scratch
COPY --from=%s
`
	first := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, first.dir, "other", "other")
	first.run(fmt.Sprintf(text, "top /d/other /"))
	for _, tc := range []struct {
		copies, other, file, want string
		layers, ran               int
	}{
		{"top /d/other /", "edited", "other", "edited", 0, 2},
		{"one /two /x", "other", "x", "two\n", 1, 1},
		{"one /one /three /", "other", "three", "three\n", 2, 1},
		{"top /d /d/", "again", "d/two", "two\n", 1, 2},
	} {
		before := place.OpenedLayers()
		m := newMachine().shares(place, shared.ModeMax)
		fixtures.WriteFiles(t, m.dir, "other", tc.other)
		if ran := m.run(fmt.Sprintf(text, tc.copies)); len(ran) != tc.ran {
			t.Errorf("%s: ran %q", tc.copies, ran)
		}
		if n := place.OpenedLayers() - before; n != tc.layers {
			t.Errorf("%s: %d layers were fetched, want %d", tc.copies, n, tc.layers)
		}
		m.is(tc.file, tc.want)
	}
}

// TestSharedLink brings what stands on the layers of COPY --link, which are made on nothing,
// and fetches none of them: neither the layer itself, nor a copy of it on another base.
func TestSharedLink(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	const text = `FROM %%s/base:1
RUN echo %s > /one
COPY --link file /d/file
COPY --link nothing* /empty/
RUN cat /d/file /one > /all
`
	build := func(base, edit string) (*machine, []string) {
		m := newMachine().shares(place, shared.ModeMax)
		fixtures.WriteFiles(t, m.dir, "nothing/x", "", "file", edit)
		m.nothingOut = true
		return m, m.run(fmt.Sprintf(text, base))
	}
	if _, ran := build("one", "a"); len(ran) != 6 {
		t.Fatalf("ran %q", ran)
	}
	if _, ran := build("one", "a"); len(ran) != 0 || place.Opened() > 0 {
		t.Errorf("ran %q and read %d blobs", ran, place.Opened())
	}
	// The layers are put on another base: only the RUNs run, which see what there was.
	m, ran := build("two", "a")
	for _, name := range ran {
		if !strings.Contains(name, "] RUN") && !strings.Contains(name, "] LINK") {
			t.Errorf("on another base ran %q", name)
		}
	}
	m.nothingOut = false
	if ran := m.run(fmt.Sprintf(text, "two")); len(ran) != 0 {
		t.Errorf("ran %q", ran)
	}
	m.is("all", "atwo\n")
	m.is("d/file", "a")
}

// TestSharedMin exports only what the result is made of.
func TestSharedMin(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	first := newMachine().shares(place, shared.ModeMin)
	fixtures.WriteFiles(t, first.dir, "other", "other")
	first.run(sharedDockerfile)
	second := newMachine().shares(place, shared.ModeMin)
	fixtures.WriteFiles(t, second.dir, "other", "other")
	if ran := second.run(sharedDockerfile); len(ran) != 0 {
		t.Errorf("ran %q", ran)
	}
	edited := newMachine().shares(place, shared.ModeMin)
	fixtures.WriteFiles(t, edited.dir, "other", "edited")
	if ran := edited.run(sharedDockerfile); len(ran) != 6 {
		t.Errorf("the stage that is no part of the result was not exported, but ran %q", ran)
	}
}

// TestSharedFaults builds with places that fail in every way: the result is right, and it
// is no error.
func TestSharedFaults(t *testing.T) {
	newMachine := machines(t)
	broken := errors.New("broken place")
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(1, 2)) // guarded by mu
	onceIn := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n) == 0
	}
	often := func(err error) func(string) error {
		return func(string) error {
			if onceIn(3) {
				return err
			}
			return nil
		}
	}
	only := func(op string, err error) func(string) error {
		return func(o string) error {
			if o == op {
				return err
			}
			return nil
		}
	}
	seldom := func(mangle func([]byte) []byte) func(digest.Digest, []byte) []byte {
		return func(_ digest.Digest, b []byte) []byte {
			if len(b) == 0 || onceIn(2) {
				return b
			}
			return mangle(b)
		}
	}
	for name, fault := range map[string]struct {
		fault  func(string) error
		mangle func(digest.Digest, []byte) []byte
	}{
		"often":     {fault: often(broken)},
		"index":     {fault: only("index", broken)},
		"replace":   {fault: only("replace", broken)},
		"conflict":  {fault: only("replace", shared.ErrConflict)},
		"store":     {fault: only("store", broken)},
		"missing":   {fault: only("missing", broken)},
		"open":      {fault: only("open", broken)},
		"lost":      {fault: only("open", fs.ErrNotExist)},
		"flipped":   {mangle: seldom(func(b []byte) []byte { b[len(b)/2] ^= 4; return b })},
		"truncated": {mangle: seldom(func(b []byte) []byte { return b[:len(b)/2] })},
		"long":      {mangle: seldom(func(b []byte) []byte { return append(b, b...) })},
		"html":      {mangle: seldom(func(b []byte) []byte { return []byte("<html>not here</html>") })},
		"nothing":   {mangle: seldom(func(b []byte) []byte { return nil })},
	} {
		t.Run(name, func(t *testing.T) {
			place := &sharedtest.Memory{}
			for round := range 2 {
				m := newMachine().shares(place, shared.ModeMax)
				m.t = t
				place.Fault, place.Mangle = fault.fault, fault.mangle
				if round == 0 && (fault.mangle != nil || name == "open" || name == "lost") { // what only readers meet
					place.Fault, place.Mangle = nil, nil
				}
				fixtures.WriteFiles(t, m.dir, "other", fmt.Sprint("other", round))
				m.run(sharedDockerfile)
				m.is("all", "one\nthe file of atwo\n")
				m.is("other", fmt.Sprint("other", round))
			}
		})
	}
}

// TestSharedHeals makes anew what is damaged, also for the next machine.
func TestSharedHeals(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	first := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, first.dir, "other", "other")
	first.run(sharedDockerfile)
	place.Damage()
	second := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, second.dir, "other", "other")
	if ran := second.run(sharedDockerfile); len(ran) == 0 {
		t.Error("nothing ran, although all blobs are damaged")
	}
	if all := strings.Join(second.events, "\n"); strings.Contains(all, "failed ") {
		t.Errorf("a failure was shown:\n%s", all)
	}
	second.is("all", "one\nthe file of atwo\n")
	third := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, third.dir, "other", "other")
	if ran := third.run(sharedDockerfile); len(ran) != 0 {
		t.Errorf("ran %q, although the machine before has made all anew", ran)
	}
	third.is("all", "one\nthe file of atwo\n")
}

// TestSharedTogether has several machines write one scope at once: nothing is lost.
func TestSharedTogether(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	const all = 8
	var wg sync.WaitGroup
	build := func(i int) []string {
		m := newMachine().shares(place, shared.ModeMax)
		fixtures.WriteFiles(t, m.dir, "other", fmt.Sprint("other", i))
		return m.run(sharedDockerfile)
	}
	for i := range all {
		wg.Go(func() { build(i) })
	}
	wg.Wait()
	for i := range all {
		if ran := build(i); len(ran) != 0 {
			t.Errorf("machine %d: ran %q", i, ran)
		}
	}
}

// TestSharedSecrets looks for values in what leaves the machine.
func TestSharedSecrets(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	m := newMachine().shares(place, shared.ModeMax)
	m.run(`FROM %s/base:1
ARG TOKEN=value-of-the-arg
ENV NAME=value-of-the-env
RUN --mount=type=secret,id=token echo "$TOKEN" | md5sum > /sum
`)
	text := place.Plain(t)
	for _, value := range []string{"value-of-the-arg", "value-of-the-env", "the secret of a", "md5sum"} {
		if bytes.Contains(text, []byte(value)) {
			t.Errorf("%q has left the machine", value)
		}
	}
	if !bytes.Contains(text, []byte(`"Records"`)) {
		t.Errorf("the index is not what was looked at: %.100s", text)
	}
}
