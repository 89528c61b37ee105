package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"layered.build/builder/cache"
)

// Entry is a record as a file.
type Entry struct {
	Key      cache.Key
	LastUsed time.Time
	// Record is nil if Err says that the file is damaged.
	Record *cache.Record
	Err    error
}

// List calls fn for every record, whether or not its layers exist. One that another
// process removes meanwhile is left out.
func (c *Cache) List(ctx context.Context, fn func(Entry) error) error {
	dirs, err := os.ReadDir(c.root)
	if err != nil {
		return fmt.Errorf("list cache: %w", err)
	}
	for _, d := range dirs {
		if len(d.Name()) != 2 || !d.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(c.root, d.Name()))
		if err != nil {
			return fmt.Errorf("list cache: %w", err)
		}
		for _, f := range files {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			e, ok := c.entry(f)
			if !ok {
				continue
			}
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cache) entry(f fs.DirEntry) (Entry, bool) {
	h, ok := strings.CutSuffix(f.Name(), recordSuffix)
	e := Entry{Key: cache.Key("sha256:" + h)}
	if _, err := keyHex(e.Key); err != nil || !ok {
		return e, false
	}
	if fi, err := f.Info(); err == nil {
		e.LastUsed = fi.ModTime()
	}
	e.Record, e.Err = c.read(e.Key)
	// A record that is not there has the bare error; a damaged one's says why.
	return e, e.Err != cache.ErrMiss
}

// Remove deletes a record; it is no error if there is none.
func (c *Cache) Remove(key cache.Key) error {
	p, err := c.path(key)
	if err != nil {
		return err
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	return nil
}

// Tidy removes what killed processes left, and names of steps whose record is gone.
func (c *Cache) Tidy() error {
	names, err := os.ReadDir(filepath.Join(c.root, "names"))
	if err != nil {
		return fmt.Errorf("tidy cache: %w", err)
	}
	for _, n := range names {
		p := filepath.Join(c.root, "names", n.Name())
		key, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		rec, err := c.path(cache.Key(key))
		if err == nil {
			_, err = os.Lstat(rec)
		}
		if err != nil && !strings.HasPrefix(n.Name(), ".tmp-") {
			os.Remove(p) // only explains misses
		}
	}
	old, err := filepath.Glob(filepath.Join(c.root, "??*", ".tmp-*"))
	for _, p := range old {
		if fi, err := os.Lstat(p); err == nil && time.Since(fi.ModTime()) > time.Hour {
			os.Remove(p)
		}
	}
	return err
}
