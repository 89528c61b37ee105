package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// quick has short pauses.
var quick = Settings{
	Retry: object.Retry{Wait: time.Millisecond, MaxWait: 20 * time.Millisecond},
	Part:  5 << 20,
}

// impatient gives up soon.
var impatient = Settings{Timeouts: object.Timeouts{Idle: 500 * time.Millisecond}, Retry: quick.Retry}

func none(string) string { return "" }

func open(t *testing.T, s Settings, address, more string) *object.Place {
	t.Helper()
	a, err := shared.ParseAttrs("type=s3,bucket=" + testBucket + ",region=eu-test-1,use_path_style=true,endpoint_url=" + address +
		",access_key_id=" + testID + ",secret_access_key=" + testSecret + ",session_token=" + testToken + more)
	if err != nil {
		t.Fatal(err)
	}
	a.Kind()
	p, err := s.New(a, none)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Left(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name string
		fake *fake
		more string
	}{
		{name: "Usual", fake: &fake{}},
		{name: "Prefixes", fake: &fake{}, more: ",prefix=a b/,blobs_prefix=ü+%/,manifests_prefix=m/,name=x/y;z"},
		{name: "NoChecksums", fake: &fake{noChecksums: true}},
		{name: "Skewed", fake: &fake{skew: -25 * time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sharedtest.Run(t, func(t *testing.T) sharedtest.Opener {
				s := newFake(t, c.fake)
				return func() shared.Backend { return open(t, Settings{Part: 5 << 20}, s.URL, c.more) }
			})
		})
	}
}

