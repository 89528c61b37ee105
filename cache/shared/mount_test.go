package shared_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/cachetest"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// sender sends mounts whose content is a text.
type sender struct {
	texts  map[string]string // by id and key, separated by a space
	later  int64             // days
	before func(n int)       // it is called for the n-th time
	calls  int
}

// SendMounts implements shared.MountSender.
func (s *sender) SendMounts(ctx context.Context, to *shared.MountTarget) ([]*shared.Mount, error) {
	s.calls++
	var out []*shared.Mount
	for name, text := range s.texts {
		id, key, _ := strings.Cut(name, " ")
		if !to.Wants(id) {
			continue
		}
		b := shared.MountBlob{Type: shared.MountManifest, Digest: digest.FromString(text), Size: int64(len(text))}
		if !to.Usable(b.Digest) {
			if err := to.Store(ctx, b, []byte(text)); err != nil {
				return out, err
			}
		}
		m := shared.Mount{MountName: shared.MountName{ID: id, Platform: "p"}, Key: key, Listing: b.Digest, Manifest: b}
		now := m.UsedNow()
		now.Used += s.later
		out = append(out, now)
	}
	if s.before != nil {
		s.before(s.calls)
	}
	return out, nil
}

func session(from []shared.Source, to []shared.Target, s shared.MountSender, told *[]string) *shared.Session {
	return shared.New(shared.Options{
		Local: &cachetest.Memory{}, From: from, To: to, Mounts: s,
		Tell: func(text string) { *told = append(*told, text) },
	})
}

var all = shared.Select{All: true}

func export(t *testing.T, p shared.Backend, how shared.To, s *sender) {
	t.Helper()
	var told []string
	if err := session(nil, []shared.Target{{Backend: p, To: how}}, s, &told).Finish(t.Context(), nil); err != nil || len(told) > 0 {
		t.Errorf("%v, %q", err, told)
	}
}

