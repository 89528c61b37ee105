package azblob

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testAccount = "account"
	testKey     = "ZmFrZSBrZXkgb2YgdGhlIHRlc3RzKysrLy8v"
)

// fake is a service like Azure's, in memory, with one account. It verifies signatures.
type fake struct {
	// skew is how far its clock is ahead.
	skew time.Duration
	// bearer, unless "", is the token that it wants instead of a signature.
	bearer string
	// fault, unless nil, may answer a request in its place. It is called with n from 1 on.
	fault func(n int, w http.ResponseWriter, r *http.Request) bool

	mu         sync.Mutex
	n          int
	containers map[string]bool
	blobs      map[string][]byte            // CONTAINER/NAME
	blocks     map[string]map[string][]byte // of these
}

func newFake(t *testing.T, f *fake) *httptest.Server {
	f.containers, f.blobs, f.blocks = map[string]bool{}, map[string][]byte{}, map[string]map[string][]byte{}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.n++
	n := f.n
	f.mu.Unlock()
	if f.fault != nil && f.fault(n, w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	now := time.Now().Add(f.skew)
	w.Header()["Date"] = []string{now.UTC().Format(http.TimeFormat)}
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/"+testAccount+"/")
	container, _, _ := strings.Cut(path, "/")
	sum := md5.Sum(body)
	switch md := r.Header.Get("Content-MD5"); {
	case !f.verify(r, len(body), now):
		refuse(w, r, 403, "AuthenticationFailed")
	case md != "" && md != base64.StdEncoding.EncodeToString(sum[:]):
		refuse(w, r, 400, "Md5Mismatch")
	case r.URL.Query().Get("comp") == "list" && f.containers[container]:
		f.list(w, container, r.URL.Query())
	case r.URL.Query().Get("restype") == "container" && r.Method == http.MethodPut:
		f.containers[container] = true
		w.WriteHeader(201)
	case !f.containers[container]:
		refuse(w, r, 404, "ContainerNotFound")
	default:
		f.serve(w, r, path, body)
	}
}

// verify signs the request again, as of its date.
func (f *fake) verify(r *http.Request, size int, now time.Time) bool {
	if f.bearer != "" {
		return r.Header.Get("Authorization") == "Bearer "+f.bearer
	}
	date, err := http.ParseTime(r.Header.Get("X-Ms-Date"))
	if err != nil || date.Sub(now).Abs() > 15*time.Minute || r.Header.Get("X-Ms-Version") == "" {
		return false
	}
	key, _ := base64.StdEncoding.DecodeString(testKey)
	again := r.Clone(r.Context())
	if err := (sharedKey{testAccount, key}).Sign(r.Context(), again, size); err != nil {
		return false
	}
	return again.Header.Get("Authorization") == r.Header.Get("Authorization")
}

// refuse says more than it should.
func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.Header().Set("X-Ms-Error-Code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, "\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>Refused: query sig=%s, %s.\nRequestId:1 signed %s</Message></Error>",
			code, r.URL.Query().Get("sig"), r.Header.Get("Authorization"), r.Header.Get("Authorization"))
	}
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	q := r.URL.Query()
	switch {
	case q.Get("comp") == "block":
		if f.blocks[path] == nil {
			f.blocks[path] = map[string][]byte{}
		}
		for id := range f.blocks[path] {
			if len(id) != len(q.Get("blockid")) {
				refuse(w, r, 400, "InvalidBlobOrBlock")
				return
			}
		}
		f.blocks[path][q.Get("blockid")] = body
		w.WriteHeader(201)
	case q.Get("comp") == "blocklist":
		var doc struct{ Latest []string }
		if err := xml.Unmarshal(body, &doc); err != nil {
			refuse(w, r, 400, "InvalidXmlDocument")
			return
		}
		var data []byte
		for _, id := range doc.Latest {
			block, ok := f.blocks[path][id]
			if !ok {
				refuse(w, r, 400, "InvalidBlockList")
				return
			}
			data = append(data, block...)
		}
		delete(f.blocks, path)
		f.blobs[path] = data
		w.WriteHeader(201)
	case r.Method == http.MethodPut:
		f.put(w, r, path, body)
	case r.Method == http.MethodDelete && f.blobs[path] != nil:
		delete(f.blobs, path)
		w.WriteHeader(202)
	default:
		data, ok := f.blobs[path]
		if !ok {
			refuse(w, r, 404, "BlobNotFound")
			return
		}
		w.Header().Set("ETag", etag(data))
		w.Header().Set("Content-Type", mediaType)
		http.ServeContent(w, r, "", time.Now(), strings.NewReader(string(data)))
	}
}

// list lists two blobs at a time.
func (f *fake) list(w http.ResponseWriter, container string, q url.Values) {
	var names []string
	for path := range f.blobs {
		if name, ok := strings.CutPrefix(path, container+"/"); ok && strings.HasPrefix(name, q.Get("prefix")) && name > q.Get("marker") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	fmt.Fprint(w, "\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>")
	page := names[:min(2, len(names))]
	for _, name := range page {
		fmt.Fprint(w, "<Blob><Name>")
		_ = xml.EscapeText(w, []byte(name))
		fmt.Fprint(w, "</Name><Properties><Content-Length>1</Content-Length></Properties></Blob>")
	}
	fmt.Fprint(w, "</Blobs><NextMarker>")
	if len(names) > len(page) {
		_ = xml.EscapeText(w, []byte(page[len(page)-1]))
	}
	fmt.Fprint(w, "</NextMarker></EnumerationResults>")
}

func etag(data []byte) string { return fmt.Sprintf("\"0x%X\"", md5.Sum(data)) }

func (f *fake) put(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	old, ok := f.blobs[path]
	match := r.Header.Get("If-Match")
	switch {
	case r.Header.Get("X-Ms-Blob-Type") != "BlockBlob":
		refuse(w, r, 400, "MissingRequiredHeader")
	case r.Header.Get("If-None-Match") == "*" && ok:
		refuse(w, r, 409, "BlobAlreadyExists")
	case match != "" && (!ok || match != etag(old)):
		refuse(w, r, 412, "ConditionNotMet")
	default:
		f.blobs[path] = body
		w.Header().Set("ETag", etag(body))
		w.WriteHeader(201)
	}
}
