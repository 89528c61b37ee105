package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"layered.build/builder/snapshot/diff"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/lease"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/owner"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/tree"
)

// Prepare makes a writable snapshot on top of parent, materializing it.
func (s *Store) Prepare(ctx context.Context, parent Stack) (*Active, error) {
	if _, err := lease.Grow(ctx, s.room, 0); err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	prepare := s.prepareOverlay
	if s.driver == DriverCopy {
		prepare = s.prepareCopy
	}
	a, err := prepare(ctx, parent)
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	s.mu.Lock()
	s.actives[a] = true
	s.mu.Unlock()
	return a, nil
}

func (s *Store) prepareOverlay(ctx context.Context, parent Stack) (*Active, error) {
	if err := s.Materialize(ctx, parent); err != nil {
		return nil, err
	}
	lowers, root, err := s.lowers(parent)
	if err != nil {
		return nil, err
	}
	dir, err := s.lease.TempDir(activeDir)
	if err != nil {
		return nil, err
	}
	a := &Active{s: s, parent: slices.Clone(parent), dir: dir, root: root}
	a.mount = Mount{Lower: lowers, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Fuse: s.driver == DriverFuse}
	err = errors.Join(os.Mkdir(a.mount.Upper, 0o755), os.Mkdir(a.mount.Work, 0o700), s.maker.SetRoot(a.mount.Upper, root))
	if err != nil {
		return nil, errors.Join(err, files.RemoveAll(dir))
	}
	return a, nil
}

// View returns a read-only mount of a stack, materializing it. Its layers are in
// use until Release or Close.
func (s *Store) View(ctx context.Context, stack Stack) (Mount, error) {
	s.mu.Lock()
	for _, l := range stack {
		s.views[l.ID] = true
	}
	s.mu.Unlock()
	if s.driver == DriverCopy {
		return s.viewCopy(ctx, stack)
	}
	if err := s.Materialize(ctx, stack); err != nil {
		return Mount{}, err
	}
	lowers, root, err := s.lowers(stack)
	if err != nil {
		return Mount{}, fmt.Errorf("view stack: %w", err)
	}
	if len(lowers) == 0 {
		return Mount{Lower: []string{s.path(emptyDir)}}, nil
	}
	if top, err := s.rootDir(lowers[0], root); err != nil {
		return Mount{}, fmt.Errorf("view stack: %w", err)
	} else if top != "" {
		lowers = append([]string{top}, lowers...)
	}
	if len(lowers) == 1 && s.hasWhiteouts(stack) {
		lowers = append(lowers, s.path(emptyDir))
	}
	return Mount{Lower: lowers, Fuse: s.driver == DriverFuse}, nil
}

func (s *Store) hasWhiteouts(stack Stack) bool {
	return slices.ContainsFunc(stack, func(l Layer) bool {
		rec, err := s.loadLayer(l.ID)
		return err == nil && rec.Whiteouts
	})
}

// lowers returns the directories of a materialized stack, topmost first, and the
// metadata of its root directory. Empty layers are left out, and of a layer that
// comes several times all but the topmost, which hides the others.
func (s *Store) lowers(stack Stack) ([]string, object.Root, error) {
	root, rootKnown := object.Root{Mode: 0o755}, false
	var dirs []string
	seen := map[LayerID]bool{}
	for _, l := range slices.Backward(stack) {
		if seen[l.ID] {
			continue
		}
		seen[l.ID] = true
		rec, err := s.loadLayer(l.ID)
		if err != nil {
			return nil, root, err
		}
		if rec.Root != nil && !rootKnown {
			root, rootKnown = *rec.Root, true
		}
		if !rec.Layer.Empty {
			dirs = append(dirs, s.layerPath(l.ID, dirForm))
		}
	}
	return dirs, root, nil
}

// Active is a writable snapshot. It belongs to this process; when the process
// dies, Reclaim removes it.
type Active struct {
	s      *Store
	parent Stack
	dir    string
	mount  Mount
	root   object.Root
	work   *laidOut // of DriverCopy; else nil

	mu   sync.Mutex
	done bool // committed or discarded
}

// Mount returns what to mount as root file system.
func (a *Active) Mount() Mount { return a.mount }

// Upper returns the directory that receives the changes.
func (a *Active) Upper() string { return a.mount.Upper }

// Parent returns the stack below.
func (a *Active) Parent() Stack { return slices.Clone(a.parent) }

// CommitOptions refine Commit. The zero value commits everything.
type CommitOptions struct {
	// Epoch, if set, is the latest modification time that the layer may have;
	// later ones become this, in the tar and in the directory.
	Epoch *time.Time
	// RemovePaths (relative to the root, as Entry.Path) are removed first where
	// they are empty files or empty directories of the upper directory: the
	// mountpoints that the sandbox made. Deeper paths are removed first.
	RemovePaths []string
	// Inspect, if set, sees all that the layer is going to hold.
	Inspect Inspector
	// Tap, if set, receives the layer's tar while the layer is made.
	Tap Tap
	// Named says that an image is going to have the layer: it gets its name at once,
	// whatever the tar holds (Layer.Unnamed).
	Named bool
}

// Tap receives the tar of a layer while the layer is made, before it is known
// whether it will be one.
type Tap interface {
	// Write is given the tar in order. After an error there are no more calls; to the
	// layer it makes no difference.
	io.Writer
	// Done is the last call, and always made: with the layer, or with the error for
	// which there is none.
	Done(l Layer, err error)
}

