package remote

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/routing"
	"layered.build/builder/registry/transport"
)

// server is a registry that answers as a test wants and records what it is asked.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // guarded by mu
}

func serve(t *testing.T, answer http.HandlerFunc) (*server, *Repository) {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		s.mu.Lock()
		s.asked = append(s.asked, r.Method+" "+strings.TrimPrefix(r.URL.RequestURI(), "/v2/app"))
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	retry := transport.Retry{Attempts: 3, Wait: time.Millisecond, MaxWait: time.Millisecond}
	pool := transport.NewPool(transport.Options{Credentials: credentials.New(t.TempDir(), nil), UserAgent: "test", Retry: retry})
	ep := routing.Endpoint{Host: strings.TrimPrefix(s.URL, "http://"), Repo: "app", Schemes: []string{"http"}}
	session, err := pool.Open(ep, "push,pull")
	if err != nil {
		t.Fatal(err)
	}
	return s, New(pool, session)
}

func (s *server) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, ", ")
}

const content = "0123456789"

var blob = ocispec.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}

// A blob is read from where it is wanted, whether or not the server knows ranges.
func TestGetBlob(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"with ranges": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		},
		"without": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, content) },
		"encoded, with ranges": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(encoded(t, "gzip", content)))
		},
		"gzip":    func(w http.ResponseWriter, _ *http.Request) { writeEncoded(t, w, "gzip", content) },
		"zstd":    func(w http.ResponseWriter, _ *http.Request) { writeEncoded(t, w, "zstd", content) },
		"deflate": func(w http.ResponseWriter, _ *http.Request) { writeEncoded(t, w, "deflate", content) },
		"only said to be encoded": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := serve(t, answer)
			for _, offset := range []int64{0, 4, 9} {
				body, err := GetBlob(t.Context(), r.s, blob, offset)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(body)
				if body.Close(); err != nil || string(got) != content[offset:] {
					t.Errorf("from %d: %q, %v", offset, got, err)
				}
			}
		})
	}
	_, r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-9/10")
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, content)
	})
	if body, err := GetBlob(t.Context(), r.s, blob, 4); err == nil || !strings.Contains(err.Error(), "bytes 0-9/10") {
		t.Errorf("another range than was asked for: %v, %v", body, err)
	}
}

// encoded is a text in an encoding.
func encoded(t *testing.T, encoding, text string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	var err error
	switch encoding {
	case "zstd":
		w, err = zstd.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	}
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Error(err)
	}
	return b.String()
}

func writeEncoded(t *testing.T, w http.ResponseWriter, encoding, text string) {
	w.Header().Set("Content-Encoding", encoding)
	io.WriteString(w, encoded(t, encoding, text))
}

func TestGetManifest(t *testing.T) {
	doc := `{"schemaVersion":2}`
	for name, tc := range map[string]struct {
		digest string // that the server tells
		header string // Content-Encoding
		plain  bool   // though there is one
		want   ocispec.Descriptor
		err    error
	}{
		"by tag":                {},
		"verified":              {want: ocispec.Descriptor{Digest: digest.FromString(doc)}},
		"another":               {want: ocispec.Descriptor{Digest: digest.FromString("x")}, err: errdef.ErrBadDigest},
		"not what it is told":   {digest: digest.FromString("x").String(), err: errdef.ErrBadDigest},
		"a digest that is none": {digest: "sha256:x"},
		"encoded":               {header: "gzip", want: ocispec.Descriptor{Digest: digest.FromString(doc)}},
		"encoded, by tag":       {header: "zstd", digest: digest.FromString(doc).String()},
		"only said to be":       {header: "gzip", plain: true, want: ocispec.Descriptor{Digest: digest.FromString(doc)}},
	} {
		_, r := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest+"; charset=utf-8")
			if tc.digest != "" {
				w.Header().Set("Docker-Content-Digest", tc.digest)
			}
			if tc.header == "" || tc.plain {
				w.Header().Set("Content-Encoding", tc.header)
				io.WriteString(w, doc)
				return
			}
			writeEncoded(t, w, tc.header, doc)
		})
		raw, mediaType, err := GetManifest(t.Context(), r.s, "1", tc.want)
		if !errors.Is(err, tc.err) || string(raw) != doc || mediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("%s: %s %q, %v; want %v", name, mediaType, raw, err, tc.err)
		}
	}
	_, r := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxManifest+1)) })
	if _, _, err := GetManifest(t.Context(), r.s, "1", ocispec.Descriptor{}); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("one that is too large: %v", err)
	}
}

// An upload that a registry offers instead of a mount is not left open.
func TestMount(t *testing.T) {
	for _, mounts := range []bool{true, false} {
		s, r := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPost && mounts:
				w.WriteHeader(http.StatusCreated)
			case r.Method == http.MethodPost:
				w.Header().Set("Location", "/v2/app/blobs/uploads/7")
				w.WriteHeader(http.StatusAccepted)
			}
		})
		got, err := r.Mount(t.Context(), blob.Digest, "base")
		want := fmt.Sprintf("POST /blobs/uploads/?from=base&mount=sha256%%3A%s", blob.Digest.Encoded())
		if !mounts {
			want += ", DELETE /blobs/uploads/7"
		}
		if err != nil || got != mounts || s.requests() != want {
			t.Errorf("mounted %t, %v, asked %s; want %t, %s", got, err, s.requests(), mounts, want)
		}
	}
}

