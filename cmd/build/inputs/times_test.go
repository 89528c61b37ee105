package inputs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestNewestInArchive finds the time of an archive that a server gives no time for.
func TestNewestInArchive(t *testing.T) {
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "a", Typeflag: tar.TypeReg, ModTime: time.Unix(1000, 0)},
		{Name: "b", Typeflag: tar.TypeReg, ModTime: time.Unix(3000, 0)},
		{Name: "c", Typeflag: tar.TypeReg, ModTime: time.Unix(2000, 0)},
		{Name: "d/", Typeflag: tar.TypeDir, ModTime: time.Unix(9000, 0)}, // is made when it is unpacked
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	var zipped, text bytes.Buffer
	for out, data := range map[*bytes.Buffer][]byte{&zipped: archive.Bytes(), &text: []byte("no archive")} {
		zw := gzip.NewWriter(out)
		if _, err := zw.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		data []byte
		want int64 // 0: none
	}{
		"tar":           {archive.Bytes(), 3000},
		"tar.gz":        {zipped.Bytes(), 3000},
		"text":          {[]byte("no archive, but long enough that it could be one"), 0},
		"text.gz":       {text.Bytes(), 0},
		"broken gzip":   {zipped.Bytes()[:4], 0},
		"cut short":     {archive.Bytes()[:700], 0},
		"nothing":       {nil, 0},
		"an empty tar":  {make([]byte, 1024), 0},
		"looks like xz": {[]byte("\xfd7zXZ\x00 but is not"), 0},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := newestInArchive(t.Context(), path)
		if err != nil || (got == nil) != (c.want == 0) || got != nil && got.Unix() != c.want {
			t.Errorf("%s: %v, %v, want %d", name, got, err, c.want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newestInArchive(ctx, path); !errors.Is(err, enough) {
		t.Errorf("given up: %v", err)
	}
}
