package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/snapshot"
)

// Tree is a directory of this machine without what ignore patterns exclude. Each
// object is looked at once, when it is first asked for, and a file again when it is
// hashed. Owners are 0:0 unless the Contexts say otherwise, and a socket reads as an empty regular
// file. A file that changes while or after it is hashed makes reading it an error. It
// implements snapshot.Tree.
type Tree struct {
	dir    string // absolute, without symlinks
	root   *os.File
	ignore *ignore
	index  *index // nil: nothing is remembered
	given  map[string]*Given
	opened time.Time // before anything was looked at

	// careful: whatever is hashed is kept, see Renew.
	careful bool
	spool   spool
	// changed, unless nil, is told of files that are taken as they were read.
	changed func(p string)

	mu     sync.Mutex // guards all below, and the fields of nodes
	dirs   map[string]*dirNode
	hashed int // files that were read
	told   map[string]bool
}

// dirNode is a directory whose children are known.
type dirNode struct {
	nodes   []*node // sorted by name
	matched []bool  // ignore patterns that match the directory
	changed bool    // the index lacks something of it
}

// node is a child of a directory. The entry is never changed once others can see
// it; a digest that is found later is put into a new entry.
type node struct {
	name  string
	entry *snapshot.Entry
	stat  fileStat
	// kept is the content of a file that does not stay the same; nil: it is in the file.
	kept *kept
	// changing: the file was not the same before and after it was read.
	changing bool
}

// Open returns the tree of a directory. StateDir keeps the stat index; "" keeps
// none. The caller closes the Tree.
func Open(dir string, excludes []string, stateDir string) (*Tree, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("open context: %w", err)
	}
	ig, err := newIgnore(excludes)
	if err != nil {
		return nil, err
	}
	root, err := openRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("open context %s: %w", dir, err)
	}
	t := &Tree{dir: abs, root: root, ignore: ig, opened: time.Now(), dirs: map[string]*dirNode{}, told: map[string]bool{}}
	if stateDir != "" {
		t.spool.dir = stateDir
		t.index = openIndex(stateDir, abs, excludes)
	}
	return t, nil
}

// Close closes the directory. Files that were opened stay readable, but for contents that
// were kept.
func (t *Tree) Close() error { return errors.Join(t.root.Close(), t.spool.close()) }

// Lstat implements snapshot.Tree.
func (t *Tree) Lstat(p string) (*snapshot.Entry, error) {
	n, err := t.find("lstat", p)
	if err != nil {
		return nil, err
	}
	return t.entryOf(n), nil
}

// ReadDir implements snapshot.Tree. The entries belong to the Tree.
func (t *Tree) ReadDir(p string) ([]*snapshot.Entry, error) {
	n, err := t.find("readdir", p)
	if err != nil {
		return nil, err
	}
	if t.entryOf(n).Type != snapshot.TypeDir {
		return nil, &fs.PathError{Op: "readdir", Path: "/" + p, Err: errNotDir}
	}
	d, err := t.load(path.Clean(p))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*snapshot.Entry, len(d.nodes))
	for i, n := range d.nodes {
		out[i] = n.entry
	}
	return out, nil
}

// Open implements snapshot.Tree. What is read is what was hashed, also if the file has
// grown; if that is lost, it fails with snapshot.ErrChanged, perhaps at the end only.
func (t *Tree) Open(p string) (io.ReadCloser, error) {
	n, err := t.find("open", p)
	if err != nil {
		return nil, err
	}
	e, stat := t.view(n)
	if e.Type != snapshot.TypeFile {
		return nil, &fs.PathError{Op: "open", Path: "/" + p, Err: errors.New("not a regular file")}
	}
	if stat.isSocket() {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if k := t.keptOf(n); k != nil {
		return k.open(), nil
	}
	f, err := t.openFile(e.Path)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", p, gone(err))
	}
	now, err := regular(f)
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("read /%s: %w", p, err), f.Close())
	case now.key() == stat.key() && !stat.racy(t.opened):
		return &checkedFile{f: f, path: e.Path, want: stat, digest: e.Digest}, nil
	}
	defer f.Close()
	if e.Digest == "" { // it was only listed, and is another now, or may be
		if err := t.hash(n); err != nil {
			return nil, err
		}
		return t.Open(p)
	}
	return t.restore(n, f)
}

// Digest implements snapshot.Tree.
func (t *Tree) Digest(p string) (digest.Digest, error) {
	n, err := t.find("digest", p)
	if err != nil {
		return "", err
	}
	if e := t.entryOf(n); e.Digest != "" || e.Type != snapshot.TypeFile {
		return e.Digest, nil
	}
	if err := t.hash(n); err != nil {
		return "", err
	}
	return t.entryOf(n).Digest, nil
}

// SameFile returns a name that the hard links of a file have in common, "" for a
// file with one link.
func (t *Tree) SameFile(p string) string {
	n, err := t.find("lstat", p)
	if err != nil {
		return ""
	}
	e, stat := t.view(n)
	if stat.nlink < 2 || e.Type != snapshot.TypeFile {
		return ""
	}
	return fmt.Sprintf("%d:%d", stat.dev, stat.ino)
}

// ExcludedBy returns the ignore pattern that hides a path that exists.
func (t *Tree) ExcludedBy(p string) (pattern string, ok bool) {
	p = path.Clean(p)
	if _, err := lstatAt(t.root, p); err != nil {
		return "", false
	}
	return t.ignore.excludedBy(p)
}

