package s3

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testID     = "AKIDFAKEFAKEFAKE0001"
	testSecret = "fake/Secret+Key/of/the/Tests=0123456789"
	testToken  = "fakeSessionToken/with+all=kinds"
	testBucket = "cache-bucket"
)

// conditions is how a service treats conditions of writes.
type conditions int

const (
	kept conditions = iota
	ignored
	refusedAll // 501
)

// fake is a service like S3, in memory, with one bucket. It verifies signatures.
type fake struct {
	conditions conditions
	// skew is how far its clock is ahead.
	skew time.Duration
	// noChecksums refuses checksums in fields of their own.
	noChecksums bool
	// fault, unless nil, may answer a request in its place. It is called with n from 1 on.
	fault func(n int, w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	n       int
	objects map[string]*fakeObject
	uploads map[string]map[int][]byte
	seen    []string // method, path and query
	largest int      // request body
}

type fakeObject struct {
	data     []byte
	modified time.Time
	header   http.Header
}

func (o *fakeObject) etag() string { return fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(o.data))) }

func newFake(t *testing.T, f *fake) *httptest.Server {
	f.objects, f.uploads = map[string]*fakeObject{}, map[string]map[int][]byte{}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.n++
	n := f.n
	f.seen = append(f.seen, r.Method+" "+r.URL.RequestURI())
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
	f.largest = max(f.largest, len(body))
	key, ok := strings.CutPrefix(r.URL.Path, "/"+testBucket+"/")
	switch code := f.verify(r, body, now); {
	case code != "":
		refuse(w, r, http.StatusForbidden, code)
	case !ok:
		refuse(w, r, http.StatusNotFound, "NoSuchBucket")
	case f.noChecksums && r.Header.Get("X-Amz-Checksum-Sha256") != "":
		refuse(w, r, http.StatusBadRequest, "InvalidArgument")
	default:
		f.serve(w, r, key, body)
	}
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>About checksum. Key %s, Signature=%s</Message><StringToSign>%s</StringToSign></Error>",
			code, testSecret, r.Header.Get("Authorization"), r.Header.Get("X-Amz-Security-Token"))
	}
}

