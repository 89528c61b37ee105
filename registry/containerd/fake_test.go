package containerd

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/fixtures"
	"layered.build/builder/registry/grpc"
)

// fake is what of containerd a load needs, in memory; answers can be chosen.
type fake struct {
	socket string

	mu      sync.Mutex
	calls   []string                            // guarded by mu, as are all below
	blobs   map[digest.Digest]map[string]string // labels
	begun   map[string][]byte
	images  map[string]digest.Digest
	leases  map[string]bool
	refuse  map[string]*grpc.Status // by method, for one call
	special func(w http.ResponseWriter, method string) bool
}

func startFake(t *testing.T) (*fake, Endpoint) {
	t.Helper()
	f := &fake{
		socket: filepath.Join(fixtures.ShortDir(t), "s"), blobs: map[digest.Digest]map[string]string{}, begun: map[string][]byte{},
		images: map[string]digest.Digest{}, leases: map[string]bool{}, refuse: map[string]*grpc.Status{},
	}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: f, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l) //nolint:errcheck // ends with Close
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return f, Endpoint{Address: f.socket}
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/containerd.services.")
	f.mu.Lock()
	f.calls = append(f.calls, method)
	special, refused := f.special, f.refuse[method]
	delete(f.refuse, method)
	f.mu.Unlock()
	if special != nil && special(w, method) {
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	err := refused
	switch {
	case refused != nil: // a trailer alone: the header
		w.Header().Set("Grpc-Status", strconv.Itoa(int(err.Code)))
		w.Header().Set("Grpc-Message", url.PathEscape(err.Text))
		return
	case r.Header.Get("Containerd-Namespace") == "":
		err = &grpc.Status{Code: grpc.FailedPrecondition, Text: "no namespace"}
	case method == "content.v1.Content/Write":
		err = f.write(w, r.Body)
	default:
		err = f.answer(w, method, fields(readFrame(r.Body)))
	}
	if err == nil {
		err = &grpc.Status{}
	}
	w.Header().Set("Grpc-Status", strconv.Itoa(int(err.Code)))
	w.Header().Set("Grpc-Message", url.PathEscape(err.Text))
}

func (f *fake) answer(w http.ResponseWriter, method string, msg map[int][]byte) *grpc.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch method {
	case "leases.v1.Leases/Create":
		f.leases[string(msg[1])] = true
	case "leases.v1.Leases/Delete":
		delete(f.leases, string(msg[1]))
	case "content.v1.Content/Info":
		if f.blobs[digest.Digest(msg[1])] == nil {
			return &grpc.Status{Code: grpc.NotFound, Text: "content: not found"}
		}
	case "content.v1.Content/Abort":
		delete(f.begun, string(msg[1]))
	case "images.v1.Images/Create", "images.v1.Images/Update":
		image := fields(msg[1])
		name := string(image[1])
		if _, ok := f.images[name]; ok && strings.HasSuffix(method, "Create") {
			return &grpc.Status{Code: grpc.AlreadyExists, Text: "image: already exists"}
		}
		f.images[name] = digest.Digest(fields(image[3])[2])
	}
	w.Write(grpc.Frame(nil)) //nolint:errcheck // the test fails otherwise
	return nil
}

// write serves Content/Write.
func (f *fake) write(w http.ResponseWriter, r io.Reader) *grpc.Status {
	ref := ""
	for {
		raw := readFrame(r)
		if raw == nil {
			return &grpc.Status{Code: grpc.Unknown, Text: "canceled"}
		}
		msg, nums := fields(raw), must(numbers(raw))
		f.mu.Lock()
		if ref == "" {
			ref = string(msg[2])
		}
		if nums[1] == actionWrite {
			if int(nums[5]) != len(f.begun[ref]) {
				f.mu.Unlock()
				return &grpc.Status{Code: grpc.Unknown, Text: "wrong offset"}
			}
			f.begun[ref] = append(f.begun[ref], msg[6]...)
		}
		data := f.begun[ref]
		sum := digest.FromBytes(data)
		bad := nums[1] == actionCommit && sum != digest.Digest(msg[4])
		if nums[1] == actionCommit && !bad {
			f.blobs[sum] = table(raw, 7)
			delete(f.begun, ref)
		}
		f.mu.Unlock()
		if bad {
			return &grpc.Status{Code: grpc.FailedPrecondition, Text: "unexpected commit digest " + sum.String()}
		}
		w.Write(grpc.Frame(grpc.Message(nil).Number(1, nums[1]).Number(4, int64(len(data))))) //nolint:errcheck // as above
		w.(http.Flusher).Flush()
		if nums[1] == actionCommit {
			return nil
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// readFrame reads a message, nil at the end.
func readFrame(r io.Reader) []byte {
	msg, err := grpc.ReadFrame(r)
	if err != nil {
		return nil
	}
	return msg
}

// fields returns the fields of bytes, the last of each number.
func fields(raw []byte) map[int][]byte {
	out := map[int][]byte{}
	each(raw, func(field int, v []byte) { out[field] = v })
	return out
}

// table reads a map of strings.
func table(raw []byte, want int) map[string]string {
	out := map[string]string{}
	each(raw, func(field int, v []byte) {
		if field == want {
			entry := fields(v)
			out[string(entry[1])] = string(entry[2])
		}
	})
	return out
}

func each(raw []byte, f func(int, []byte)) {
	err := grpc.Read(raw, func(field grpc.Field) error {
		if field.Bytes != nil {
			f(field.Number, field.Bytes)
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// took returns how often a method was called.
func (f *fake) took(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == method {
			n++
		}
	}
	return n
}

// opening counts how a blob is read.
type opening struct {
	data []byte
	from []int64
}

func (o *opening) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	o.from = append(o.from, offset)
	return io.NopCloser(strings.NewReader(string(o.data[offset:]))), nil
}
