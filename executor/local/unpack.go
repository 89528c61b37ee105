package local

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

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/archive"
	"layered.build/builder/snapshot/sparse"
)

// unpack adds the content of a source that is a tar, plain or compressed, to the
// draft. It reports false if the source is something else.
func (e *editor) unpack(ctx context.Context, c *copier, m match, dest string) (bool, error) {
	src, err := c.from.Lstat(m.real)
	if err != nil || src.Type != snapshot.TypeFile {
		return false, err
	}
	if ok, err := isArchive(ctx, c.from, m.real); !ok || err != nil {
		return false, err
	}
	if e.spool == nil {
		if e.spool, err = newSpool(e.w.folder(runFolder)); err != nil {
			return false, err
		}
	}
	f, err := c.from.Open(m.real)
	if err != nil {
		return false, err
	}
	defer f.Close()
	plain, err := PlainTar(ctx, f)
	if err != nil {
		return false, fmt.Errorf("unpack /%s: %w", m.name, err)
	}
	at := *c
	at.mode = nil // --chmod is for what is copied
	root, err := at.makeDirs(dest)
	if err != nil {
		plain.Close()
		return false, err
	}
	u := newUnpacker(&at, root)
	u.spool = e.spool
	err = u.run(ctx, tar.NewReader(plain))
	plain.Close()
	// A tar may end before its file does, which is where it is found out that the file is
	// not what it was.
	if _, rest := io.Copy(io.Discard, f); rest != nil {
		err = errors.Join(err, rest)
	}
	if err != nil {
		return false, fmt.Errorf("unpack /%s: %w", m.name, err)
	}
	return true, nil
}

// isArchive reports whether a file is a tar, found out from its content.
func isArchive(ctx context.Context, t snapshot.Tree, p string) (bool, error) {
	f, err := t.Open(p)
	if err != nil {
		return false, err
	}
	defer f.Close()
	plain, err := PlainTar(ctx, f)
	if errors.Is(err, errNoXZ) {
		return false, fmt.Errorf("unpack /%s: %w", p, err)
	}
	if err != nil { // it only begins like a compressed file
		return false, nil
	}
	defer plain.Close()
	_, err = tar.NewReader(plain).Next()
	return err == nil, nil
}

// unpacker adds the entries of a tar to a draft. No path of the tar is ever
// resolved on a real file system, so none can lead out of the draft.
type unpacker struct {
	draft *draft
	spool *spool
	owner *owner // nil: as the tar says
	root  string
	place archive.Place // of what lies below root
}

// newUnpacker returns one for what a copier copies, without its spool. Folders that the
// archive has no entries for are root's, whoever owns the rest.
func newUnpacker(c *copier, root string) *unpacker {
	u := &unpacker{draft: c.to, owner: c.owner, root: root}
	u.place.Look = func(p string) (archive.Found, error) {
		e, err := u.draft.Lstat(path.Join(root, p))
		if err != nil {
			return archive.Found{}, err
		}
		return archive.Found{Dir: e.Type == snapshot.TypeDir, Link: e.Linkname}, nil
	}
	u.place.Mkdir = func(p string) error {
		u.draft.mkdirNew(path.Join(root, p), newDirs{mode: 0o755, owner: &owner{}, at: c.now})
		return nil
	}
	return u
}

func (u *unpacker) run(ctx context.Context, r *tar.Reader) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // it only looks like an entry: its name means nothing
		}
		if err := u.entry(h, r); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	p, err := u.place.Entry(h.Name)
	if err != nil || p == "." {
		return err
	}
	p = path.Join(u.root, p)
	e := snapshot.Entry{Path: p, Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: h.ModTime}
	if u.owner != nil {
		e.UID, e.GID = u.owner.uid, u.owner.gid
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = v
		}
	}
	was, err := u.draft.Lstat(p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if was != nil && (h.Typeflag != tar.TypeDir || was.Type != snapshot.TypeDir) {
		u.draft.remove(p)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if was != nil && was.Type == snapshot.TypeDir {
			e.Type, e.Opaque = snapshot.TypeDir, was.Opaque
			u.draft.put(e, nil)
			return nil
		}
		u.draft.mkdir(e)
		return nil
	case tar.TypeReg:
		return u.file(e, r)
	case tar.TypeLink:
		return u.link(e, h.Linkname)
	case tar.TypeSymlink:
		e.Type, e.Mode, e.Linkname = snapshot.TypeSymlink, 0o777, h.Linkname
	case tar.TypeChar:
		e.Type, e.DevMajor, e.DevMinor = snapshot.TypeChar, h.Devmajor, h.Devminor
	case tar.TypeBlock:
		e.Type, e.DevMajor, e.DevMinor = snapshot.TypeBlock, h.Devmajor, h.Devminor
	case tar.TypeFifo:
		e.Type = snapshot.TypeFifo
	default:
		return fmt.Errorf("entries of type %q are not supported", h.Typeflag)
	}
	u.draft.put(e, nil)
	return nil
}

func (u *unpacker) file(e snapshot.Entry, r io.Reader) error {
	open, size, d, err := u.spool.add(r)
	if err != nil {
		return err
	}
	e.Type, e.Size, e.Digest = snapshot.TypeFile, size, d
	u.draft.put(e, open)
	return nil
}

// link makes a hard link. What it names may be in the base, and is then taken into the
// layer.
func (u *unpacker) link(e snapshot.Entry, name string) error {
	first, err := u.place.Target(name)
	if err != nil {
		return err
	}
	first = path.Join(u.root, first)
	target, err := u.draft.Lstat(first)
	if err != nil {
		return err
	}
	switch target.Type {
	case snapshot.TypeDir:
		return fmt.Errorf("hard link to /%s, which is a directory", first)
	case snapshot.TypeSymlink:
		e.Mode = target.Mode
	}
	return u.draft.hardlink(first, e)
}

// spool keeps the contents of archives in one temporary file.
type spool struct {
	f    *os.File
	size int64
}

func newSpool(dir string) (*spool, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "unpack-*")
	if err != nil {
		return nil, err
	}
	// Without a name, nothing is left however this process ends.
	return &spool{f: f}, os.Remove(f.Name())
}

// add stores a content and returns a way to read it again.
func (s *spool) add(r io.Reader) (func() (io.ReadCloser, error), int64, digest.Digest, error) {
	d := sparse.New()
	at := s.size
	n, err := io.Copy(io.MultiWriter(s.f, d), r)
	s.size += n
	if err != nil {
		return nil, 0, "", err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(s.f, at, n)), nil }
	return open, n, d.Digest(), nil
}

func (s *spool) close() error { return s.f.Close() }
