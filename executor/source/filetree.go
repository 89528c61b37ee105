package source

import (
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// fileTree is a directory that holds one file.
type fileTree struct {
	host  string // where the content is
	entry snapshot.Entry
}

// newFileTree makes the tree of a download.
func newFileTree(host, name, mode string, e *httpEntry) (*fileTree, error) {
	perm, err := strconv.ParseUint(mode, 8, 32)
	if err != nil {
		return nil, fileError(name, err)
	}
	mod := e.modTime()
	if mod.IsZero() {
		mod = time.Unix(0, 0).UTC()
	}
	return &fileTree{host: host, entry: snapshot.Entry{
		Path: safeName(name), Type: snapshot.TypeFile, Mode: uint32(perm) & 0o7777,
		Size: e.Size, ModTime: mod, Digest: e.Digest,
	}}, nil
}

// Lstat implements snapshot.Tree.
func (t *fileTree) Lstat(p string) (*snapshot.Entry, error) {
	switch p = path.Clean(p); p {
	case ".", "/":
		return &snapshot.Entry{Path: ".", Type: snapshot.TypeDir, Mode: 0o755, ModTime: t.entry.ModTime}, nil
	case t.entry.Path:
		e := t.entry
		return &e, nil
	}
	return nil, &fs.PathError{Op: "lstat", Path: "/" + p, Err: fs.ErrNotExist}
}

// ReadDir implements snapshot.Tree.
func (t *fileTree) ReadDir(p string) ([]*snapshot.Entry, error) {
	e, err := t.Lstat(p)
	if err != nil {
		return nil, err
	}
	if e.Type != snapshot.TypeDir {
		return nil, &fs.PathError{Op: "readdir", Path: "/" + p, Err: errNotDir}
	}
	file := t.entry
	return []*snapshot.Entry{&file}, nil
}

// Open implements snapshot.Tree.
func (t *fileTree) Open(p string) (io.ReadCloser, error) {
	e, err := t.Lstat(p)
	if err != nil {
		return nil, err
	}
	if e.Type != snapshot.TypeFile {
		return nil, &fs.PathError{Op: "open", Path: "/" + p, Err: fs.ErrInvalid}
	}
	return os.Open(t.host)
}

// Digest implements snapshot.Tree.
func (t *fileTree) Digest(p string) (digest.Digest, error) {
	e, err := t.Lstat(p)
	if err != nil {
		return "", err
	}
	return e.Digest, nil
}

var _ snapshot.Tree = (*fileTree)(nil)