// A blob that is still being made is sent as it comes, or given up.
func TestStream(t *testing.T) {
	for _, finished := range []bool{true, false} {
		var got []byte
		s, r := serve(t, func(w http.ResponseWriter, r *http.Request) {
			data, err := io.ReadAll(r.Body)
			w.Header().Set("Location", "/v2/app/blobs/uploads/7")
			switch {
			case err != nil:
			case r.Method == http.MethodPut:
				w.WriteHeader(http.StatusCreated)
			default:
				got = append(got, data...)
				w.WriteHeader(http.StatusAccepted)
			}
		})
		pr, pw := io.Pipe()
		closed := make(chan error, 1)
		open := func() (*Repository, error) { return r, nil }
		st := StartStream(t.Context(), open, pr, func(err error) { pw.CloseWithError(err) }, func(err error) { closed <- err })
		if _, err := io.WriteString(pw, content); err != nil {
			t.Fatal(err)
		}
		if !finished {
			st.GiveUp(t.Context(), errors.New("no blob"))
			if err := <-closed; err == nil || !strings.HasSuffix(s.requests(), "DELETE /blobs/uploads/7") {
				t.Errorf("given up: %v, asked %s", err, s.requests())
			}
			continue
		}
		err := st.Finish(t.Context(), blob, func(context.Context, int64) (io.ReadCloser, error) {
			return nil, errors.New("sent again")
		})
		want := "POST /blobs/uploads/, PATCH /blobs/uploads/7, PUT /blobs/uploads/7?digest=sha256%3A" + blob.Digest.Encoded()
		if err != nil || <-closed != nil || string(got) != content || s.requests() != want {
			t.Errorf("%v, got %q, asked %s; want %s", err, got, s.requests(), want)
		}
	}
	st := StartStream(t.Context(), func() (*Repository, error) { return nil, io.ErrUnexpectedEOF }, nil, func(error) {}, func(error) {})
	if err := st.Finish(t.Context(), blob, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("nowhere to send it: %v", err)
	}
}

// A registry that takes no parts gets blobs at once, after it has said so one time; one
// that sends elsewhere gets them there.
func TestUploadWays(t *testing.T) {
	open := func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content[offset:])), nil
	}
	put := "PUT /blobs/uploads/7?digest=sha256%3A" + blob.Digest.Encoded()
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request) bool
		want   string // for two blobs
	}{
		"parts": {func(http.ResponseWriter, *http.Request) bool { return false },
			"POST /blobs/uploads/, PATCH /blobs/uploads/7, " + put + ", POST /blobs/uploads/, PATCH /blobs/uploads/7, " + put},
		"no parts": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodPatch
		}, "POST /blobs/uploads/, PATCH /blobs/uploads/7, " + put + ", POST /blobs/uploads/, " + put},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPatch || r.URL.Query().Has("there") {
				return false
			}
			w.Header().Set("Location", "/v2/app/blobs/uploads/7?there")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}, strings.TrimSuffix(strings.Repeat("POST /blobs/uploads/, PATCH /blobs/uploads/7, PATCH /blobs/uploads/7?there, "+put+", ", 2), ", ")},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			s, r := serve(t, func(w http.ResponseWriter, r *http.Request) {
				data, err := io.ReadAll(r.Body)
				if err != nil || tc.answer(w, r) {
					return
				}
				got += string(data)
				w.Header().Set("Location", "/v2/app/blobs/uploads/7")
				if r.Method == http.MethodPut {
					w.WriteHeader(http.StatusCreated)
					return
				}
				w.WriteHeader(http.StatusAccepted)
			})
			for range 2 {
				if err := r.Upload(t.Context(), blob, open); err != nil {
					t.Fatal(err)
				}
			}
			if asked := s.requests(); asked != tc.want || got != content+content {
				t.Errorf("asked %s; want %s; got %q", asked, tc.want, got)
			}
		})
	}
}

func TestPutManifest(t *testing.T) {
	doc := []byte(`{}`)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(doc)}
	for name, tc := range map[string]struct {
		stored digest.Digest
		busy   int // answers before
		err    error
		asked  int
	}{
		"stored":         {stored: desc.Digest, asked: 1},
		"busy for once":  {busy: 1, asked: 2},
		"always busy":    {busy: 9, asked: 3, err: errdef.ErrUnreachable},
		"something else": {stored: digest.FromString("x"), asked: 1, err: errdef.ErrBadDigest},
		"no digest":      {stored: "sha256:X", asked: 1},
		"another kind":   {stored: digest.SHA512.FromBytes(doc), asked: 1},
	} {
		busy := tc.busy
		s, r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if busy--; busy >= 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if tc.stored != "" {
				w.Header().Set("Docker-Content-Digest", tc.stored.String())
			}
			w.WriteHeader(http.StatusCreated)
		})
		err := r.PutManifest(t.Context(), "1", desc, doc)
		if n := strings.Count(s.requests(), "PUT /manifests/1"); !errors.Is(err, tc.err) || n != tc.asked {
			t.Errorf("%s: %v, asked %d times; want %v, %d", name, err, n, tc.err, tc.asked)
		}
	}
}
