package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/archive"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/tarsplit"
	"layered.build/builder/snapshot/tree"
)

// applier makes a layer's directory, manifest and tarsplit from a tar in one
// pass. The directory begins empty and nobody else writes to it, so that the
// nodes in memory say all about it: no path is ever resolved by the kernel
// through a symlink.
type applier struct {
	Target
	ctx    context.Context
	split  *tarsplit.Writer
	pool   *writePool
	looked bool      // for what lies below, or would if anything did
	below  tree.Tree // of the layers below; nil until it is needed

	nodes     map[string]*node
	whiteouts map[string]bool
	opaque    map[string]bool
	root      *object.Root
}

// node is one object of the layer.
type node struct {
	entry manifest.Entry // without what the inode says
	ino   *fileInode     // nil: a directory or whiteout
	// file is the number of the content in the tarsplit, -1 if there is none.
	file int
}

// fileInode is what hard links share.
type fileInode struct {
	digest  digest.Digest
	size    int64
	writing bool // the pool may not have made it yet
	// last is what headers of hard links made of the file; nil if it is as its own says.
	last *manifest.Entry
}

func newApplier(ctx context.Context, to Target) (*applier, error) {
	a := &applier{
		Target: to, ctx: ctx,
		nodes: map[string]*node{}, whiteouts: map[string]bool{}, opaque: map[string]bool{},
	}
	if err := os.Mkdir(a.Dir, 0o755); err != nil {
		return nil, err
	}
	w, err := tarsplit.Create(a.Split)
	if err != nil {
		return nil, err
	}
	a.split = w
	return a, nil
}

// run reads the tar and everything after it.
func (a *applier) run(r io.Reader) (*Layer, error) {
	a.pool = newWritePool(a.Maker)
	err := a.read(r)
	if perr := a.pool.close(); err == nil {
		err = perr
	}
	if err != nil {
		a.split.Abort()
		return nil, err
	}
	if err := a.split.Finish(); err != nil {
		return nil, err
	}
	return a.finish()
}

func (a *applier) read(r io.Reader) error {
	sr := tarsplit.NewReader(r, a.split)
	tr := tar.NewReader(sr)
	for {
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read tar: %w", err)
		}
		known := a.split.Entries()
		if err := a.entry(h, tr, sr); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
		if a.split.Entries() == known {
			a.split.Header(h.Name)
		}
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, sr, make([]byte, 64<<10)); err != nil {
		return fmt.Errorf("read tar: %w", err)
	}
	return nil
}

// errEscape says that a name leads out of the layer.
var errEscape = errors.New("leads out of the root directory")

// cleanName turns a name of a tar into a path as in Entry.Path.
func cleanName(name string) (string, error) {
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", errEscape
	}
	if strings.IndexByte(p, 0) >= 0 {
		return "", errors.New("has a zero byte in its name")
	}
	return p, nil
}

func (a *applier) entry(h *tar.Header, tr *tar.Reader, sr *tarsplit.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	e, err := headerEntry(h)
	if err != nil {
		return err
	}
	if name == "." {
		if e.Type != manifest.TypeDir {
			return errors.New("the root is no directory")
		}
		a.root = &object.Root{Mode: e.Mode, UID: e.UID, GID: e.GID}
		return nil
	}
	dir, err := a.ensureDir(path.Dir(name), 0)
	if err != nil {
		return err
	}
	base := path.Base(name)
	if strings.HasPrefix(base, archive.WhiteoutPrefix) {
		return a.whiteout(dir, base)
	}
	e.Path = path.Join(dir, base)
	if e.Type == manifest.TypeWhiteout {
		a.whiteouts[e.Path] = true
		return nil
	}
	return a.object(e, h, tr, sr)
}

