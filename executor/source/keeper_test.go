package source

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/gc"
	"layered.build/builder/snapshot/gc/gctest"
)

func TestKeeper(t *testing.T) {
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := func(name string) string { return filepath.Join(s.Root(), name) }
	k := Keeper(s.Root())
	if found, err := k.Items(t.Context()); err != nil || len(found.Items) != 0 {
		t.Errorf("a new store has %v, %v", found.Items, err)
	}
	write(t, s.Root(), map[string]string{
		"contexts/0a": "index", "sources/http/blobs/0b": "blob", "sources/http/urls/0c": "{}", "sources/http/urls/0c.lock": "",
		"sources/git/repos/0d.git/HEAD": "ref", "sources/git/repos/0d.git.lock": "", "sources/git/checkouts/0e/tree/file": "x",
		"sources/git/checkouts/0f/tree/file": "x", "sources/git/known_hosts": "keys",
	})
	used := func() (used []string) {
		t.Helper()
		found, err := k.Items(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range found.Items {
			if it.InUse {
				used = append(used, it.Path)
			}
		}
		return used
	}
	if n := len(used()); n != 7 {
		t.Errorf("%d of 7 things were just touched", n)
	}
	long := time.Now().Add(-time.Hour)
	for _, f := range remoteFolders {
		entries, err := os.ReadDir(at(filepath.Join(SourcesFolder, f.name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.Chtimes(at(filepath.Join(SourcesFolder, f.name, e.Name())), long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := used(); len(left) != 0 {
		t.Errorf("in use: %v", left)
	}

	// A repository is held by the lock beside it, a checkout by itself.
	for held, want := range map[string]string{"sources/git/repos/0d.git.lock": "sources/git/repos/0d.git", "sources/git/checkouts/0e": "sources/git/checkouts/0e"} {
		lock, err := files.TryLockExisting(at(held), files.Shared)
		if err != nil {
			t.Fatal(err)
		}
		busy := map[string]bool{}
		for _, p := range used() {
			busy[p] = true
		}
		if !busy[want] || busy["sources/git/checkouts/0f"] {
			t.Errorf("while %s is locked, in use are %v", held, busy)
		}
		if err := s.Collect(t.Context(), func(c *snapshot.Collection) error {
			ok, err := k.Remove(c, gc.Item{Kind: gc.KindGit, Path: want})
			if ok {
				t.Errorf("%s was removed while it was held", want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
	gctest.Run(t, s, k, gc.KindContext, gc.KindGit, gc.KindHTTP)
}

// silent is a server that has sent a part, and then nothing: what is asked for next is
// done before the rest comes.
type silent struct {
	rest io.Reader
	next func()
}

func (s *silent) Read(p []byte) (int, error) {
	if s.next != nil {
		s.next()
		s.next = nil
	}
	return s.rest.Read(p)
}

// What is being downloaded is in use, however long nothing came.
func TestDownloadIsHeld(t *testing.T) {
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := Keeper(s.Root())
	r := newRemote(t, RemoteOptions{Dir: filepath.Join(s.Root(), SourcesFolder)})
	body := io.MultiReader(strings.NewReader("begin "), &silent{rest: strings.NewReader("end"), next: func() {
		found, err := k.Items(t.Context())
		if err != nil || len(found.Items) != 1 {
			t.Fatalf("items %+v, %v", found.Items, err)
		}
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(s.Root(), found.Items[0].Path), long, long); err != nil {
			t.Fatal(err)
		}
		if found, err = k.Items(t.Context()); err != nil || !found.Items[0].InUse {
			t.Errorf("a download is not in use: %+v, %v", found.Items, err)
		}
		if err := s.Collect(t.Context(), func(c *snapshot.Collection) error {
			ok, err := k.Remove(c, found.Items[0])
			if ok {
				t.Error("a download was removed while it came")
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}})
	if _, n, err := r.saveBlob(body); err != nil || n != 9 {
		t.Errorf("saved %d bytes, %v", n, err)
	}
}
