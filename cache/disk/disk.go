// Package disk keeps cache records as files:
//
//	<root>/<aa>/<hex of key>.json   a record (see docs/FORMAT.md)
//	<root>/names/<hex>              the latest definition key of a step of a project, by each of its names
//	<root>/locks/<hex of key>       held while a step runs, removed afterwards
package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

const (
	// recordVersion is the version of the file format, unnamedVersion that of records of
	// layers without a name, which older versions of this program would take for others.
	recordVersion  = 1
	unnamedVersion = 2
	recordSuffix   = ".json"
	// touchEvery is how precise the recency of a record is.
	touchEvery = time.Hour
)

// Cache is a folder of records. It implements cache.Cache, cache.Locker and
// cache.History, and is safe for concurrent use by goroutines and processes.
type Cache struct {
	root  string
	has   func(snapshot.LayerID) bool
	turns files.Turns // of those who wait for the lock of a key
	known stacks      // of records that were read
	room  sync.Pool   // *bytes.Buffer, to read them
}

// Open returns the cache in the folder root, which is made if needed. Has says
// whether a layer's data exists; a record that names one that does not is a miss.
func Open(root string, has func(snapshot.LayerID) bool) (*Cache, error) {
	for _, d := range []string{"names", "locks"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return nil, fmt.Errorf("open cache: %w", err)
		}
	}
	return &Cache{root: root, has: has}, nil
}

// Get implements cache.Cache.
func (c *Cache) Get(ctx context.Context, key cache.Key) (*cache.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	rec, err := c.read(key)
	if err != nil {
		return nil, err
	}
	for _, stack := range rec.Outputs {
		for _, l := range stack {
			if !c.has(l.ID) {
				return nil, fmt.Errorf("record %s: layer %s is gone: %w", key, l.ID, cache.ErrMiss)
			}
		}
	}
	c.touch(key)
	return rec, nil
}

// Peek is Get of a record whose layers may be gone, for people: it is not used.
func (c *Cache) Peek(ctx context.Context, key cache.Key) (*cache.Record, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c.read(key)
}

// read reads and verifies a record.
func (c *Cache) read(key cache.Key) (*cache.Record, error) {
	p, err := c.path(key)
	if err != nil {
		return nil, err
	}
	b, done, err := c.load(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cache.ErrMiss
	}
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", key, err)
	}
	defer done()
	rec, err := decode(b, &c.known)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w: %w", key, err, cache.ErrMiss)
	}
	if rec.Key != key {
		return nil, fmt.Errorf("record %s names itself %s: %w", key, rec.Key, cache.ErrMiss)
	}
	return rec, nil
}

// load reads a file into room that is used again after done: the records of a long chain
// are large.
func (c *Cache) load(p string) (b []byte, done func(), err error) {
	f, err := os.Open(p)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	buf, ok := c.room.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	buf.Reset()
	if _, err := buf.ReadFrom(f); err != nil {
		return nil, nil, err
	}
	return buf.Bytes(), func() { c.room.Put(buf) }, nil
}

// touch keeps the time of the last use, within touchEvery. A failure only makes
// the record look older than it is.
func (c *Cache) touch(key cache.Key) {
	p, err := c.path(key)
	if err != nil {
		return
	}
	now := time.Now()
	if fi, err := os.Stat(p); err == nil && now.Sub(fi.ModTime()) > touchEvery {
		os.Chtimes(p, now, now)
	}
}

// Put implements cache.Cache.
func (c *Cache) Put(ctx context.Context, key cache.Key, rec *cache.Record) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	p, err := c.path(key)
	if err != nil {
		return err
	}
	r := *rec
	r.Key, r.Version = key, recordVersion
	for _, stack := range r.Outputs {
		if slices.ContainsFunc(stack, snapshot.Layer.Unnamed) {
			r.Version = unnamedVersion
		}
	}
	b, err := encode(&r)
	if err != nil {
		return fmt.Errorf("write record %s: %w", key, err)
	}
	if err := writeFile(p, b); err != nil {
		return fmt.Errorf("write record %s: %w", key, err)
	}
	if key != r.Definition {
		return nil
	}
	for _, name := range r.Names {
		if err := writeFile(c.namePath(r.Project, name), []byte(key)); err != nil {
			return fmt.Errorf("write record %s: %w", key, err)
		}
	}
	return nil
}

// Latest implements cache.History.
func (c *Cache) Latest(_ context.Context, project, name string) (*cache.Record, error) {
	b, err := os.ReadFile(c.namePath(project, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cache.ErrMiss
	}
	if err != nil {
		return nil, fmt.Errorf("find record of %s: %w", name, err)
	}
	return c.read(cache.Key(b))
}

// path returns the file of a record. Keys are checked, for they name files.
func (c *Cache) path(key cache.Key) (string, error) {
	h, err := keyHex(key)
	if err != nil {
		return "", err
	}
	return filepath.Join(c.root, recordPath(h)), nil
}

// recordPath is where the record of a key is, by the key's digits.
func recordPath(hex string) string { return filepath.Join(hex[:2], hex+recordSuffix) }

func keyHex(key cache.Key) (string, error) {
	h, ok := strings.CutPrefix(string(key), "sha256:")
	if _, err := hex.DecodeString(h); !ok || err != nil || len(h) != 2*sha256.Size {
		return "", fmt.Errorf("invalid cache key %q", key)
	}
	return h, nil
}

func (c *Cache) namePath(project, name string) string {
	sum := sha256.Sum256([]byte(project + "\x00" + name))
	return filepath.Join(c.root, "names", hex.EncodeToString(sum[:16]))
}

// writeFile replaces a file at once. It is not flushed: a record that a crash
// tore is found damaged when it is read, and is a miss.
func writeFile(p string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	return files.Replace(p, b, files.Replacement{})
}

// encode writes the header line "builder-record VERSION CHECKSUM" and the record
// as JSON.
func encode(r *cache.Record) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "builder-record %d %x\n", r.Version, sha256.Sum256(payload))
	b.Write(payload)
	return b.Bytes(), nil
}

func decode(b []byte, known *stacks) (*cache.Record, error) {
	head, payload, ok := bytes.Cut(b, []byte("\n"))
	sum := sha256.Sum256(payload)
	for version := recordVersion; ok && version <= unnamedVersion; version++ {
		if string(head) != fmt.Sprintf("builder-record %d %x", version, sum) {
			continue
		}
		r, err := known.decode(payload)
		if err != nil {
			return nil, fmt.Errorf("damaged: %w", err)
		}
		return r, nil
	}
	return nil, errors.New("damaged, or of another version")
}

var (
	_ cache.Cache   = (*Cache)(nil)
	_ cache.Locker  = (*Cache)(nil)
	_ cache.History = (*Cache)(nil)
)