func (t *Tree) entryOf(n *node) *snapshot.Entry {
	e, _ := t.view(n)
	return e
}

func (t *Tree) keptOf(n *node) *kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.kept
}

func (t *Tree) view(n *node) (*snapshot.Entry, fileStat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.entry, n.stat
}

// find returns a node without following symlinks.
func (t *Tree) find(op, p string) (*node, error) {
	p = path.Clean(p)
	if p == "." || p == "/" {
		return &node{name: ".", entry: &snapshot.Entry{Path: ".", Type: snapshot.TypeDir, Mode: 0o755}}, nil
	}
	dir, name := path.Split(p)
	dir = path.Clean(dir)
	notExist := &fs.PathError{Op: op, Path: "/" + p, Err: fs.ErrNotExist}
	t.mu.Lock()
	d, ok := t.dirs[dir]
	t.mu.Unlock()
	if !ok {
		parent, err := t.find(op, dir)
		if err != nil {
			return nil, err
		}
		if t.entryOf(parent).Type != snapshot.TypeDir {
			return nil, notExist
		}
		if d, err = t.load(dir); err != nil {
			return nil, err
		}
	}
	i, ok := slices.BinarySearchFunc(d.nodes, name, func(n *node, s string) int { return cmp.Compare(n.name, s) })
	if !ok {
		return nil, notExist
	}
	return d.nodes[i], nil
}

// load returns the children of a directory that is not excluded itself.
func (t *Tree) load(dir string) (*dirNode, error) {
	t.mu.Lock()
	d, ok := t.dirs[dir]
	t.mu.Unlock()
	if ok {
		return d, nil
	}
	var matched []bool
	if dir != "." {
		parent, err := t.load(path.Dir(dir))
		if err != nil {
			return nil, err
		}
		_, matched = t.ignore.match(dir, strings.Count(dir, "/")+1, parent.matched, true)
	}
	return t.scan(dir, matched)
}

// keep makes a scanned directory known. If two scanned it, the first wins.
func (t *Tree) keep(dir string, d *dirNode) *dirNode {
	t.mu.Lock()
	defer t.mu.Unlock()
	if was, ok := t.dirs[dir]; ok {
		return was
	}
	t.dirs[dir] = d
	return d
}

// Preload looks at everything below the given paths and hashes what the stat
// index does not know, on all CPUs, and then brings the index up to date.
func (t *Tree) Preload(ctx context.Context, paths []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel())
	for _, p := range paths {
		n, err := t.find("lstat", p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		if t.entryOf(n).Type == snapshot.TypeDir {
			p := path.Clean(p)
			if err := spawn(g, func() error { return t.preloadDir(ctx, g, p) }); err != nil {
				return errors.Join(err, g.Wait())
			}
			continue
		}
		if err := t.hashAll(ctx, []*node{n}); err != nil {
			return errors.Join(err, g.Wait())
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return t.saveIndex()
}

// spawn runs f in a goroutine of the group if there is one to spare, else here.
func spawn(g *errgroup.Group, f func() error) error {
	if g.TryGo(f) {
		return nil
	}
	return f()
}

// hashChunk is how many files of one directory a goroutine hashes at least.
const hashChunk = 64

func (t *Tree) preloadDir(ctx context.Context, g *errgroup.Group, dir string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d, err := t.load(dir)
	if err != nil {
		return err
	}
	var files []*node
	var subdirs []string
	t.mu.Lock()
	for _, n := range d.nodes {
		switch {
		case n.entry.Type == snapshot.TypeDir:
			subdirs = append(subdirs, n.entry.Path)
		case n.entry.Type == snapshot.TypeFile && n.entry.Digest == "":
			files = append(files, n)
		}
	}
	t.mu.Unlock()
	for _, s := range subdirs {
		if err := spawn(g, func() error { return t.preloadDir(ctx, g, s) }); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(files, hashChunk) {
		if err := spawn(g, func() error { return t.hashAll(ctx, chunk) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) hashAll(ctx context.Context, nodes []*node) error {
	for _, n := range nodes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e := t.entryOf(n); e.Type != snapshot.TypeFile || e.Digest != "" {
			continue
		}
		if err := t.hash(n); err != nil {
			return err
		}
	}
	return nil
}

// hash reads a file and puts its digest into its entry, once. A file that changed since
// it was listed is taken as it is now.
func (t *Tree) hash(n *node) error {
	e, stat := t.view(n)
	known := *e
	known.Digest = emptyDigest
	var h hashed
	if !stat.isSocket() {
		var err error
		if h, err = t.hashFile(e.Path); err != nil {
			return err
		}
		known.Digest = h.digest
		if stat.key() != h.stat.key() {
			known.Size, known.Mode, known.ModTime = h.stat.size, h.stat.mode&0o7777, time.Unix(0, h.stat.mtime)
			stat = h.stat
			if known.Xattrs, err = t.xattrs(e.Path); err != nil {
				return err
			}
		}
	}
	if h.changed {
		t.tell(e.Path)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.entry.Digest != "" { // who was told of a digest must find that content
		return nil
	}
	n.entry, n.stat, n.kept, n.changing = &known, stat, h.kept, h.changed
	t.hashed++
	if parent := t.dirs[path.Dir(e.Path)]; parent != nil {
		parent.changed = true
	}
	return nil
}

// Hashed returns how many files were read to be hashed.
func (t *Tree) Hashed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hashed
}

var _ snapshot.Tree = (*Tree)(nil)
