package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// sparseFile makes a file of a size that has data at some offsets only, and returns its content.
func sparseFile(t *testing.T, path string, size int64, data ...int64) []byte {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	for _, at := range data {
		_, err := f.WriteAt([]byte("data"), at)
		must(t, err)
	}
	all, err := os.ReadFile(path)
	must(t, err)
	return all
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	must(t, err)
	return fi.Sys().(*syscall.Stat_t).Blocks
}

// Holes are packed as the zeros that they read as, and stay holes in a copy.
func TestHoles(t *testing.T) {
	const chunk = sinkChunk
	for i, c := range []struct {
		size int64
		data []int64
	}{
		{20 * chunk, nil},
		{20*chunk + 77, []int64{0}},
		{20*chunk + 77, []int64{20*chunk + 70}},
		{20 * chunk, []int64{5*chunk - 2, 9*chunk + 4096, 10*chunk + 5}},
		{20 * chunk, []int64{0, 20*chunk - 4}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			at := t.TempDir()
			want := sparseFile(t, filepath.Join(at, "a"), c.size, c.data...)
			it := other("a", manifest.TypeFile)
			it.Record.Size, it.Record.UID, it.Record.GID = c.size, uint32(os.Geteuid()), uint32(os.Getegid())
			it.Host, it.Dest = filepath.Join(at, "a"), filepath.Join(at, "copy")
			man, err := manifest.Create(filepath.Join(at, "manifest"))
			must(t, err)
			var out bytes.Buffer
			res, err := Run(t.Context(), Target{Maker: object.NewMaker(), Out: &out, Manifest: man}, emitAll(it))
			must(t, err)
			_, err = man.Finish()
			must(t, err)
			if got := out.Bytes()[512 : 512+c.size]; !bytes.Equal(got, want) || res.Digest != digest.FromBytes(out.Bytes()) {
				t.Error("the tar has another content")
			}
			got, err := os.ReadFile(it.Dest)
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Error("the copy has another content")
			}
			if was, is := blocks(t, it.Host), blocks(t, it.Dest); was < c.size/1024 && is > was+4*chunk/512 {
				t.Errorf("the file has %d blocks, the copy %d", was, is)
			}
			x, err := manifest.Open(filepath.Join(at, "manifest"))
			must(t, err)
			r, err := x.Record(0)
			must(t, err)
			if r.Digest != digest.FromBytes(want) {
				t.Error("the manifest has another digest")
			}
		})
	}
}

// A file that became shorter is not taken for one that ends with a hole; one that is not
// read from its beginning is read as it comes.
func TestHolesThatAreNone(t *testing.T) {
	at := t.TempDir()
	name := filepath.Join(at, "a")
	sparseFile(t, name, 4*sinkChunk)
	it := other("a", manifest.TypeFile)
	it.Record.Size, it.Host = 8*sinkChunk, name
	if _, err := Run(t.Context(), Target{Maker: object.NewMaker()}, emitAll(it)); err == nil {
		t.Error("a file that is too short was packed")
	}
	it.Record.Size, it.Host = 2*sinkChunk, ""
	it.Open = func() (io.ReadCloser, error) {
		f, err := os.Open(name)
		if err == nil {
			_, err = f.Seek(2*sinkChunk, io.SeekStart)
		}
		return f, errors.Join(err)
	}
	if _, err := Run(t.Context(), Target{Maker: object.NewMaker()}, emitAll(it)); err != nil {
		t.Error(err)
	}
}
