package actions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures/actionscache"
)

const branch = "refs/heads/main"

// quick has short pauses.
var quick = Settings{
	Retry:    object.Retry{Wait: time.Millisecond, MaxWait: 20 * time.Millisecond},
	Part:     1 << 20,
	Patience: time.Millisecond,
}

func token(scopes ...actionscache.Scope) string {
	if len(scopes) == 0 {
		scopes = []actionscache.Scope{{Scope: branch, Permission: actionscache.Read | actionscache.Write}}
	}
	return actionscache.Token(time.Hour, scopes...)
}

func serve(t *testing.T, s *actionscache.Server) string {
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h.URL
}

func open(t *testing.T, s Settings, url, token string) shared.Backend {
	t.Helper()
	a, err := shared.ParseAttrs("type=gha")
	if err != nil {
		t.Fatal(err)
	}
	a.Kind()
	env := map[string]string{"ACTIONS_RESULTS_URL": url + "/", "ACTIONS_RUNTIME_TOKEN": token, "ACTIONS_CACHE_SERVICE_V2": "True"}
	p, err := s.New(a, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConformance(t *testing.T) {
	for name, c := range map[string]struct {
		server *actionscache.Server
		token  string
	}{
		"Usual": {&actionscache.Server{}, token()},
		// Of a token of another kind nothing is known.
		"Opaque": {&actionscache.Server{Trusting: true}, "a-token-without-claims"},
	} {
		t.Run(name, func(t *testing.T) {
			sharedtest.Run(t, func(t *testing.T) sharedtest.Opener {
				url := serve(t, &actionscache.Server{Trusting: c.server.Trusting})
				return func() shared.Backend { return open(t, Settings{}, url, c.token) }
			})
		})
	}
}

// A pull request reads what its branch and the one that it is for have, and writes its own.
func TestBranches(t *testing.T) {
	s := &actionscache.Server{}
	url := serve(t, s)
	main := open(t, quick, url, token())
	shares := store(t, main, "of main")
	if err := main.Replace(t.Context(), "", []byte("index of main"), nil, ""); err != nil {
		t.Fatal(err)
	}
	pull := open(t, quick, url, token(
		actionscache.Scope{Scope: "refs/pull/7/merge", Permission: actionscache.Read | actionscache.Write},
		actionscache.Scope{Scope: branch, Permission: actionscache.Read}))
	if _, _, err := pull.Index(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the pull request's own index: %v", err)
	}
	if err := pull.Replace(t.Context(), "", []byte("index of the pull request"), nil, ""); err != nil {
		t.Fatal(err)
	}
	others := pull.(shared.Several).Others()
	if len(others) != 1 || !strings.HasSuffix(others[0].String(), branch) {
		t.Fatalf("other branches: %v", others)
	}
	for p, want := range map[shared.Backend]string{pull: "index of the pull request", others[0]: "index of main", main: "index of main"} {
		if got, _, err := p.Index(t.Context(), ""); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", p, got, err)
		}
	}
	own := store(t, pull, "of the pull request")
	if missing, err := pull.Missing(t.Context(), []shared.Blob{shares, own}); err != nil || len(missing) != 0 {
		t.Errorf("the pull request misses %v, %v", missing, err)
	}
	if missing, err := main.Missing(t.Context(), []shared.Blob{shares, own}); err != nil || len(missing) != 1 || missing[0].Digest != own.Digest {
		t.Errorf("main misses %v, %v", missing, err)
	}
	for _, b := range append(others, open(t, quick, url, token(actionscache.Scope{Scope: branch, Permission: actionscache.Read}))) {
		for _, err := range []error{
			b.Replace(t.Context(), "x", nil, nil, ""), b.Store(t.Context(), sharedtest.NewBlob([]byte("b")), sharedtest.Content([]byte("b"))),
		} {
			if err == nil || !strings.Contains(err.Error(), "may only read") {
				t.Errorf("%s: %v", b, err)
			}
		}
	}
}

func store(t *testing.T, p shared.Backend, text string) shared.Blob {
	t.Helper()
	b := sharedtest.NewBlob([]byte(text))
	if err := p.Store(t.Context(), b, sharedtest.Content([]byte(text))); err != nil {
		t.Fatal(err)
	}
	return b
}

func content(p shared.Backend, t *testing.T, b shared.Blob) string {
	t.Helper()
	r, err := p.Open(t.Context(), b, 0)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Entries that somebody has begun and never finished are in nobody's way.
func TestDeadWriters(t *testing.T) {
	s := &actionscache.Server{}
	url := serve(t, s)
	b := sharedtest.NewBlob([]byte("a blob"))
	died := errors.New("died")
	s.SetFault(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	p := open(t, quick, url, token())
	for range 2 {
		if err := p.Store(t.Context(), b, sharedtest.Content([]byte("a blob"))); err == nil {
			t.Fatal(died)
		}
		if err := p.Replace(t.Context(), "", []byte("one"), nil, ""); err == nil || errors.Is(err, shared.ErrConflict) {
			t.Fatalf("index: %v", err)
		}
	}
	s.SetFault(nil)
	q := open(t, quick, url, token())
	if missing, err := q.Missing(t.Context(), []shared.Blob{b}); err != nil || len(missing) != 1 {
		t.Errorf("missing %v, %v", missing, err)
	}
	if got := store(t, q, "a blob"); content(p, t, got) != "a blob" {
		t.Errorf("the blob is %q", content(p, t, got))
	}
	if err := q.Replace(t.Context(), "", []byte("two"), nil, ""); err != nil {
		t.Fatal(err)
	}
	if got, v, err := p.Index(t.Context(), ""); string(got) != "two" || v != "3" {
		t.Errorf("index %q, %s, %v", got, v, err)
	}
}

// A writer that was believed dead and finishes late does not end the writing of others.
func TestLateWriter(t *testing.T) {
	s := &actionscache.Server{}
	url := serve(t, s)
	late := open(t, quick, url, token()).(*Place)
	name := indexName(branch, "")
	r, err := late.entries.reserve(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, quick, url, token())
	if err := p.Replace(t.Context(), "", []byte("second"), nil, ""); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Put(t.Context(), []byte("first")), r.finish(t.Context(), 5)); err != nil {
		t.Fatal(err)
	}
	q := open(t, quick, url, token())
	for i, want := range []string{"second", "third"} {
		got, v, err := q.Index(t.Context(), "")
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
		if i == 0 {
			if err := q.Replace(t.Context(), "", []byte("third"), nil, v); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Who comes while another writes waits for that one.
func TestWaits(t *testing.T) {
	s := &actionscache.Server{}
	looked := make(chan struct{}, 100)
	url := serve(t, s)
	first := open(t, quick, url, token()).(*Place)
	patient := quick
	patient.Patience = time.Minute
	second := open(t, patient, url, token()).(*Place)
	b := sharedtest.NewBlob([]byte("both"))
	r, err := first.entries.reserve(t.Context(), blobs+b.Digest.String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.SetFault(func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "GetCacheEntryDownloadURL") {
			looked <- struct{}{}
		}
		return false
	})
	done := make(chan error, 1)
	go func() { done <- second.Store(t.Context(), b, sharedtest.Content([]byte("both"))) }()
	<-looked // it is not there
	<-looked // nor after the conflict
	if err := errors.Join(r.Put(t.Context(), []byte("both")), r.finish(t.Context(), 4)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got, keys := content(second, t, b), s.Keys(branch); got != "both" || len(keys) != 1 {
		t.Errorf("got %q, entries %q", got, keys)
	}
}

// What is damaged is written again, and that is read from then on.
func TestDamaged(t *testing.T) {
	s := &actionscache.Server{}
	url := serve(t, s)
	b := store(t, open(t, quick, url, token()), "a blob")
	s.Change("builder-blob-", func([]byte) []byte { return []byte("A blob") })
	p := open(t, quick, url, token())
	if got := content(p, t, b); got != "A blob" {
		t.Fatalf("got %q", got)
	}
	store(t, open(t, quick, url, token()), "a blob")
	if got := content(open(t, quick, url, token()), t, b); got != "a blob" {
		t.Errorf("got %q", got)
	}
	// One that is truncated is refused.
	s.Change("builder-blob-", func(data []byte) []byte { return data[1:] })
	if got := content(open(t, quick, url, token()), t, b); !strings.Contains(got, "has 5 bytes, not 6") {
		t.Errorf("got %q", got)
	}
}

// Of a content that is not what was promised no entry is finished.
func TestPromises(t *testing.T) {
	s := &actionscache.Server{}
	p := open(t, quick, serve(t, s), token())
	data := bytes.Repeat([]byte("0123456789"), 300_000)
	for _, promised := range []shared.Blob{sharedtest.NewBlob(data), sharedtest.NewBlob(data[:100])} {
		for name, wrong := range map[string][]byte{
			"longer": append(bytes.Clone(data[:promised.Size]), '.'), "shorter": data[1:promised.Size], "changed": append([]byte("."), data[1:promised.Size]...),
		} {
			if err := p.Store(t.Context(), promised, sharedtest.Content(wrong)); err == nil {
				t.Errorf("%s: stored", name)
			}
		}
	}
	if keys := s.Keys(branch); len(keys) != 0 {
		t.Errorf("entries %q", keys)
	}
}

// An index keeps the blobs that it names: they are looked for, but not all of very many, nor
// those that were just stored.
func TestUse(t *testing.T) {
	s := &actionscache.Server{}
	url := serve(t, s)
	var list []shared.Blob
	for i := range maxUsed + 50 {
		list = append(list, sharedtest.NewBlob(fmt.Append(nil, i)))
	}
	p := open(t, quick, url, token())
	list = append(list, store(t, p, "just stored"))
	before := s.Requests()
	if err := p.Replace(t.Context(), "", nil, list, ""); err != nil {
		t.Fatal(err)
	}
	if n := s.Requests() - before; n != maxUsed+4 { // look, create, put, finalize
		t.Errorf("%d requests", n)
	}
}

func TestNames(t *testing.T) {
	seen := map[string]string{}
	for _, scope := range []string{"", "default", "main", "Main", "a-b", "a_b", "a,b", "ü" + strings.Repeat("long", 300), "1"} {
		for _, b := range []string{branch, "refs/pull/1/merge", ""} {
			name := indexName(b, scope)
			if other, ok := seen[name]; ok {
				t.Errorf("%q is that of %s and of %s", name, other, b+" "+scope)
			}
			seen[name] = b + " " + scope
			if len(name) > 100 || strings.ContainsAny(name, ",") || strings.Count(name, "-") != 3 {
				t.Errorf("%q", name)
			}
		}
	}
	for key, want := range map[string]int{"n-1": 1, "n-12": 12, "n-": 0, "n-0": 0, "n--1": 0, "n-1x": 0, "m-1": 0, "n-1-2": 0} {
		if got := numberOf("n", key); got != want {
			t.Errorf("%s: %d", key, got)
		}
	}
	if !slices.Equal(readToken("a.b").branches(), []scope{{"", 3}}) {
		t.Error("a token that is none")
	}
}
