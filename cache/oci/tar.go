package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxSmall is the largest file of a layout beside its blobs.
const maxSmall = 4 << 20

var blobName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^blobs/sha256/[0-9a-f]{64}$`) })

// partOf reports whether a name is one of a file of a layout.
func partOf(name string) bool {
	return name == ocispec.ImageLayoutFile || name == ocispec.ImageIndexFile || blobName().MatchString(name)
}

// WriteTar writes a folder that is an OCI layout as a tar, in the order of names.
func WriteTar(w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || !partOf(filepath.ToSlash(name)) {
			return err
		}
		return addFile(t, path, filepath.ToSlash(name))
	})
	if err := errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("write %s as a tar: %w", dir, err)
	}
	return nil
}

func addFile(t *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: fi.Size(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// ReadTar writes the files of a layout that a tar holds into a folder, which it makes. What
// is no part of a layout is left out. Nothing is verified.
func ReadTar(r io.Reader, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, ocispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return err
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the tar: %w", err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag != tar.TypeReg || !partOf(name) {
			continue
		}
		if !strings.HasPrefix(name, ocispec.ImageBlobsDir) && h.Size > maxSmall {
			return fmt.Errorf("read the tar: %s has %d bytes", name, h.Size)
		}
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), t); err != nil {
			return fmt.Errorf("read the tar: %w", err)
		}
	}
}

func writeFile(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
