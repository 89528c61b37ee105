package snapshot_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"layered.build/builder/executor/rootless/rootlesstest"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/folder"
)

// TestMain lets the test binary stand in for other processes on a store. No test
// leaves a goroutine.
func TestMain(m *testing.M) {
	rootlesstest.Enter()
	if root := os.Getenv("SNAPSHOT_TEST_CHILD"); root != "" {
		child(root)
	}
	goleak.VerifyTestMain(m)
}

// child leaves a snapshot, a blob and a layer in the making, says so, and waits to
// be killed.
func child(root string) {
	s, err := snapshot.Open(root, snapshot.Options{})
	if err == nil {
		_, err = s.Prepare(context.Background(), nil)
	}
	if err == nil {
		_, err = s.Blobs().Writer(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	blocked, _ := io.Pipe()
	go s.Import(context.Background(), nil, "", io.MultiReader(bytes.NewReader(make([]byte, 300)), blocked))
	for {
		if names, _ := os.ReadDir(filepath.Join(root, "tmp")); len(names) == 2 {
			break
		}
	}
	fmt.Println("ready")
	select {}
}

func TestReclaim(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	mine, err := s.Prepare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SNAPSHOT_TEST_CHILD="+s.Root())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("child: %s", line)
	}
	count := func() string {
		n := ""
		for _, d := range []string{"active", "tmp", "locks"} {
			names, err := os.ReadDir(filepath.Join(s.Root(), d))
			if err != nil {
				t.Fatal(err)
			}
			n += fmt.Sprint(d, len(names), " ")
		}
		return n
	}
	if err := s.Reclaim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != "active2 tmp2 locks2 " {
		t.Errorf("while the child lives: %s", got)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if err := s.Reclaim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != "active1 tmp0 locks1 " {
		t.Errorf("after the child's death: %s", got)
	}
	if _, err := mine.Commit(t.Context(), snapshot.CommitOptions{}); err != nil {
		t.Errorf("the living process's snapshot: %v", err)
	}
}

func TestVersion(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "version"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.Open(root, snapshot.Options{}); !errors.Is(err, folder.ErrVersion) || !strings.Contains(err.Error(), `"99"`) {
		t.Errorf("open: %v", err)
	}
}

// TestSecondStore: what one store on a folder has, another one has too.
func TestSecondStore(t *testing.T) {
	needRoot(t)
	a := openStore(t)
	b, err := snapshot.Open(a.Root(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	l, err := a.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", "x")}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same, err := b.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", "x")}, snapshot.WriteOptions{Dir: true})
	if err != nil || same != l {
		t.Errorf("made again: %+v %v", same, err)
	}
	if all, err := b.Layers(); err != nil || len(all) != 1 || all[0] != l {
		t.Errorf("layers: %v %v", all, err)
	}
	if n, err := b.Usage(l.ID); err != nil || n == 0 {
		t.Errorf("usage: %d %v", n, err)
	}
	if err := b.Remove(t.Context(), l.ID); !errors.Is(err, snapshot.ErrInUse) {
		t.Errorf("remove what another store uses: %v", err)
	}
	if err := a.Materialize(t.Context(), snapshot.Stack{l}); err != nil {
		t.Error(err)
	}
	if err := a.Release(); err != nil {
		t.Error(err)
	}
	if err := b.Remove(t.Context(), l.ID); err != nil {
		t.Error(err)
	}
	if a.Has(l.ID) {
		t.Error("removed, but there")
	}
	if err := a.Materialize(t.Context(), snapshot.Stack{l}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("materialize what was removed: %v", err)
	}
	if err := b.Remove(t.Context(), l.ID); err != nil {
		t.Errorf("remove again: %v", err)
	}
}

func TestBlobs(t *testing.T) {
	b := openStore(t).Blobs()
	d, err := b.Put(t.Context(), []byte("data"))
	if err != nil || d != digest.FromString("data") {
		t.Fatal(d, err)
	}
	if data, err := b.ReadAll(d); err != nil || string(data) != "data" {
		t.Error(data, err)
	}
	w, err := b.Writer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "other")
	if _, err := w.Commit(d); err == nil {
		t.Error("a blob was committed as another")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(b.Path(d), []byte("evil"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadAll(d); err == nil {
		t.Error("a damaged blob was read")
	}
	for _, bad := range []digest.Digest{"", "sha256:../../version", "sha512:00", digest.Digest("sha256:" + strings.Repeat("G", 64))} {
		if _, err := b.Open(bad); err == nil {
			t.Errorf("%s was opened", bad)
		}
	}
	if err := b.Remove(d); err != nil || b.Has(d) {
		t.Error(err)
	}
}
