package inputs

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
	"layered.build/builder/executor/source"
)

// unpacked is what is known of the files of an archive beside themselves.
type unpacked struct {
	newest time.Time               // of all regular files
	owners map[string]source.Owner // where they are not root
}

// unpackContext extracts a tar of a build context, compressed or not, into dir.
// Nothing is written outside dir. Device nodes are refused, since a context cannot
// hold any.
func unpackContext(ctx context.Context, dir string, r io.Reader) (*unpacked, error) {
	plain, err := local.PlainTar(ctx, r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	u := &unpacked{owners: map[string]source.Owner{}}
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u, nil
		}
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // it only looks like an entry: its name means nothing
		}
		if err := unpackEntry(root, h, tr); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		u.note(h)
	}
}

// note remembers the time and the owner of an entry.
func (u *unpacked) note(h *tar.Header) {
	if h.Typeflag == tar.TypeReg && h.ModTime.After(u.newest) {
		u.newest = h.ModTime.UTC()
	}
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	owner := source.Owner{UID: uint32(h.Uid), GID: uint32(h.Gid)}
	if h.Typeflag == tar.TypeLink {
		owner = u.owners[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
	}
	if owner == (source.Owner{}) {
		delete(u.owners, name) // an earlier entry of the name may have had one
		return
	}
	u.owners[name] = owner
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
