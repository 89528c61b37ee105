package engine

import (
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

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/cache/disk"
	"layered.build/builder/executor/cachemount"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/portable"
)

// ErrNotEmpty says that a store holds something already.
var ErrNotEmpty = errors.New("store is not empty")

// Import makes the store, which must be empty, what Export has written. Nothing is there
// before all was read; if it is interrupted then, it can be repeated. What an archive says of
// layers is believed, as what a store says itself is; Collector().Check verifies it.
func (e *Engine) Import(ctx context.Context, r io.Reader) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("import store: %w", err)
		}
	}()
	for _, folder := range []string{imagesFolder + "/records", disk.Folder} {
		if err := e.needEmpty(folder); err != nil {
			return err
		}
	}
	tmp, err := e.Store.Lease().TempDir("tmp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.RemoveAll(tmp)) }()
	in := &portable.Reader{Dir: tmp, Place: e.place}
	if err := in.Read(ctx, r); err != nil {
		return err
	}
	if err := checkBlobs(tmp); err != nil {
		return err
	}
	if err := e.placeLayers(ctx, tmp); err != nil {
		return err
	}
	if _, err := placeAll(tmp, e.Root(), snapshot.BlobsFolder); err != nil {
		return err
	}
	if err := e.placeMounts(tmp); err != nil {
		return err
	}
	for _, folder := range []string{buildsFolder, runsFolder, disk.Folder} {
		if err := placeFiles(tmp, e.Root(), folder); err != nil {
			return err
		}
	}
	lock, err := files.LockFile(ctx, e.path(imagesFolder, "lock"), files.Exclusive)
	if err != nil {
		return err
	}
	return errors.Join(placeFiles(tmp, e.Root(), imagesFolder), lock.Release())
}

// needEmpty refuses a store that has files in a folder.
func (e *Engine) needEmpty(folder string) error {
	err := filepath.WalkDir(e.path(folder), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(d.Name(), ".json") {
			err = fmt.Errorf("%w: %s", ErrNotEmpty, e.Root())
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// isHex says whether a name is one of those that layers, blobs and cache mounts have.
func isHex(name string) bool { return name != "" && strings.Trim(name, "0123456789abcdef") == "" }

// place says what a store may have under a name.
func (e *Engine) place(name string) portable.Place {
	parts := strings.Split(name, "/")
	plain := portable.Place{Maker: e.Store.Maker()}
	switch parts[0] {
	case imagesFolder, buildsFolder, runsFolder, disk.Folder:
		if !isLeft(name) {
			return plain
		}
	case "blobs":
		if len(parts) == 1 || parts[1] == "sha256" && (len(parts) == 2 || len(parts) == 3 && isHex(parts[2])) {
			return plain
		}
	case snapshot.LayersFolder:
		switch {
		case len(parts) == 1:
			return plain
		case isHex(parts[1]):
			plain.Any = len(parts) > 3 && parts[2] == "dir"
			return plain
		}
	case cachemount.Folder:
		mount, _, _ := strings.Cut(parts[min(1, len(parts)-1)], ".") // or a copy, or a lock
		if len(parts) == 1 || isHex(mount) {
			return portable.Place{Maker: e.mountMaker(), Any: len(parts) > 2}
		}
	}
	return portable.Place{}
}

// placeLayers moves the layers to where they belong. Those of which one is not whole go again.
func (e *Engine) placeLayers(ctx context.Context, tmp string) error {
	names, err := readNames(filepath.Join(tmp, snapshot.LayersFolder))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := e.Store.NoteLacking(filepath.Join(tmp, snapshot.LayersFolder, name)); err != nil {
			return err
		}
	}
	placed, err := placeAll(tmp, e.Root(), snapshot.LayersFolder)
	for _, name := range names {
		if err != nil {
			break
		}
		if err = e.checkLayer(ctx, snapshot.LayerID(name)); err != nil {
			err = fmt.Errorf("layer %s: %w", name, err)
		}
	}
	if err == nil {
		return nil
	}
	for _, name := range placed {
		rerr := e.Store.Remove(context.WithoutCancel(ctx), snapshot.LayerID(name))
		if rerr != nil && !errors.Is(rerr, snapshot.ErrInUse) { // others have it, and know that it is whole
			err = errors.Join(err, rerr)
		}
	}
	return err
}

func (e *Engine) checkLayer(ctx context.Context, id snapshot.LayerID) error {
	// Where owners are recorded, links have none in the directory, but in the manifest.
	if err := e.Store.Restore(ctx, id); err != nil {
		return err
	}
	return e.Store.Check(ctx, id, true)
}

// checkBlobs refuses blobs that are not what their names say.
func checkBlobs(tmp string) error {
	names, err := readNames(filepath.Join(tmp, snapshot.BlobsFolder))
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(tmp, snapshot.BlobsFolder, name))
		if err != nil {
			return err
		}
		got, err := digest.SHA256.FromReader(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if got.Encoded() != name {
			return fmt.Errorf("%w: blob %s holds %s", portable.ErrFormat, name, got)
		}
	}
	return nil
}

// placeMounts moves cache mounts to where they belong, under their locks. Those that the store
// has, with files or in use, stay as they are, and so do all locks: somebody may hold them.
func (e *Engine) placeMounts(tmp string) error {
	mounts, err := cachemount.List(tmp)
	if err != nil || len(mounts) == 0 {
		return err
	}
	if err := os.MkdirAll(e.path(cachemount.Folder), 0o700); err != nil {
		return err
	}
	for _, from := range mounts {
		err := placeMount(from, cachemount.Mount{Dir: e.path(cachemount.Folder, from.Folder())})
		if errors.Is(err, files.ErrLocked) {
			e.host.opts.Warn(fmt.Sprintf("cache mount %s is in use, and stays as it is", from.ID))
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func placeMount(from, to cachemount.Mount) (err error) {
	// The lock has the label. A link replaces nothing.
	err = os.Link(from.Lock(), to.Lock())
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lock, err := files.TryLockFile(to.Lock(), files.Exclusive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	// os.Rename refuses empty folders too.
	if err = unix.Rename(from.Dir, to.Dir); errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// placeAll moves what is in a folder to where it belongs, and returns its names; what is there
// stays.
func placeAll(from, to, folder string) (placed []string, err error) {
	names, err := readNames(filepath.Join(from, folder))
	if err != nil || len(names) == 0 {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(to, folder), 0o700); err != nil {
		return nil, err
	}
	for _, name := range names {
		switch err := os.Rename(filepath.Join(from, folder, name), filepath.Join(to, folder, name)); {
		case err == nil:
			placed = append(placed, name)
		case !errors.Is(err, fs.ErrExist):
			return placed, err
		}
	}
	return placed, nil
}

// placeFiles moves the files below a folder to where they belong, those of subfolders first.
func placeFiles(from, to, folder string) error {
	names, err := os.ReadDir(filepath.Join(from, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(to, folder), 0o700)
	}
	if err != nil {
		return err
	}
	slices.SortStableFunc(names, func(a, b fs.DirEntry) int {
		if a.IsDir() == b.IsDir() {
			return 0
		}
		if a.IsDir() {
			return -1
		}
		return 1
	})
	for _, n := range names {
		name := path.Join(folder, n.Name())
		if n.IsDir() {
			err = placeFiles(from, to, name)
		} else {
			err = os.Rename(filepath.Join(from, name), filepath.Join(to, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readNames lists a folder that may not be there.
func readNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}
