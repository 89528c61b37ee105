package snapshot_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// sparseLayer commits a layer with a file of some size, of which a few bytes are data.
func sparseLayer(t *testing.T, s *snapshot.Store, below snapshot.Stack, size int64, text string, named ...bool) snapshot.Layer {
	t.Helper()
	a, err := s.Prepare(t.Context(), below)
	if err != nil {
		t.Fatal(err)
	}
	at := a.Upper()
	if at == "" {
		at = a.Mount().Lower[0]
	}
	f, err := os.Create(filepath.Join(at, "lastlog"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(text), 100)
	if err != nil || f.Truncate(size) != nil || f.Close() != nil || os.Chtimes(f.Name(), time.Unix(1e9, 0), time.Unix(1e9, 0)) != nil {
		t.Fatal("the file cannot be made: ", err)
	}
	l, err := a.Commit(t.Context(), snapshot.CommitOptions{Named: len(named) > 0})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// eachDriver runs a test in a store of each driver.
func eachDriver(t *testing.T, test func(t *testing.T, s *snapshot.Store)) {
	needRoot(t)
	for _, d := range []snapshot.Driver{snapshot.DriverOverlay, snapshot.DriverCopy} {
		t.Run(string(d), func(t *testing.T) {
			s, err := snapshot.Open(t.TempDir(), snapshot.Options{Driver: d})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			test(t, s)
		})
	}
}

// A layer that is mostly zeros costs no more than its data, and is known by its content.
func TestUnnamed(t *testing.T) { eachDriver(t, testUnnamed) }

func testUnnamed(t *testing.T, s *snapshot.Store) {
	const size = 64 << 30
	l := sparseLayer(t, s, nil, size, "data")
	if !l.Unnamed() || l.Size < size {
		t.Fatalf("the layer is %+v", l)
	}
	if again := sparseLayer(t, s, nil, size, "data"); again.Content != l.Content {
		t.Errorf("the same again has content %s, not %s", again.Content, l.Content)
	}
	if other := sparseLayer(t, s, nil, size, "dato"); other.Content == l.Content || other.ID == l.ID {
		t.Error("another file is in the same layer")
	}
	if other := sparseLayer(t, s, nil, size+1, "data"); other.Content == l.Content || other.ID == l.ID {
		t.Error("a longer file is in the same layer")
	}
}

// Name finds out what the tar's digest is, and moves what lies above.
func TestName(t *testing.T) { eachDriver(t, testName) }

func testName(t *testing.T, s *snapshot.Store) {
	const size = 260 << 20
	l := sparseLayer(t, s, nil, size, "data")
	above, err := s.WriteLayer(t.Context(), snapshot.Stack{l}, []snapshot.Change{{Entry: snapshot.Entry{Path: "f", Type: snapshot.TypeFile}}}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	named, err := s.Name(t.Context(), nil, snapshot.Stack{l, above})
	if err != nil {
		t.Fatal(err)
	}
	if named[0].Unnamed() || named[0].Content != l.Content || named[1].DiffID != above.DiffID || named[1].ID == above.ID {
		t.Fatalf("%+v became %+v", snapshot.Stack{l, above}, named)
	}
	for _, x := range []snapshot.Layer{l, named[0]} {
		r, err := s.Tar(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		h := digest.SHA256.Digester()
		n, err := io.Copy(h.Hash(), r)
		r.Close()
		if err != nil || n != x.Size || h.Digest() != digest.Digest(named[0].DiffID) {
			t.Errorf("the tar has %d bytes and digest %s, %v", n, h.Digest(), err)
		}
		if err := s.Check(t.Context(), x.ID, false); err != nil {
			t.Error(err)
		}
	}
	again, err := s.Name(t.Context(), nil, snapshot.Stack{l, above})
	if err != nil || again[0] != named[0] || again[1] != named[1] {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	if anew := sparseLayer(t, s, nil, size, "data", true); anew.DiffID != named[0].DiffID || anew.ID != named[0].ID {
		t.Errorf("made for an image it is %+v, not %+v", anew, named[0])
	}
	if same, err := s.Name(t.Context(), nil, named); err != nil || same[1] != named[1] {
		t.Errorf("what has names: %+v, %v", same, err)
	}
}
