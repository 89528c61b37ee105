package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"layered.build/builder/executor/local"
)

// unpackContext extracts a tar of a build context, compressed or not, into dir, and
// returns the time of its newest file. Nothing is written outside dir. Device nodes
// are refused, since a context cannot hold any.
func unpackContext(ctx context.Context, dir string, r io.Reader) (newest time.Time, err error) {
	plain, err := local.PlainTar(ctx, r)
	if err != nil {
		return newest, err
	}
	defer plain.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return newest, err
	}
	defer root.Close()
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return newest, nil
		}
		if err != nil {
			return newest, err
		}
		if ctx.Err() != nil {
			return newest, context.Cause(ctx)
		}
		if err := unpackEntry(root, h, tr); err != nil {
			return newest, fmt.Errorf("%s: %w", h.Name, err)
		}
		if h.Typeflag == tar.TypeReg && h.ModTime.After(newest) {
			newest = h.ModTime.UTC()
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, r io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		return nil
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	if h.Typeflag != tar.TypeDir {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o755); err != nil {
			return err
		}
		return root.Chmod(name, mode|0o700)
	case tar.TypeReg:
		return unpackFile(root, name, mode, h, r)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("a context cannot hold an entry of type %q", string(h.Typeflag))
}

func unpackFile(root *os.Root, name string, mode fs.FileMode, h *tar.Header, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return root.Chtimes(name, h.ModTime, h.ModTime)
}
