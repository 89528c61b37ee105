package tree

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
	"layered.build/builder/snapshot/sparse"
)

// Layer is one layer of a Merged.
type Layer struct {
	// Index has the layer's entries.
	Index *manifest.Index
	// Dir and tar are where the layer's forms are, of which at least one exists.
	Dir string
	tar string
	// aliases are entries of the layer by further paths that they have; see Alias.
	aliases map[string]string
	// late, unless nil, brings the layer's forms when a file is opened.
	late *late
}

// Alias is a further path of a layer's entry: a hard link to an object of the layers below,
// at which they show what the layer shows, so that the layer has no entry for it.
type Alias struct{ Path, Entry string }

// Merged is the merged view of layers: of whole ones, by their manifests. It is a Tree
// a SameFiler and a HostPather, safe for concurrent use once all layers were added.
type Merged struct {
	// Layers are the layers, the topmost first.
	Layers []Layer

	mu sync.Mutex // guards visible
	// visible lists for a directory the layers that have a part of what is in it.
	visible map[string][]int
}

// NewMerged returns a tree of no layers.
func NewMerged() *Merged { return &Merged{visible: map[string][]int{}} }

// Add puts a layer below those that are there, before the tree is used. The layer has
// its manifest and at least one of the directory and the canonical tar.
func (t *Merged) Add(list, dir, tar string, aliases ...Alias) error {
	l, err := newLayer(list, dir, tar, aliases)
	if err != nil {
		return err
	}
	t.Layers = append(t.Layers, *l)
	return nil
}

func newLayer(list, dir, tar string, aliases []Alias) (*Layer, error) {
	idx, err := manifest.Open(list)
	if err != nil {
		return nil, err
	}
	l := &Layer{Index: idx, Dir: dir, tar: tar}
	for _, a := range aliases {
		if l.aliases == nil {
			l.aliases = map[string]string{}
		}
		l.aliases[a.Path] = a.Entry
	}
	return l, nil
}

var _ interface {
	Tree
	HostPather
	SameFiler
} = (*Merged)(nil)

// NotExist is the error of a path that a tree has not; it matches fs.ErrNotExist.
func NotExist(op, p string) error {
	return &fs.PathError{Op: op, Path: p, Err: fs.ErrNotExist}
}