// whiteout notes a whiteout; they take effect when all entries have been read,
// since they never concern entries of their own layer.
func (a *applier) whiteout(dir, base string) error {
	if base == archive.OpaqueMarker {
		a.opaque[dir] = true
		return nil
	}
	if strings.HasPrefix(base, ".wh..wh.") {
		return nil // aufs' own files
	}
	name := base[len(archive.WhiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return errEscape
	}
	a.whiteouts[path.Join(dir, name)] = true
	return nil
}

// headerEntry translates a tar header; Path is the caller's.
func headerEntry(h *tar.Header) (manifest.Entry, error) {
	e := manifest.Entry{Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: h.ModTime}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-2 || int64(h.Gid) > 1<<32-2 {
		return e, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && object.IsLayerXattr(name) {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = v
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		e.Type, e.Size = manifest.TypeFile, h.Size
	case tar.TypeLink:
		e.Type, e.Hardlink = manifest.TypeFile, h.Linkname
	case tar.TypeSymlink:
		e.Type, e.Linkname, e.Mode = manifest.TypeSymlink, h.Linkname, 0o777
	case tar.TypeDir:
		e.Type = manifest.TypeDir
	case tar.TypeFifo:
		e.Type = manifest.TypeFifo
	case tar.TypeChar, tar.TypeBlock:
		e.Type, e.DevMajor, e.DevMinor = manifest.TypeChar, h.Devmajor, h.Devminor
		if h.Typeflag == tar.TypeBlock {
			e.Type = manifest.TypeBlock
		} else if h.Devmajor == 0 && h.Devminor == 0 {
			e.Type = manifest.TypeWhiteout // what overlay takes it for
		}
	default:
		return e, fmt.Errorf("unknown type %q in the tar", h.Typeflag)
	}
	return e, nil
}

func (a *applier) host(p string) string { return filepath.Join(a.Dir, p) }

func (a *applier) object(e manifest.Entry, h *tar.Header, tr *tar.Reader, sr *tarsplit.Reader) error {
	old := a.nodes[e.Path]
	if old != nil && old.entry.Type == manifest.TypeDir && e.Type == manifest.TypeDir {
		old.entry = e
		return nil
	}
	if e.Hardlink != "" {
		return a.hardlink(e)
	}
	if old != nil {
		if err := a.drop(e.Path); err != nil {
			return err
		}
	}
	if err := a.Grow(diskBytes(e, isSparse(h))); err != nil {
		return err
	}
	n := &node{entry: e, file: -1}
	a.nodes[e.Path] = n
	if e.Type != manifest.TypeDir {
		n.ino = &fileInode{size: e.Size}
	}
	if e.Type == manifest.TypeFile {
		return a.content(n, h, tr, sr)
	}
	if err := a.Maker.Create(a.host(e.Path), &n.entry); err != nil || e.Type == manifest.TypeDir {
		return err
	}
	return a.Maker.SetMeta(a.host(e.Path), &n.entry)
}

// block is what the room on disk is counted in.
const block = 4096

// diskBytes is about what an entry takes on disk, its line in the manifest included;
// what a large sparse file takes is found out while it is written.
func diskBytes(e manifest.Entry, sparse bool) int64 {
	n := int64(len(e.Path)) + 128
	switch {
	case e.Type == manifest.TypeDir:
		n += block
	case e.Type == manifest.TypeFile && (!sparse || e.Size <= object.SmallFile):
		n += (e.Size + block - 1) / block * block
	}
	return n
}

// isSparse says that the stream does not hold the content byte for byte.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// content writes a regular file. What of a sparse file is in the stream is kept
// in the tarsplit.
func (a *applier) content(n *node, h *tar.Header, tr *tar.Reader, sr *tarsplit.Reader) error {
	var sum tarsplit.Sum
	sparse := isSparse(h)
	switch {
	case sparse:
		a.split.Header(h.Name)
	case n.entry.Size > 0:
		n.file, sum = a.split.File(splitName(h.Name, n.entry.Path), n.entry.Size)
		sr.Keep = false
		defer func() { sr.Keep = true }()
	}
	if n.entry.Size <= object.SmallFile {
		return a.pool.small(a.host(n.entry.Path), n, tr, sum)
	}
	return a.pool.large(a.host(n.entry.Path), n, tr, fileSink{sparse: sparse, sum: sum, grow: a.Grow})
}

// splitName is a file's name in the tarsplit: as the tar says it, unless symlinks
// led elsewhere.
func splitName(name, path string) string {
	if clean, err := cleanName(name); err == nil && clean == path {
		return name
	}
	return path
}
