package reapi

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures/remotecache"
	"layered.build/builder/registry/grpc"
)

func store(t *testing.T, p *Place, text string) shared.Blob {
	t.Helper()
	b := sharedtest.NewBlob([]byte(text))
	if err := p.Store(t.Context(), b, sharedtest.Content([]byte(text))); err != nil {
		t.Fatal(err)
	}
	return b
}

// An index that somebody else has written meanwhile is not overwritten.
func TestConflict(t *testing.T) {
	s := start(t, &remotecache.Server{})
	p := open(t, quick, s, "")
	if err := p.Replace(t.Context(), "s", []byte("one"), nil, ""); err != nil {
		t.Fatal(err)
	}
	_, first, err := p.Index(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, quick, s, "").Replace(t.Context(), "s", []byte("two"), nil, first); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"", first} {
		if err := p.Replace(t.Context(), "s", []byte("three"), nil, version); !errors.Is(err, shared.ErrConflict) {
			t.Errorf("over another one than %q: %v", version, err)
		}
	}
	if data, _, err := p.Index(t.Context(), "s"); err != nil || string(data) != "two" {
		t.Errorf("got %q, %v", data, err)
	}
}

// Who is overwritten by somebody who has looked before him knows that it may be so.
func TestOverwritten(t *testing.T) {
	first, second := make(chan struct{}), make(chan struct{}) // the second is about to write; the first has written
	var mu sync.Mutex
	n := map[string]int{} // results that they have written, guarded by mu
	s := start(t, &remotecache.Server{Fault: func(method string, r *http.Request) *grpc.Status {
		if method != "UpdateActionResult" {
			return nil
		}
		who := r.Header.Get("X-Who")
		mu.Lock()
		n[who]++
		index := n[who] == 2 // it has announced it
		mu.Unlock()
		switch {
		case !index:
		case who == "first":
			<-first
		default:
			close(first)
			<-second
		}
		return nil
	}})
	write := func(who string) error {
		p := open(t, quick, s, ";x-who="+who)
		return p.Replace(t.Context(), "", []byte(who), nil, "")
	}
	done := make(chan error)
	announced := func(who string) bool {
		mu.Lock()
		defer mu.Unlock()
		return n[who] == 2
	}
	go func() {
		for !announced("first") {
			runtime.Gosched()
		}
		done <- write("second")
	}()
	if err := write("first"); !errors.Is(err, shared.ErrConflict) {
		t.Errorf("the first: %v", err)
	}
	close(second)
	if err := <-done; err != nil {
		t.Errorf("the second: %v", err)
	}
	if data, _, err := open(t, quick, s, "").Index(t.Context(), ""); err != nil || string(data) != "second" {
		t.Errorf("got %q, %v", data, err)
	}
}

// What a server has forgotten is not there, and can be written again.
func TestEvicted(t *testing.T) {
	for name, c := range map[string]struct {
		incomplete, index bool
		gone              bool
	}{
		"index":                       {index: true, gone: true},
		"index, not looked at":        {index: true, incomplete: true, gone: true},
		"blob":                        {gone: true},
		"blob, which is not noticed ": {incomplete: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, &remotecache.Server{Incomplete: c.incomplete})
			p := open(t, quick, s, "")
			kept, lost := store(t, p, "kept"), store(t, p, "lost")
			if err := p.Replace(t.Context(), "", []byte("index"), []shared.Blob{kept, lost}, ""); err != nil {
				t.Fatal(err)
			}
			s.Evict(lost.Digest)
			if c.index {
				s.Evict(digest.FromString("index"))
			}
			if _, err := p.Open(t.Context(), lost, 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("blob: %v", err)
			}
			data, version, err := p.Index(t.Context(), "")
			if c.gone != errors.Is(err, fs.ErrNotExist) || !c.gone && string(data) != "index" {
				t.Errorf("index: %q, %v", data, err)
			}
			// The new index names what is gone, as nobody has noticed.
			if err := p.Replace(t.Context(), "", []byte("again"), []shared.Blob{kept, lost}, version); err != nil {
				t.Fatal(err)
			}
			if data, _, err := p.Index(t.Context(), ""); err != nil || string(data) != "again" {
				t.Errorf("after that: %q, %v", data, err)
			}
		})
	}
}

