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
	if err := e.placeLayers(ctx, tmp); err != nil {
		return err
	}
	if err := e.placeBlobs(tmp); err != nil {
		return err
	}
	if err := placeAll(tmp, e.Root(), cachemount.Folder); err != nil {
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
	if err := placeAll(tmp, e.Root(), snapshot.LayersFolder); err != nil {
		return err
	}
	for _, name := range names {
		// Where owners are recorded, links have none in the directory, but in the manifest.
		if err := e.Store.Restore(ctx, snapshot.LayerID(name)); err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
		if err := e.Store.Check(ctx, snapshot.LayerID(name), true); err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
	}
	return nil
}

func (e *Engine) placeBlobs(tmp string) error {
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
	return placeAll(tmp, e.Root(), snapshot.BlobsFolder)
}

// placeAll moves what is in a folder to where it belongs; what is there stays.
func placeAll(from, to, folder string) error {
	names, err := readNames(filepath.Join(from, folder))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(to, folder), 0o700); err != nil {
		return err
	}
	for _, name := range names {
		err := os.Rename(filepath.Join(from, folder, name), filepath.Join(to, folder, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
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