// tell ends a tap that may be nil.
func tell(tap Tap, l Layer, err error) {
	if tap != nil {
		tap.Done(l, err)
	}
}

// Commit makes a layer of the changes; nothing may be mounted or running on the
// snapshot any more. Afterwards the Active is used up, also after an error. A
// layer that completes the same chain already is returned instead of a second one.
func (a *Active) Commit(ctx context.Context, opts CommitOptions) (Layer, error) {
	l, err := a.use(ctx, opts)
	tell(opts.Tap, l, err)
	return l, err
}

func (a *Active) use(ctx context.Context, opts CommitOptions) (Layer, error) {
	if !a.finish() {
		return Layer{}, errors.New("commit snapshot: it was committed or discarded before")
	}
	tmp, err := a.s.lease.TempDir(tmpDir)
	if err != nil {
		return Layer{}, errors.Join(fmt.Errorf("commit snapshot: %w", err), files.RemoveAll(a.dir))
	}
	commit := a.commit
	if a.work != nil {
		commit = a.commitCopy
	}
	l, err := commit(ctx, tmp, opts)
	if err != nil {
		err = errors.Join(fmt.Errorf("commit snapshot: %w", err), files.RemoveAll(tmp))
	} else if a.work != nil {
		return l, nil
	}
	return l, errors.Join(err, files.RemoveAll(a.dir))
}

func (a *Active) commit(ctx context.Context, tmp string, opts CommitOptions) (Layer, error) {
	dir := filepath.Join(tmp, dirForm)
	if err := diff.RemoveStubs(a.mount.Upper, opts.RemovePaths); err != nil {
		return Layer{}, err
	}
	if err := os.Rename(a.mount.Upper, dir); err != nil {
		return Layer{}, err
	}
	u := diff.Upper{Maker: a.s.maker, Dir: dir, Lowers: a.mount.Lower, Fuse: a.mount.Fuse, Epoch: opts.Epoch}
	if a.s.maker.Recording() {
		var err error
		if u.Side, err = owner.ReadSide(a.mount.Upper); err != nil {
			return Layer{}, err
		}
	}
	if a.s.anyLimited(a.parent) {
		below, err := a.s.Tree(ctx, a.parent)
		if err != nil {
			return Layer{}, err
		}
		u.Below = below
	}
	d := diff.Overlay(u)
	return a.s.makeLayer(ctx, a.parent, layerMaking{tmp: tmp, epoch: opts.Epoch, look: opts.Inspect, tap: opts.Tap, named: opts.Named,
		walk: d.Walk, aliases: d.Aliases,
		settle: func() error { return errors.Join(d.Settle(), a.s.maker.SetRoot(dir, a.root)) },
	})
}

// layerMaking says how a layer is made.
type layerMaking struct {
	tmp   string     // folder of the new layer; may have a directory form already
	out   *os.File   // receives the tar; may be nil
	epoch *time.Time // that walk limits times to
	look  Inspector  // may be nil
	tap   io.Writer  // may be nil
	named bool       // the tar's digest is wanted whatever it costs
	walk  pack.Walk
	// settle completes the directory form.
	settle func() error
	// aliases tells of further paths of the entries, after walk; nil: there are none.
	aliases func() []tree.Alias
	// created, unless zero, is when the layer was made.
	created time.Time
}

// makeLayer packs what m.walk emits and publishes it on top of parent.
func (s *Store) makeLayer(ctx context.Context, parent Stack, m layerMaking) (Layer, error) {
	man, err := manifest.Create(filepath.Join(m.tmp, manifestFile))
	if err != nil {
		return Layer{}, err
	}
	to := pack.Target{Maker: s.maker, Manifest: man, Inspector: m.look, Tap: m.tap, MayOmit: !m.named}
	if m.out != nil {
		to.Out = m.out
	}
	res, err := pack.Run(ctx, to, m.walk)
	if err != nil {
		man.Abort()
		return Layer{}, err
	}
	content, err := man.Finish()
	if err == nil {
		err = m.settle()
	}
	if err != nil {
		return Layer{}, err
	}
	diffID := DiffID(res.Digest)
	if diffID == "" {
		if diffID, err = standIn(filepath.Join(m.tmp, manifestFile)); err != nil {
			return Layer{}, err
		}
	}
	l := Layer{
		ID: idOf(extend(parent, diffID)), DiffID: diffID, Content: content, Size: res.Size,
		Created: m.created, Empty: res.Entries == 0,
	}
	if l.Created.IsZero() {
		l.Created = time.Now().UTC().Truncate(time.Second)
	}
	times := &layerTimes{Newest: res.Newest}
	if m.epoch != nil {
		sec := m.epoch.Unix()
		times.Epoch = &sec
	}
	rec := &layerRecord{Layer: l, Whiteouts: res.Whiteouts, Times: times, holes: res.Holes}
	if m.aliases != nil {
		rec.Aliases = aliasesOf(m.aliases())
	}
	return s.publish(m.tmp, rec)
}

// finish marks the Active as used up and reports whether it was not before.
func (a *Active) finish() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return false
	}
	a.done = true
	a.s.mu.Lock()
	delete(a.s.actives, a)
	a.s.mu.Unlock()
	return true
}

// Discard removes the snapshot. It is idempotent, and does nothing after Commit.
func (a *Active) Discard() error {
	if !a.finish() {
		return nil
	}
	return files.RemoveAll(a.dir)
}
