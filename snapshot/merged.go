package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// treeLayer is one layer of a stackTree.
type treeLayer struct {
	idx      *manifest.Index
	dir, tar string // the forms; at least one exists
}

// stackTree is the merged view of layers, topmost first.
type stackTree struct {
	layers []treeLayer

	mu sync.Mutex // guards visible
	// visible lists for a directory the layers that have a part of what is in it.
	visible map[string][]int
}

// newMerged returns a tree of no layers.
func newMerged() *stackTree { return &stackTree{visible: map[string][]int{}} }

// add puts a layer below those that are there, before the tree is used. The layer has
// its manifest and at least one of the directory and the canonical tar.
func (t *stackTree) add(list, dir, tar string) error {
	idx, err := manifest.Open(list)
	if err == nil {
		t.layers = append(t.layers, treeLayer{idx: idx, dir: dir, tar: tar})
	}
	return err
}

var _ interface {
	Tree
	HostPather
} = (*stackTree)(nil)

func notExist(op, p string) error {
	return &fs.PathError{Op: op, Path: p, Err: fs.ErrNotExist}
}

// dirLayers returns the layers that make up a directory, topmost first.
func (t *stackTree) dirLayers(dir string) ([]int, error) {
	t.mu.Lock()
	vis, ok := t.visible[dir]
	t.mu.Unlock()
	if ok {
		return vis, nil
	}
	candidates, err := t.candidates(dir)
	if err != nil {
		return nil, err
	}
	for _, i := range candidates {
		r, err := t.layers[i].idx.Find(dir)
		if errors.Is(err, fs.ErrNotExist) {
			if dir == "." {
				vis = append(vis, i)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.Type != TypeDir {
			break
		}
		vis = append(vis, i)
		if r.Opaque {
			break
		}
	}
	t.mu.Lock()
	t.visible[dir] = vis
	t.mu.Unlock()
	return vis, nil
}

// candidates are the layers in which a path may be.
func (t *stackTree) candidates(p string) ([]int, error) {
	if p != "." {
		return t.dirLayers(path.Dir(p))
	}
	all := make([]int, len(t.layers))
	for i := range all {
		all[i] = i
	}
	return all, nil
}

func (t *stackTree) lookup(op, p string) (*manifest.Record, *treeLayer, error) {
	if !fs.ValidPath(p) {
		return nil, nil, &fs.PathError{Op: op, Path: p, Err: fs.ErrInvalid}
	}
	candidates, err := t.candidates(p)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range candidates {
		l := &t.layers[i]
		r, err := l.idx.Find(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, &fs.PathError{Op: op, Path: p, Err: err}
		}
		if r.Type == TypeWhiteout {
			break
		}
		return r, l, nil
	}
	if p == "." {
		return &manifest.Record{Entry: Entry{Path: ".", Type: TypeDir, Mode: 0o755}}, nil, nil
	}
	return nil, nil, notExist(op, p)
}

// Lstat implements Tree.
func (t *stackTree) Lstat(p string) (*Entry, error) {
	r, _, err := t.lookup("lstat", p)
	if err != nil {
		return nil, err
	}
	return &r.Entry, nil
}

// ReadDir implements Tree.
func (t *stackTree) ReadDir(p string) ([]*Entry, error) {
	placed, err := t.list(p)
	if err != nil {
		return nil, err
	}
	list := make([]*Entry, len(placed))
	for i := range placed {
		list[i] = &placed[i].Entry
	}
	return list, nil
}

// placed is an object and the layer that it comes from.
type placed struct {
	*manifest.Record
	layer *treeLayer
}

// list is ReadDir that says where the objects come from.
func (t *stackTree) list(p string) ([]placed, error) {
	r, _, err := t.lookup("readdir", p)
	if err != nil {
		return nil, err
	}
	if r.Type != TypeDir {
		return nil, &fs.PathError{Op: "readdir", Path: p, Err: unix.ENOTDIR}
	}
	vis, err := t.dirLayers(p)
	if err != nil {
		return nil, err
	}
	var list []placed
	seen := map[string]bool{}
	for _, i := range vis {
		err := t.layers[i].idx.Children(p, func(r *manifest.Record) {
			if len(vis) > 1 {
				if seen[r.Path] {
					return
				}
				seen[r.Path] = true
			}
			if r.Type != TypeWhiteout {
				list = append(list, placed{r, &t.layers[i]})
			}
		})
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: p, Err: err}
		}
	}
	slices.SortFunc(list, func(a, b placed) int { return cmp.Compare(a.Path, b.Path) })
	return list, nil
}

func (t *stackTree) file(op, p string) (*manifest.Record, *treeLayer, error) {
	r, l, err := t.lookup(op, p)
	if err != nil {
		return nil, nil, err
	}
	if r.Type != TypeFile {
		return nil, nil, &fs.PathError{Op: op, Path: p, Err: fmt.Errorf("not a regular file: %w", fs.ErrInvalid)}
	}
	return r, l, nil
}

// Open implements Tree.
func (t *stackTree) Open(p string) (io.ReadCloser, error) {
	r, l, err := t.file("open", p)
	if err != nil {
		return nil, err
	}
	return l.open(r)
}

// open opens a file's content in the form that is there. Another process may
// replace the tar by the directory meanwhile.
func (l *treeLayer) open(r *manifest.Record) (io.ReadCloser, error) {
	f, offset, err := l.openFile(r)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		return &section{Reader: io.NewSectionReader(f, offset, r.Size), f: f}, nil
	}
	return f, nil
}

// openFile opens the file that holds a file's content, from an offset on that is 0
// only if it is a file of its own.
func (l *treeLayer) openFile(r *manifest.Record) (*os.File, int64, error) {
	f, err := os.OpenFile(filepath.Join(l.dir, r.Path), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, 0, err
	}
	tar, terr := os.Open(l.tar)
	if terr == nil {
		return tar, r.Offset, nil
	}
	f, err = os.OpenFile(filepath.Join(l.dir, r.Path), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	return f, 0, err
}

// section is a part of a file that closes the file.
type section struct {
	io.Reader
	f *os.File
}

// Close implements io.Closer.
func (s *section) Close() error { return s.f.Close() }

// Digest implements Tree.
func (t *stackTree) Digest(p string) (digest.Digest, error) {
	r, l, err := t.file("digest", p)
	if err != nil {
		return "", err
	}
	if r.Digest != "" {
		return r.Digest, nil
	}
	f, err := l.open(r)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest.SHA256.FromReader(f)
}

// HostPath implements HostPather, for regular files of layers that have a
// directory.
func (t *stackTree) HostPath(p string) (string, bool) {
	r, l, err := t.file("open", p)
	if err != nil {
		return "", false
	}
	host := filepath.Join(l.dir, r.Path)
	var st unix.Stat_t
	if err := object.Lstat(host, &st); err != nil {
		return "", false
	}
	return host, true
}
