package winlayers

import (
	"archive/tar"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"layered.build/builder/snapshot"
)

func TestConvert(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the directories that lead to files are root's")
	}
	store, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var stack snapshot.Stack
	for _, name := range []string{"a", "b"} {
		data := strings.Repeat(name, 9000)
		change := snapshot.Change{
			Entry: snapshot.Entry{Path: name, Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(1, 0)},
			Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil },
		}
		l, err := store.WriteLayer(t.Context(), stack, []snapshot.Change{change}, snapshot.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stack = append(stack[:len(stack):len(stack)], l)
	}
	got, err := Convert(t.Context(), store, stack)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Convert(t.Context(), store, stack)
	if err != nil || len(got) != 2 || again.ChainID() != got.ChainID() {
		t.Errorf("made again: %v, want %v (%v)", again, got, err)
	}
	r, err := store.Tar(t.Context(), got[1])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var names []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Name == "Files/b" && (h.PAXRecords[security] != fileSecurity || h.PAXRecords[attributes] != "32" || h.Mode != 1<<15|0o644) {
			t.Errorf("%+v", h)
		}
	}
	if s := strings.Join(names, " "); s != "Hives Files Files/b" {
		t.Errorf("entries %s", s)
	}
}
