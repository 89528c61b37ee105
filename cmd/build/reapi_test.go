package build_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/reapi"
	"layered.build/builder/cache/shared"
	"layered.build/builder/fixtures"
	"layered.build/builder/fixtures/remotecache"
	"layered.build/builder/registry/grpc"
)

// remote opens the place of a server, with a client of its own for each call.
func remote(t *testing.T, s *remotecache.Server) *reapi.Place {
	t.Helper()
	a, err := shared.ParseAttrs("type=reapi,endpoint=grpc://" + s.Host)
	if err != nil {
		t.Fatal(err)
	}
	p, err := reapi.Settings{Patience: 5 * time.Second, Pause: time.Millisecond}.New(a, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestRemoteExecutionCache builds on a machine what another has built, over a cache of the
// Remote Execution API: nothing runs, and no layer is read that no step needs.
func TestRemoteExecutionCache(t *testing.T) {
	newMachine := machines(t)
	s := &remotecache.Server{}
	s.Start(t)
	run := func(file string) (*machine, []string) {
		m := newMachine().shares(remote(t, s), shared.ModeMax)
		fixtures.WriteFiles(t, m.dir, "other", "other", "file", file)
		return m, m.run(sharedDockerfile)
	}
	if _, ran := run("file "); len(ran) != 6 {
		t.Fatalf("ran %q", ran)
	}
	m, ran := run("file ")
	if len(ran) != 0 {
		t.Errorf("ran %q", ran)
	}
	m.is("all", "one\nfile two\n")
	if m, ran = run("edited "); len(ran) != 4 {
		t.Errorf("after an edit ran %q", ran)
	}
	m.is("all", "one\nedited two\n")

	// What is exported again is not sent again.
	before := s.Calls("Write") + s.Calls("BatchUpdateBlobs") + s.Calls("UpdateActionResult")
	run("edited ")
	if n := s.Calls("Write") + s.Calls("BatchUpdateBlobs") + s.Calls("UpdateActionResult") - before; n != 0 {
		t.Errorf("%d calls that write, although nothing was new", n)
	}
}

// TestRemoteExecutionLazy finds all steps in the cache of another machine, without an
// output that needs their layers.
func TestRemoteExecutionLazy(t *testing.T) {
	newMachine := machines(t)
	s := &remotecache.Server{Inline: true}
	s.Start(t)
	newMachine().shares(remote(t, s), shared.ModeMax).run("FROM %s/base:1\nCOPY file /file\nRUN echo one > /one\n")
	m := newMachine().shares(remote(t, s), shared.ModeMax)
	m.nothingOut = true
	before := s.Calls("Read") + s.Calls("BatchReadBlobs")
	if ran := m.run("FROM %s/base:1\nCOPY file /file\nRUN echo one > /one\n"); len(ran) != 0 {
		t.Errorf("ran %q", ran)
	}
	if n := s.Calls("Read") + s.Calls("BatchReadBlobs") - before; n != 0 {
		t.Errorf("%d blobs were read", n)
	}
}

// TestRemoteExecutionFaults builds with servers that fail in every way: the result is
// right, and it is no error.
func TestRemoteExecutionFaults(t *testing.T) {
	newMachine := machines(t)
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(3, 4)) // guarded by mu
	oneIn := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n) == 0
	}
	often := func(n int, code grpc.Code) func(string, *http.Request) *grpc.Status {
		return func(string, *http.Request) *grpc.Status {
			if oneIn(n) {
				return &grpc.Status{Code: code}
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		fault  func(method string, r *http.Request) *grpc.Status
		mangle func(b []byte) []byte
		evict  bool
		cut    int
	}{
		"unavailable": {fault: often(2, grpc.Unavailable)},
		"exhausted":   {fault: often(2, grpc.ResourceExhausted)},
		"denied":      {fault: often(3, grpc.PermissionDenied)},
		"not found":   {fault: often(3, grpc.NotFound)},
		"data loss":   {fault: often(3, grpc.DataLoss)},
		"dies": {fault: func(string, *http.Request) *grpc.Status {
			if oneIn(3) {
				panic(http.ErrAbortHandler)
			}
			return nil
		}},
		"flipped":   {mangle: func(b []byte) []byte { b[len(b)/2] ^= 4; return b }},
		"truncated": {mangle: func(b []byte) []byte { return b[:len(b)/2] }},
		"longer":    {mangle: func(b []byte) []byte { return append(b, b...) }},
		"lost":      {evict: true},
		"cut":       {cut: 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			s := &remotecache.Server{Incomplete: name == "lost", Cut: c.cut, Fault: c.fault}
			if c.mangle != nil {
				s.Mangle = func(_ digest.Digest, b []byte) []byte {
					if len(b) > 0 && oneIn(2) {
						return c.mangle(b)
					}
					return b
				}
			}
			s.Start(t)
			for round := range 3 {
				m := newMachine().shares(remote(t, s), shared.ModeMax)
				m.t = t
				fixtures.WriteFiles(t, m.dir, "other", fmt.Sprint("other", round/2))
				m.run(sharedDockerfile)
				m.is("all", "one\nthe file of atwo\n")
				m.is("other", fmt.Sprint("other", round/2))
				for _, d := range s.Blobs() {
					if c.evict && oneIn(2) {
						s.Evict(d)
					}
				}
			}
		})
	}
}

// TestRemoteExecutionTogether has several machines write one scope at once. The API has no
// conditions, so that one may overwrite another's; what is lost is a miss and is exported
// again, so that everything is there in the end.
func TestRemoteExecutionTogether(t *testing.T) {
	newMachine := machines(t)
	s := &remotecache.Server{}
	s.Start(t)
	const writers = 8
	build := func(i int) []string {
		m := newMachine().shares(remote(t, s), shared.ModeMax)
		fixtures.WriteFiles(t, m.dir, "other", fmt.Sprint("other", i))
		ran := m.run(sharedDockerfile)
		m.is("all", "one\nthe file of atwo\n")
		m.is("other", fmt.Sprint("other", i))
		return ran
	}
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { build(i) })
	}
	wg.Wait()
	lost := 0
	for i := range writers {
		if len(build(i)) > 0 {
			lost++
		}
	}
	t.Logf("%d of %d were overwritten", lost, writers)
	for i := range writers {
		if ran := build(i); len(ran) != 0 {
			t.Errorf("machine %d: ran %q", i, ran)
		}
	}
}

// TestRemoteExecutionSecrets looks for values in what leaves the machine.
func TestRemoteExecutionSecrets(t *testing.T) {
	newMachine := machines(t)
	s := &remotecache.Server{}
	s.Start(t)
	newMachine().shares(remote(t, s), shared.ModeMax).run(`FROM %s/base:1
ARG TOKEN=value-of-the-arg
RUN --mount=type=secret,id=token echo "$TOKEN" | md5sum > /sum
`)
	p := remote(t, s)
	data, _, err := p.Index(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := r.DecodeAll(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"value-of-the-arg", "the secret of a", "md5sum"} {
		if bytes.Contains(text, []byte(value)) {
			t.Errorf("%q has left the machine", value)
		}
	}
	if !bytes.Contains(text, []byte(`"Records"`)) {
		t.Errorf("the index is not what was looked at: %.100s", text)
	}
}