// Services that do not know conditions, or ignore them, are found out in the first Replace.
func TestLoose(t *testing.T) {
	for name, c := range map[string]struct {
		conditions conditions
		loose      bool
	}{"kept": {kept, false}, "ignored": {ignored, true}, "refused": {refusedAll, true}} {
		t.Run(name, func(t *testing.T) {
			f := &fake{conditions: c.conditions}
			s := newFake(t, f)
			p := open(t, quick, s.URL, "")
			if err := p.Replace(t.Context(), "", []byte("one"), nil, ""); err != nil {
				t.Fatal(err)
			}
			if p.Loose() != c.loose {
				t.Errorf("loose: %v, want %v", p.Loose(), c.loose)
			}
			f.requests("PUT")
			err := p.Replace(t.Context(), "", []byte("two"), nil, "")
			if c.loose && err != nil || !c.loose && !errors.Is(err, shared.ErrConflict) {
				t.Errorf("over another one: %v", err)
			}
			if n := len(f.requests("PUT")); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// What AWS itself keeps is not tried out.
func TestAddress(t *testing.T) {
	for _, c := range []struct {
		attrs, env, name, address string
	}{
		{"bucket=b,region=eu-west-1", "", "s3://b/", "https://b.s3.eu-west-1.amazonaws.com"},
		{"bucket=b,region=cn-north-1,prefix=p/", "", "s3://b/p/", "https://b.s3.cn-north-1.amazonaws.com.cn"},
		{"bucket=b.c,region=eu-west-1", "", "s3://b.c/", "https://s3.eu-west-1.amazonaws.com/b.c"},
		{"region=r", "AWS_BUCKET=b", "s3://b/", "https://b.s3.r.amazonaws.com"},
		{"bucket=b", "AWS_REGION=r", "s3://b/", "https://b.s3.r.amazonaws.com"},
		{"bucket=b,endpoint_url=https://u:p@h.test:9/x/", "", "s3://b/ at b.h.test:9", "https://b.h.test:9/x"},
		{"bucket=b,endpoint_url=http://127.0.0.1:9", "", "s3://b/ at 127.0.0.1:9", "http://127.0.0.1:9/b"},
		{"bucket=b,use_path_style=true", "AWS_ENDPOINT_URL_S3=https://h.test", "s3://b/ at h.test", "https://h.test/b"},
	} {
		a, err := shared.ParseAttrs("type=s3," + c.attrs)
		if err != nil {
			t.Fatal(err)
		}
		getenv := func(k string) string {
			if v, ok := strings.CutPrefix(c.env, k+"="); ok {
				return v
			}
			return ""
		}
		o, err := readOptions(a, getenv)
		if err != nil {
			t.Errorf("%s: %v", c.attrs, err)
			continue
		}
		at, err := o.address()
		if err != nil || at.String() != c.address {
			t.Errorf("%s: got %v, %v, want %s", c.attrs, at, err, c.address)
		}
		if p, err := New(a, getenv); err != nil || p.String() != c.name {
			t.Errorf("%s: got %v, %v, want %s", c.attrs, p, err, c.name)
		}
	}
}

// Places in one bucket with other names, or other blobs, are not the same.
func TestIndexName(t *testing.T) {
	seen := map[string]string{}
	for _, more := range []string{"", ",name=pr", ",manifests_prefix=m/", ",blobs_prefix=b/"} {
		p := open(t, quick, "http://h.test", more)
		id := p.String() + " " + p.IndexName()
		if other, ok := seen[id]; ok {
			t.Errorf("%q is the same as %q", more, other)
		}
		seen[id] = more
	}
	if a, b := open(t, quick, "http://h.test", ",name=pr;main"), open(t, quick, "http://h.test", ",name=pr"); a.IndexName() != b.IndexName() {
		t.Errorf("%s is not %s", a.IndexName(), b.IndexName())
	}
}

func TestMistakes(t *testing.T) {
	for attrs, want := range map[string]string{
		"region=r":                                 "bucket is missing",
		"bucket=b":                                 "region is missing",
		"bucket=b,region=r,access_key_id=a":        "go together",
		"bucket=b,region=r,upload_parallelism=0":   "upload_parallelism=0",
		"bucket=b,region=r,retry_mode=x":           "standard or adaptive",
		"bucket=b,region=r,retry_max_attempts=0":   "retry_max_attempts=0",
		"bucket=b,region=r,touch_refresh=soon":     "touch_refresh=soon",
		"bucket=b,region=r,use_path_style=perhaps": "use_path_style=perhaps",
		"bucket=b,endpoint_url=h:9":                "endpoint_url is not a URL",
	} {
		a, err := shared.ParseAttrs("type=s3," + attrs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(a, none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", attrs, err, want)
		}
	}
}

// Of a blob in parts only few parts are in memory, and of one that fails none remain.
func TestParts(t *testing.T) {
	f := &fake{}
	s := newFake(t, f)
	p := open(t, quick, s.URL, "")
	data := bytes.Repeat([]byte("part "), 6<<20) // 30 MiB
	b := sharedtest.NewBlob(data)
	if err := p.Store(t.Context(), b, sharedtest.Content(data)); err != nil {
		t.Fatal(err)
	}
	if n := len(f.requests("PUT")); n != 6 || f.largest != 5<<20 {
		t.Errorf("%d parts, the largest of %d bytes", n, f.largest)
	}
	for name, wrong := range map[string][]byte{
		"longer": append(bytes.Clone(data), '.'), "shorter": data[1:], "changed": append([]byte("."), data[1:]...),
	} {
		promised := sharedtest.NewBlob(append([]byte("P"), data[1:]...))
		if err := p.Store(t.Context(), promised, sharedtest.Content(wrong)); err == nil {
			t.Errorf("%s: stored", name)
		}
		if len(f.uploads) != 0 {
			t.Errorf("%s: parts remain", name)
		}
		if missing, err := p.Missing(t.Context(), []shared.Blob{promised}); err != nil || len(missing) != 1 {
			t.Errorf("%s: missing %v, %v", name, missing, err)
		}
	}
}

// A blob of another size than it should have is missing, and is not read.
func TestDamaged(t *testing.T) {
	f := &fake{}
	s := newFake(t, f)
	p := open(t, quick, s.URL, "")
	data := []byte("all of it")
	b := sharedtest.NewBlob(data)
	if err := p.Store(t.Context(), b, sharedtest.Content(data)); err != nil {
		t.Fatal(err)
	}
	f.objects["blobs/"+b.Digest.String()].data = data[:3]
	if missing, err := p.Missing(t.Context(), []shared.Blob{b}); err != nil || len(missing) != 1 {
		t.Errorf("missing %v, %v", missing, err)
	}
	if r, err := p.Open(t.Context(), b, 0); err == nil {
		r.Close()
		t.Error("opened")
	}
}

// Blobs that an index names are touched when they are old, and not asked for each time.
func TestTouch(t *testing.T) {
	f := &fake{}
	s := newFake(t, f)
	first := open(t, quick, s.URL, "")
	var blobs []shared.Blob
	for _, text := range []string{"old", "new"} {
		b := sharedtest.NewBlob([]byte(text))
		if err := first.Store(t.Context(), b, sharedtest.Content([]byte(text))); err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, b)
	}
	old := f.objects["blobs/"+blobs[0].Digest.String()]
	old.modified = time.Now().Add(-25 * time.Hour)
	if err := open(t, quick, s.URL, "").Replace(t.Context(), "", []byte("index"), blobs, ""); err != nil {
		t.Fatal(err)
	}
	now := f.objects["blobs/"+blobs[0].Digest.String()]
	if now == old || string(now.data) != "old" || time.Since(now.modified) > time.Hour {
		t.Error("the old one was not touched")
	}
	if now.header.Get("X-Amz-Copy-Source") == "" || f.objects["blobs/"+blobs[1].Digest.String()].header.Get("X-Amz-Copy-Source") != "" {
		t.Error("touched is not what is old")
	}
	p := open(t, quick, s.URL, "")
	_, version, err := p.Index(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	f.requests("")
	if err := p.Replace(t.Context(), "", []byte("again"), blobs, version); err != nil {
		t.Fatal(err)
	}
	if asked := f.requests("HEAD"); len(asked) != 0 {
		t.Errorf("asked again: %v", asked)
	}
}

func TestTouchLarge(t *testing.T) {
	f := &fake{}
	s := newFake(t, f)
	p := open(t, quick, s.URL, "")
	b := sharedtest.NewBlob([]byte("large"))
	if err := p.Store(t.Context(), b, sharedtest.Content([]byte("large"))); err != nil {
		t.Fatal(err)
	}
	a, err := shared.ParseAttrs("type=s3,bucket=" + testBucket + ",region=eu-test-1,endpoint_url=" + s.URL + ",access_key_id=" + testID + ",secret_access_key=" + testSecret)
	if err != nil {
		t.Fatal(err)
	}
	o, err := readOptions(a, none)
	if err != nil {
		t.Fatal(err)
	}
	bk, err := quick.bucket(&o, none)
	if err != nil {
		t.Fatal(err)
	}
	f.requests("")
	if err := bk.Touch(t.Context(), "blobs/"+b.Digest.String(), maxCopy+1); err != nil {
		t.Fatal(err)
	}
	if parts := f.requests("PUT"); len(parts) != 2 {
		t.Errorf("copied as %v", parts)
	}
}

func TestOthers(t *testing.T) {
	s := newFake(t, &fake{})
	p := open(t, quick, s.URL, ",name=this;other")
	if err := open(t, quick, s.URL, ",name=other").Replace(t.Context(), "", []byte("of the other"), nil, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Index(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the first has an index: %v", err)
	}
	others := p.Others()
	if len(others) != 1 {
		t.Fatalf("%d others", len(others))
	}
	if data, _, err := others[0].Index(t.Context(), ""); err != nil || string(data) != "of the other" {
		t.Errorf("got %q, %v", data, err)
	}
}

// A service that does not know ranges answers with all of it.
func TestNoRanges(t *testing.T) {
	f := &fake{fault: func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	}}
	s := newFake(t, f)
	p := open(t, quick, s.URL, "")
	b := sharedtest.NewBlob([]byte("0123456789"))
	if err := p.Store(t.Context(), b, sharedtest.Content([]byte("0123456789"))); err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int64]string{7: "789", 10: ""} {
		r, err := p.Open(t.Context(), b, offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != want {
			t.Errorf("from %d: %q, %v", offset, got, err)
		}
		r.Close()
	}
}

// What the service did although the answer was lost is no error.
func TestLostAnswer(t *testing.T) {
	f := &fake{}
	data := bytes.Repeat([]byte("p"), 6<<20)
	b := sharedtest.NewBlob(data)
	f.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.Query().Has("uploads") {
			return false
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.objects["blobs/"+b.Digest.String()] = &fakeObject{data: data}
		refuse(w, r, http.StatusNotFound, "NoSuchUpload")
		return true
	}
	s := newFake(t, f)
	if err := open(t, quick, s.URL, "").Store(t.Context(), b, sharedtest.Content(data)); err != nil {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	stop := make(chan struct{})
	f := &fake{fault: func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
		return true
	}}
	s := newFake(t, f)
	defer close(stop)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	if _, _, err := open(t, Settings{}, s.URL, "").Index(ctx, ""); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// asked is a source of credentials.
type asked func() (Keys, error)

func (asked) About() string { return "the test" }

func (a asked) Keys(context.Context) (Keys, error) { return a() }

func openRing(t *testing.T, address string, source asked) (*object.Place, *ring) {
	t.Helper()
	a, err := shared.ParseAttrs("type=s3,bucket=" + testBucket + ",region=eu-test-1,endpoint_url=" + address + ",access_key_id=a,secret_access_key=b")
	if err != nil {
		t.Fatal(err)
	}
	o, err := readOptions(a, none)
	if err != nil {
		t.Fatal(err)
	}
	o.source = source
	b, err := quick.bucket(&o, none)
	if err != nil {
		t.Fatal(err)
	}
	return object.NewPlace(b, object.Options{Name: "test", Layouts: o.layouts}), b.client.Service.(*service).keys
}