// found lists what the places have of a mount, the best first.
func found(t *testing.T, id, key string, from ...shared.Source) string {
	t.Helper()
	var told []string
	ms, err := session(from, nil, nil, &told).Mounts(t.Context(), shared.MountName{ID: id, Platform: "p"}, key)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range ms {
		b := m.Manifest
		b.Type = shared.MountManifest
		r, err := m.Open(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return strings.Join(out, " ")
}

// TestMounts finds what belongs to the key in any scope, then the newest of each scope.
func TestMounts(t *testing.T) {
	p := &sharedtest.Memory{}
	export(t, p, shared.To{Scope: "main", Mounts: all}, &sender{texts: map[string]string{"m k1": "main1", "m k2": "main2", "n": "other"}})
	export(t, p, shared.To{Scope: "main", Mounts: all}, &sender{texts: map[string]string{"m k3": "main3"}, later: 1})
	export(t, p, shared.To{Scope: "pull", Mounts: shared.Select{IDs: []string{"m"}}}, &sender{texts: map[string]string{"m k4": "pull4", "n": "not wanted"}})
	from := shared.Source{Backend: p, From: shared.From{Scopes: []string{"pull", "main"}, Mounts: all}}
	if got := found(t, "m", "k2", from); !strings.HasPrefix(got, "main2 pull4 main3") {
		t.Errorf("k2: %q", got)
	}
	if got := found(t, "m", "new", from); !strings.HasPrefix(got, "pull4 main3") {
		t.Errorf("new: %q", got)
	}
	if got := found(t, "n", "", from); got != "other" {
		t.Errorf("n: %q", got)
	}
	from.Mounts = shared.Select{IDs: []string{"n"}}
	if got := found(t, "m", "", from); got != "" {
		t.Errorf("not asked for: %q", got)
	}
	if got := found(t, "nosuch", "", from); got != "" {
		t.Errorf("none: %q", got)
	}
}

// TestMountsTogether sends again what another writer's index has lost, and the sweep behind it.
func TestMountsTogether(t *testing.T) {
	p := &sharedtest.Memory{}
	export(t, p, shared.To{Mounts: all}, &sender{texts: map[string]string{"m": "text"}})
	s := &sender{texts: map[string]string{"m": "text", "n": "more"}}
	s.before = func(n int) {
		if n == 1 {
			export(t, p, shared.To{Mounts: all, Reset: true}, &sender{texts: map[string]string{"o": "of another"}})
		}
	}
	export(t, p, shared.To{Mounts: all}, s)
	from := shared.Source{Backend: p, From: shared.From{Mounts: all}}
	for id, want := range map[string]string{"m": "text", "n": "more", "o": "of another"} {
		if got := found(t, id, "", from); got != want {
			t.Errorf("%s: %q", id, got)
		}
	}
	if s.calls != 2 {
		t.Errorf("they were sent %d times", s.calls)
	}
}

// TestMountsSpoiled sends anew what a reader found to be damaged.
func TestMountsSpoiled(t *testing.T) {
	p := &sharedtest.Memory{}
	export(t, p, shared.To{Mounts: all}, &sender{texts: map[string]string{"m": "text"}})
	p.Damage()
	var told []string
	s := session([]shared.Source{{Backend: p, From: shared.From{Mounts: all}}}, []shared.Target{{Backend: p, To: shared.To{Mounts: all}}},
		&sender{texts: map[string]string{"m": "text"}}, &told)
	ms, err := s.Mounts(t.Context(), shared.MountName{ID: "m", Platform: "p"}, "")
	if err != nil || len(ms) != 1 {
		t.Fatalf("%v, %v", ms, err)
	}
	ms[0].Spoiled(ms[0].Manifest.Digest)
	if err := s.Finish(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := found(t, "m", "", shared.Source{Backend: p, From: shared.From{Mounts: all}}); got != "text" {
		t.Errorf("got %q", got)
	}
}

// loose is a place whose indexes are overwritten.
type loose struct{ *sharedtest.Memory }

// Loose implements shared.Loose.
func (loose) Loose() bool { return true }

// TestNoRoom does not write again and again what there is no room for.
func TestNoRoom(t *testing.T) {
	p := loose{&sharedtest.Memory{}}
	replaced := 0
	p.Fault = func(op string) error {
		if op == "replace" {
			replaced++
		}
		return nil
	}
	export(t, p, shared.To{Mounts: all, MaxSize: 4}, &sender{texts: map[string]string{"m": "larger"}})
	if replaced != 1 {
		t.Errorf("the index was replaced %d times", replaced)
	}
}

// TestMountsUnavailable is no error.
func TestMountsUnavailable(t *testing.T) {
	p := &sharedtest.Memory{Fault: func(op string) error {
		if op == "store" {
			return fs.ErrPermission
		}
		return nil
	}}
	var told []string
	s := session(nil, []shared.Target{{Backend: p, To: shared.To{Mounts: all}}}, &sender{texts: map[string]string{"m": "text"}}, &told)
	if err := s.Finish(t.Context(), nil); err != nil || len(told) != 1 || !strings.Contains(told[0], "export cache mounts to memory") {
		t.Errorf("%v, %q", err, told)
	}
	s = session(nil, []shared.Target{{Backend: p, To: shared.To{Mounts: all, Strict: true}}}, &sender{texts: map[string]string{"m": "text"}}, &told)
	if err := s.Finish(t.Context(), nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("strict: %v", err)
	}
}

func TestTakeMounts(t *testing.T) {
	for text, want := range map[string]shared.Select{
		"type=local":                          {},
		"type=local,mounts=true":              {All: true},
		"type=local,mounts=false":             {},
		"type=local,mounts=a,mounts=b":        {IDs: []string{"a", "b"}},
		"type=local,mounts=/root/.npm;go-mod": {IDs: []string{"/root/.npm", "go-mod"}},
		`type=local,"mounts=a,b"`:             {IDs: []string{"a,b"}},
	} {
		a, err := shared.ParseAttrs(text)
		if err != nil {
			t.Fatal(err)
		}
		to, err := shared.TakeTo(a, nil)
		if err != nil || to.Mounts.All != want.All || !slices.Equal(to.Mounts.IDs, want.IDs) {
			t.Errorf("%s: %+v, %v", text, to.Mounts, err)
		}
		if text == "type=local" {
			if from, err := shared.TakeFrom(a, nil); err != nil || !from.Mounts.All {
				t.Errorf("all are restored by default: %+v, %v", from, err)
			}
		}
	}
}

// TestMountsAtOnce has several write one scope: nothing is lost.
func TestMountsAtOnce(t *testing.T) {
	p := &sharedtest.Memory{}
	var wg sync.WaitGroup
	ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, id := range ids {
		wg.Go(func() { export(t, p, shared.To{Mounts: all}, &sender{texts: map[string]string{id: "text of " + id}}) })
	}
	wg.Wait()
	for _, id := range ids {
		if got := found(t, id, "", shared.Source{Backend: p, From: shared.From{Mounts: all}}); got != "text of "+id {
			t.Errorf("%s: %q", id, got)
		}
	}
}
