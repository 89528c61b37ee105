package registry

import (
	"archive/tar"
	"io"
	"os"
	"strings"
	"testing"
)

func TestWindowsLayers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the directories that lead to files are root's")
	}
	isolate(t)
	c := newTestClient(t, quick)
	img := madeImage(t, c)
	got, err := WindowsLayers(t.Context(), c.store, img.Stack)
	if err != nil {
		t.Fatal(err)
	}
	again, err := WindowsLayers(t.Context(), c.store, img.Stack)
	if err != nil || len(got) != 2 || again.ChainID() != got.ChainID() {
		t.Errorf("made again: %v, want %v (%v)", again, got, err)
	}
	r, err := c.store.Tar(t.Context(), got[1])
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
		if h.Name == "Files/b" && (h.PAXRecords[winSecurity] != winFileSecurity || h.PAXRecords[winAttributes] != "32" || h.Mode != 1<<15|0o644) {
			t.Errorf("%+v", h)
		}
	}
	if s := strings.Join(names, " "); s != "Hives Files Files/b" {
		t.Errorf("entries %s", s)
	}
}