// DirLayers returns which of Layers make up a directory, topmost first. The list must
// not be changed.
func (t *Merged) DirLayers(dir string) ([]int, error) {
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
		r, err := t.Layers[i].Index.Find(dir)
		if errors.Is(err, fs.ErrNotExist) {
			if dir == "." {
				vis = append(vis, i)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.Type != manifest.TypeDir {
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
func (t *Merged) candidates(p string) ([]int, error) {
	if p != "." {
		return t.DirLayers(path.Dir(p))
	}
	all := make([]int, len(t.Layers))
	for i := range all {
		all[i] = i
	}
	return all, nil
}

// Lookup returns what a path shows and the layer that it comes from, which is nil for
// a root that no layer has. Op is what errors say was done.
func (t *Merged) Lookup(op, p string) (*manifest.Record, *Layer, error) {
	if !manifest.ValidPath(p) {
		return nil, nil, &fs.PathError{Op: op, Path: p, Err: fs.ErrInvalid}
	}
	candidates, err := t.candidates(p)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range candidates {
		l := &t.Layers[i]
		r, err := l.Index.Find(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, &fs.PathError{Op: op, Path: p, Err: err}
		}
		if r.Type == manifest.TypeWhiteout {
			break
		}
		return r, l, nil
	}
	if p == "." {
		return &manifest.Record{Entry: manifest.Entry{Path: ".", Type: manifest.TypeDir, Mode: 0o755}}, nil, nil
	}
	return nil, nil, NotExist(op, p)
}

// Lstat implements Tree.
func (t *Merged) Lstat(p string) (*manifest.Entry, error) {
	r, _, err := t.Lookup("lstat", p)
	if err != nil {
		return nil, err
	}
	return &r.Entry, nil
}

// SameFile implements SameFiler.
func (t *Merged) SameFile(p string) string {
	r, l, err := t.Lookup("lstat", p)
	if err != nil || l == nil {
		return ""
	}
	name := r.Path
	if r.Hardlink != "" {
		name = r.Hardlink
	}
	for i := range t.Layers {
		at := &t.Layers[i]
		if entry, ok := at.aliases[p]; ok && at != l {
			return fmt.Sprintf("%d/%s", i, entry)
		}
		if at == l {
			return fmt.Sprintf("%d/%s", i, name)
		}
	}
	return ""
}

// ReadDir implements Tree.
func (t *Merged) ReadDir(p string) ([]*manifest.Entry, error) {
	placed, err := t.List(p)
	if err != nil {
		return nil, err
	}
	list := make([]*manifest.Entry, len(placed))
	for i := range placed {
		list[i] = &placed[i].Entry
	}
	return list, nil
}

// Placed is an object and the layer that it comes from.
type Placed struct {
	*manifest.Record
	Layer *Layer
}

// List is ReadDir that says where the objects come from.
func (t *Merged) List(p string) ([]Placed, error) {
	r, _, err := t.Lookup("readdir", p)
	if err != nil {
		return nil, err
	}
	if r.Type != manifest.TypeDir {
		return nil, &fs.PathError{Op: "readdir", Path: p, Err: unix.ENOTDIR}
	}
	vis, err := t.DirLayers(p)
	if err != nil {
		return nil, err
	}
	var list []Placed
	seen := map[string]bool{}
	for _, i := range vis {
		err := t.Layers[i].Index.Children(p, func(r *manifest.Record) {
			if len(vis) > 1 {
				if seen[r.Path] {
					return
				}
				seen[r.Path] = true
			}
			if r.Type != manifest.TypeWhiteout {
				list = append(list, Placed{r, &t.Layers[i]})
			}
		})
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: p, Err: err}
		}
	}
	slices.SortFunc(list, func(a, b Placed) int { return cmp.Compare(a.Path, b.Path) })
	return list, nil
}

func (t *Merged) file(op, p string) (*manifest.Record, *Layer, error) {
	r, l, err := t.Lookup(op, p)
	if err != nil {
		return nil, nil, err
	}
	if r.Type != manifest.TypeFile {
		return nil, nil, &fs.PathError{Op: op, Path: p, Err: fmt.Errorf("not a regular file: %w", fs.ErrInvalid)}
	}
	return r, l, nil
}

// Open implements Tree.
func (t *Merged) Open(p string) (io.ReadCloser, error) {
	r, l, err := t.file("open", p)
	if err != nil {
		return nil, err
	}
	return l.Open(r)
}

// Open opens a file's content in the form that is there. Another process may
// replace the tar by the directory meanwhile.
func (l *Layer) Open(r *manifest.Record) (io.ReadCloser, error) {
	f, offset, err := l.OpenFile(r)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		return sparse.NewSection(f, offset, r.Size, true), nil
	}
	return f, nil
}

// OpenFile opens the file that holds a file's content, from an offset on that is 0
// only if it is a file of its own.
func (l *Layer) OpenFile(r *manifest.Record) (*os.File, int64, error) {
	if l.late != nil {
		return l.late.openFile(r)
	}
	f, err := os.OpenFile(filepath.Join(l.Dir, r.Path), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, 0, err
	}
	tar, terr := os.Open(l.tar)
	if terr == nil {
		return tar, r.Offset, nil
	}
	f, err = os.OpenFile(filepath.Join(l.Dir, r.Path), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	return f, 0, err
}

// Digest implements Tree.
func (t *Merged) Digest(p string) (digest.Digest, error) {
	r, l, err := t.file("digest", p)
	if err != nil {
		return "", err
	}
	if r.Digest != "" {
		return r.Digest, nil
	}
	f, err := l.Open(r)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return sparse.FromReader(f)
}

// HostPath implements HostPather, for regular files of layers that have a
// directory.
func (t *Merged) HostPath(p string) (string, bool) {
	r, l, err := t.file("open", p)
	if err != nil {
		return "", false
	}
	if l.late != nil {
		return "", false
	}
	host := filepath.Join(l.Dir, r.Path)
	var st unix.Stat_t
	if err := object.Lstat(host, &st); err != nil {
		return "", false
	}
	return host, true
}
