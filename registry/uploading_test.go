package registry

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// uploads are those of a registry that keeps what it got when a connection breaks,
// and says how much that is.
type uploads struct {
	mu    sync.Mutex
	parts map[string][]byte
	got   int64 // bytes of all bodies
	// limit breaks a body after so many bytes, at most breaks times; refuse is a size
	// that is too large; forget loses what it had when asked.
	limit, refuse int64
	breaks        int
	forget        bool
	asked         int
	begun         int
}

// serve answers requests about uploads; complete blobs go to the registry itself.
func (u *uploads) serve(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
	repo, id, ok := strings.Cut(r.URL.Path, "/blobs/uploads/")
	if !ok || r.FormValue("mount") != "" {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch r.Method {
	case http.MethodPost:
		u.begun++ // no id is used again
		id = fmt.Sprint(u.begun)
		u.parts[id] = []byte{}
		w.Header().Set("Location", repo+"/blobs/uploads/"+id)
		w.WriteHeader(http.StatusAccepted)
	case http.MethodGet:
		u.asked++
		if u.forget {
			delete(u.parts, id)
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		u.answer(w, id, repo, http.StatusNoContent)
	case http.MethodPatch:
		u.patch(w, r, id, repo)
	case http.MethodPut:
		data := u.parts[id]
		if digest.FromBytes(data).String() != r.FormValue("digest") {
			http.Error(w, `{"errors":[{"code":"DIGEST_INVALID"}]}`, http.StatusBadRequest)
			return true
		}
		inner := httptest.NewRequest(http.MethodPost, repo+"/blobs/uploads/?digest="+r.FormValue("digest"), strings.NewReader(string(data)))
		next.ServeHTTP(w, inner)
	default:
		return false
	}
	return true
}

func (u *uploads) answer(w http.ResponseWriter, id, repo string, status int) {
	w.Header().Set("Location", repo+"/blobs/uploads/"+id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(u.parts[id])-1)))
	w.WriteHeader(status)
}

func (u *uploads) patch(w http.ResponseWriter, r *http.Request, id, repo string) {
	if u.refuse > 0 && r.ContentLength > u.refuse {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if from, _, ok := strings.Cut(r.Header.Get("Content-Range"), "-"); ok && from != fmt.Sprint(len(u.parts[id])) {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	body := io.Reader(r.Body)
	broken := u.breaks > 0 && u.limit > 0
	if broken {
		u.breaks--
		body = io.LimitReader(body, u.limit)
	}
	data, err := io.ReadAll(body)
	u.parts[id] = append(u.parts[id], data...)
	u.got += int64(len(data))
	if broken || err != nil {
		panic(http.ErrAbortHandler)
	}
	u.answer(w, id, repo, http.StatusAccepted)
}

func TestUploadGoesOnWhereItBroke(t *testing.T) {
	isolate(t)
	const size = 3 << 20
	for name, tc := range map[string]struct {
		u     *uploads
		known bool  // the layer is compressed before
		most  int64 // bytes to be sent
	}{
		"once":               {&uploads{limit: 500_000, breaks: 1}, true, size},
		"more than attempts": {&uploads{limit: 200_000, breaks: 6}, true, size},
		"while compressing":  {&uploads{limit: 500_000, breaks: 3}, false, size},
		"nothing is kept":    {&uploads{limit: 500_000, breaks: 1, forget: true}, true, size + 600_000},
		"never":              {&uploads{}, true, size},
	} {
		t.Run(name, func(t *testing.T) {
			reg := newTestRegistry(t)
			c := newTestClient(t, quick)
			img := testImage(t, c, "app", 2<<20)
			if tc.known {
				if _, err := c.LayerBlob(t.Context(), img.Stack); err != nil {
					t.Fatal(err)
				}
			}
			u, breaks := tc.u, tc.u.breaks
			u.parts = map[string][]byte{}
			reg.setFault(u.serve)
			mustPush(t, c, reg.host+"/app", img)
			reg.setFault(nil)
			if u.got > tc.most || u.breaks > 0 || breaks > 0 && u.asked == 0 {
				t.Errorf("%d bytes were sent, want at most %d; %d breaks left, asked %d times", u.got, tc.most, u.breaks, u.asked)
			}
			b := newTestClient(t, quick)
			sameImage(t, c, img, b, mustPull(t, b, reg.host+"/app"))
		})
	}
}

// TestUploadInParts: what is too large at once is sent in parts.
func TestUploadInParts(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 40<<20)
	if _, err := c.LayerBlob(t.Context(), img.Stack); err != nil {
		t.Fatal(err)
	}
	u := uploads{parts: map[string][]byte{}, refuse: 16<<20 + 1}
	reg.setFault(u.serve)
	mustPush(t, c, reg.host+"/app", img)
	reg.setFault(nil)
	b := newTestClient(t, quick)
	sameImage(t, c, img, b, mustPull(t, b, reg.host+"/app"))
}

// TestSeveralPushesCompressOnce pushes a new image to two registries at the same
// time, one of which refuses.
func TestSeveralPushesCompressOnce(t *testing.T) {
	isolate(t)
	good, other, bad := newTestRegistry(t), newTestRegistry(t), newTestRegistry(t)
	bad.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		http.Error(w, "no", http.StatusForbidden)
		return true
	})
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 2<<20, 1<<20)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i, ref := range []string{good.host + "/app:1", good.host + "/app:2", other.host + "/app", bad.host + "/app"} {
		wg.Go(func() { _, errs[i] = c.Push(t.Context(), ref, img, PushOptions{}) })
	}
	wg.Wait()
	if errs[0] != nil || errs[1] != nil || errs[2] != nil || errs[3] == nil {
		t.Fatalf("%v", errs)
	}
	for _, reg := range []*testRegistry{good, other} {
		b := newTestClient(t, quick)
		sameImage(t, c, img, b, mustPull(t, b, reg.host+map[bool]string{true: "/app:1", false: "/app"}[reg == good]))
		if n := count(reg.take(), "PATCH", "/app/"); n > 3 { // two layers and the configuration
			t.Errorf("%d uploads of one image", n)
		}
	}
}