// verify signs the request again, as of its date.
func (f *fake) verify(r *http.Request, body []byte, now time.Time) (code string) {
	date, err := time.Parse(longDate, r.Header.Get("X-Amz-Date"))
	if err != nil {
		return "AccessDenied"
	}
	if date.Sub(now).Abs() > 15*time.Minute {
		return "RequestTimeTooSkewed"
	}
	again := r.Clone(r.Context())
	again.URL.Host = r.Host
	sign(again, body, Keys{ID: testID, Secret: testSecret, Token: r.Header.Get("X-Amz-Security-Token")}, scope{"eu-test-1", "s3"}, date)
	if again.Header.Get("Authorization") != r.Header.Get("Authorization") {
		return "SignatureDoesNotMatch"
	}
	return ""
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	q := r.URL.Query()
	id := q.Get("uploadId")
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := "upload/" + strconv.Itoa(len(f.uploads)) + "+"
		f.uploads[id] = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case id != "" && f.uploads[id] == nil:
		refuse(w, r, http.StatusNotFound, "NoSuchUpload")
	case r.Method == http.MethodPost:
		f.complete(w, key, id, body)
	case r.Method == http.MethodDelete && id == "":
		delete(f.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		delete(f.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && q.Get("list-type") == "2":
		f.list(w, q.Get("prefix"), q.Get("continuation-token"))
	case id != "":
		n, _ := strconv.Atoi(q.Get("partNumber"))
		if from := r.Header.Get("X-Amz-Copy-Source"); from != "" {
			body = f.source(from).data
			fmt.Fprintf(w, "<CopyPartResult><ETag>%q</ETag></CopyPartResult>", fmt.Sprintf("%x", md5.Sum(body)))
		}
		f.uploads[id][n] = body
		w.Header().Set("ETag", (&fakeObject{data: body}).etag())
	case r.Method == http.MethodPut:
		f.put(w, r, key, body)
	default:
		f.get(w, r, key)
	}
}

// list lists two objects at a time.
func (f *fake) list(w http.ResponseWriter, prefix, after string) {
	var keys []string
	for k := range f.objects {
		if strings.HasPrefix(k, prefix) && k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	fmt.Fprint(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	for _, k := range keys[:min(2, len(keys))] {
		fmt.Fprint(w, "<Contents><Key>")
		xml.EscapeText(w, []byte(k))
		fmt.Fprint(w, "</Key><Size>1</Size></Contents>")
	}
	if len(keys) > 2 {
		fmt.Fprintf(w, "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", keys[1])
	}
	fmt.Fprint(w, "</ListBucketResult>")
}

func (f *fake) source(from string) *fakeObject {
	path, _ := url.PathUnescape(from)
	return f.objects[strings.TrimPrefix(path, "/"+testBucket+"/")]
}

func (f *fake) complete(w http.ResponseWriter, key, id string, body []byte) {
	var doc struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if xml.Unmarshal(body, &doc) != nil || len(doc.Part) != len(f.uploads[id]) {
		fmt.Fprint(w, "<Error><Code>InternalError</Code><Message>of the parts</Message></Error>")
		return
	}
	o := &fakeObject{modified: time.Now()}
	for _, p := range doc.Part {
		part := f.uploads[id][p.PartNumber]
		if p.ETag != (&fakeObject{data: part}).etag() {
			fmt.Fprint(w, "<Error><Code>InvalidPart</Code></Error>")
			return
		}
		o.data = append(o.data, part...)
	}
	delete(f.uploads, id)
	f.objects[key] = o
	fmt.Fprint(w, "<CompleteMultipartUploadResult/>")
}

func (f *fake) put(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	old := f.objects[key]
	none, match := r.Header.Get("If-None-Match"), r.Header.Get("If-Match")
	switch {
	case f.conditions == ignored:
	case f.conditions == refusedAll && none+match != "":
		refuse(w, r, http.StatusNotImplemented, "NotImplemented")
		return
	case match != "" && old == nil:
		refuse(w, r, http.StatusNotFound, "NoSuchKey")
		return
	case none == "*" && old != nil, match != "" && match != old.etag():
		refuse(w, r, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	if sum := r.Header.Get("X-Amz-Checksum-Sha256"); sum != "" {
		if want := sha256.Sum256(body); sum != base64.StdEncoding.EncodeToString(want[:]) || r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(want[:]) {
			refuse(w, r, http.StatusBadRequest, "BadDigest")
			return
		}
	}
	o := &fakeObject{data: body, modified: time.Now(), header: r.Header.Clone()}
	if from := r.Header.Get("X-Amz-Copy-Source"); from != "" {
		s := f.source(from)
		if s == nil {
			refuse(w, r, http.StatusNotFound, "NoSuchKey")
			return
		}
		o.data = s.data
		fmt.Fprint(w, "<CopyObjectResult/>")
	}
	f.objects[key] = o
	w.Header().Set("ETag", o.etag())
}

func (f *fake) get(w http.ResponseWriter, r *http.Request, key string) {
	o := f.objects[key]
	if o == nil {
		refuse(w, r, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", o.etag())
	w.Header().Set("Content-Type", mediaType)
	if note := o.header.Get(noteField); note != "" {
		w.Header().Set(noteField, note)
	}
	http.ServeContent(w, r, "", o.modified, strings.NewReader(string(o.data)))
}

// requests are those of a method since the last call.
func (f *fake) requests(method string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, s := range f.seen {
		if strings.HasPrefix(s, method+" ") {
			out = append(out, s)
		}
	}
	f.seen = nil
	return out
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (f *fake) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n = 0
}