// An index that is damaged has a version, so that it can be replaced.
func TestDamagedIndex(t *testing.T) {
	for name, mangle := range map[string]func([]byte) []byte{
		"flipped":   func(b []byte) []byte { b[1] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"longer":    func(b []byte) []byte { return append(b, "more"...) },
		"nothing":   func([]byte) []byte { return nil },
	} {
		for _, data := range [][]byte{[]byte("index"), bytes.Repeat([]byte("index"), 1<<19)} {
			t.Run(fmt.Sprint(name, len(data)), func(t *testing.T) {
				broken := digest.FromBytes(data)
				s := start(t, &remotecache.Server{Inline: len(data) < 100, Mangle: func(d digest.Digest, b []byte) []byte {
					if d == broken {
						return mangle(b)
					}
					return b
				}})
				p := open(t, quick, s, "")
				if err := p.Replace(t.Context(), "", data, nil, ""); err != nil {
					t.Fatal(err)
				}
				got, version, err := p.Index(t.Context(), "")
				if err != nil || len(got) != 0 || version != broken.String() {
					t.Errorf("got %d bytes, %q, %v", len(got), version, err)
				}
				if err := p.Replace(t.Context(), "", []byte("new"), nil, version); err != nil {
					t.Error(err)
				}
				if got, _, err := p.Index(t.Context(), ""); err != nil || string(got) != "new" {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
	}
}

// Who may only read is told so before anything is sent, if the server says it.
func TestReadOnly(t *testing.T) {
	for _, told := range []bool{true, false} {
		s := start(t, &remotecache.Server{ReadOnly: true, Told: told})
		p := open(t, quick, s, "")
		err := p.Replace(t.Context(), "", []byte("index"), nil, "")
		if !errors.Is(err, errReadOnly) || (s.Calls("BatchUpdateBlobs") == 0) != told || s.Calls("UpdateActionResult") > 1 {
			t.Errorf("told %t: %v after %d calls", told, err, s.Calls("UpdateActionResult"))
		}
		b := sharedtest.NewBlob([]byte("b"))
		if err := p.Store(t.Context(), b, sharedtest.Content([]byte("b"))); errors.Is(err, errReadOnly) != told {
			t.Errorf("told %t: %v", told, err)
		}
		if _, _, err := p.Index(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("told %t, read: %v", told, err)
		}
	}
}

// A result that cannot name all blobs names the newest.
func TestManyOutputs(t *testing.T) {
	s := start(t, &remotecache.Server{Incomplete: true})
	p := open(t, quick, s, "")
	blobs := make([]shared.Blob, maxBlobs+1)
	for i := range blobs {
		blobs[i] = sharedtest.NewBlob(nil) // which is everywhere
		blobs[i].Digest = digest.FromBytes(nil)
	}
	blobs[0] = sharedtest.NewBlob([]byte("never stored"))
	if err := p.Replace(t.Context(), "", []byte("index"), blobs, ""); err != nil {
		t.Error(err)
	}
	// As large as it can become, it is a message that servers take.
	for i := range blobs {
		blobs[i] = sharedtest.NewBlob(fmt.Append(nil, i))
		blobs[i].Size = 1 << 40
	}
	result := grpc.Message(nil)
	for _, b := range blobs {
		result = outputFile(result, blobPath+b.Digest.Encoded(), b)
	}
	if len(result) > maxBatch {
		t.Errorf("a result of %d bytes", len(result))
	}
}

// Several write at once: of those that overwrite each other unseen something is lost,
// which is found out by looking again; no index is ever damaged.
func TestTogether(t *testing.T) {
	s := start(t, &remotecache.Server{})
	const writers = 8
	write := func(p *Place, mine byte) error {
		for {
			old, version, err := p.Index(t.Context(), "")
			switch {
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				return err
			case bytes.Contains(old, []byte{mine}):
				return nil
			}
			err = p.Replace(t.Context(), "", append(slices.Clone(old), mine), nil, version)
			if err != nil && !errors.Is(err, shared.ErrConflict) {
				return err
			}
		}
	}
	var wg sync.WaitGroup
	for i := range writers {
		p := open(t, quick, s, "")
		wg.Go(func() {
			if err := write(p, byte('a'+i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p := open(t, quick, s, "")
	for i := range writers { // who was overwritten exports again
		if err := write(p, byte('a'+i)); err != nil {
			t.Error(err)
		}
	}
	got, _, err := p.Index(t.Context(), "")
	slices.Sort(got)
	if string(got) != "abcdefgh" {
		t.Errorf("got %q, %v", got, err)
	}
}

// Results are not believed.
func TestOddResults(t *testing.T) {
	file := func(path string, sum grpc.Message) grpc.Message {
		return grpc.Message(nil).Sub(2, grpc.Message(nil).Text(1, path).Sub(2, sum))
	}
	hash := strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		answer grpc.Message
		want   string
	}{
		"nothing":        {nil, "names no index"},
		"another file":   {file("other", grpc.Message(nil).Text(1, hash)), "names no index"},
		"no digest":      {file("index", nil), "a digest that is none"},
		"path in digest": {file("index", grpc.Message(nil).Text(1, "../../"+hash[6:])), "a digest that is none"},
		"negative":       {file("index", grpc.Message(nil).Text(1, hash).Number(2, -1)), "a digest that is none"},
		"huge":           {file("index", grpc.Message(nil).Text(1, hash).Number(2, 1<<50)), "more than"},
		"no message":     {grpc.Message("\xff\xff\xff"), "it does not answer as a gRPC service does"},
	} {
		t.Run(name, func(t *testing.T) {
			s := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(grpc.Frame(c.answer)) }) //nolint:errcheck // the test fails otherwise
			if _, _, err := open(t, quick, s, "").Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
