package reapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures/remotecache"
	"layered.build/builder/registry/grpc"
)

// counted is a content that counts what is read of it.
func counted(data []byte, n *atomic.Int64) func(context.Context, int64) (io.ReadCloser, error) {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(&counter{bytes.NewReader(data[offset:]), n}), nil
	}
}

type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// An upload that breaks goes on where it broke: it sends little twice.
func TestUploadGoesOn(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB
	for _, noResume := range []bool{false, true} {
		s := start(t, &remotecache.Server{Cut: 5 << 20, NoResume: noResume})
		var n atomic.Int64
		b := sharedtest.NewBlob(data)
		if err := open(t, quick, s, "").Store(t.Context(), b, counted(data, &n)); err != nil {
			t.Fatal(err)
		}
		calls := s.Calls("Write")
		if !noResume && (calls != 7 || n.Load() > b.Size+int64(calls)*8<<20) || noResume && calls != 3 {
			t.Errorf("not to be resumed %t: %d calls, %d bytes read", noResume, calls, n.Load())
		}
	}
}

// What somebody else has stored meanwhile is not sent to its end.
func TestAlreadyThere(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<20) // 64 MiB
	s := start(t, &remotecache.Server{})
	p := open(t, quick, s, "")
	b := sharedtest.NewBlob(data)
	if err := p.Store(t.Context(), b, sharedtest.Content(data)); err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	if err := p.Store(t.Context(), b, counted(data, &n)); err != nil {
		t.Fatal(err)
	}
	if n.Load() == b.Size || s.Calls("Write") != 2 {
		t.Errorf("%d of %d bytes were read, %d calls", n.Load(), b.Size, s.Calls("Write"))
	}
}

// A content that is not what was promised, or that cannot be read, is not stored, and not
// tried again.
func TestWrongContent(t *testing.T) {
	s := start(t, &remotecache.Server{})
	p := open(t, quick, s, "")
	data := make([]byte, 3<<20)
	b := sharedtest.NewBlob(data)
	broken := errors.New("broken")
	for name, c := range map[string]func(context.Context, int64) (io.ReadCloser, error){
		"changed": sharedtest.Content(append([]byte("x"), data[1:]...)),
		"shorter": sharedtest.Content(data[1:]),
		"broken": func(context.Context, int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(data[:2<<20]), &failing{broken})), nil
		},
	} {
		before := s.Calls("Write")
		if err := p.Store(t.Context(), b, c); err == nil || name == "broken" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.Calls("Write") - before; n != 1 || len(s.Blobs()) != 0 {
			t.Errorf("%s: %d calls, %v is there", name, n, s.Blobs())
		}
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// A server that never takes a byte more ends the upload.
func TestNoProgress(t *testing.T) {
	for name, answer := range map[string]grpc.Message{
		"less": grpc.Message(nil).Number(1, 5), "nothing": nil, "more": grpc.Message(nil).Number(1, 1<<40), "negative": grpc.Message(nil).Number(1, -1),
	} {
		calls := atomic.Int64{}
		s := answering(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/" + byteStream + "Write":
				calls.Add(1)
				w.Write(grpc.Frame(answer)) //nolint:errcheck // the test fails otherwise
			case "/" + byteStream + "QueryWriteStatus":
				w.Write(grpc.Frame(answer)) //nolint:errcheck // the test fails otherwise
			default:
				cache := grpc.Message(nil).Number(1, 1).Sub(2, grpc.Message(nil).Flag(1, true))
				w.Write(grpc.Frame(grpc.Message(nil).Sub(1, cache))) //nolint:errcheck // the test fails otherwise
			}
		})
		data := make([]byte, 3<<20)
		if err := open(t, quick, s, "").Store(t.Context(), sharedtest.NewBlob(data), sharedtest.Content(data)); err == nil || calls.Load() > attempts {
			t.Errorf("%s: %v after %d calls", name, err, calls.Load())
		}
	}
}
