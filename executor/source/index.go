package source

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

// index remembers the digests of files by what stat(2) says of them. It is a file
// that is read as a whole; the blocks of its directories are decoded when they are
// needed. A damaged index is an empty one. See docs/FORMAT.md.
type index struct {
	path string

	mu     sync.Mutex        // guards blocks
	blocks map[string]string // by directory, encoded; replaced, never changed
}

// known returns the blocks, which nobody may change.
func (ix *index) known() map[string]string {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	return ix.blocks
}

// learn replaces the blocks.
func (ix *index) learn(blocks map[string]string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.blocks = blocks
}

// dirIndex are the remembered children of one directory, sorted by name.
type dirIndex []indexRecord

type indexRecord struct {
	name   string
	stat   statKey
	digest digest.Digest // "" for what is no regular file
	xattrs map[string]string
}

func (d dirIndex) find(name string) (*indexRecord, bool) {
	i, ok := slices.BinarySearchFunc(d, name, func(r indexRecord, s string) int { return cmp.Compare(r.name, s) })
	if !ok {
		return nil, false
	}
	return &d[i], true
}

const indexMagic = "builder-stat-index 1\n"

// openIndex reads the index of a directory under a set of ignore patterns.
func openIndex(stateDir, dir string, excludes []string) *index {
	sum := sha256.Sum256([]byte(dir + "\x00" + strings.Join(excludes, "\x00")))
	ix := &index{path: filepath.Join(stateDir, hex.EncodeToString(sum[:16]))}
	b, err := os.ReadFile(ix.path)
	if err == nil {
		ix.blocks, err = decodeIndex(b)
	}
	if err != nil {
		ix.blocks = nil
	}
	return ix
}

var errIndex = errors.New("damaged stat index")

// checksum uses the polynomial that CPUs have an instruction for.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func decodeIndex(b []byte) (map[string]string, error) {
	body, ok := bytes.CutPrefix(b, []byte(indexMagic))
	if !ok || len(body) < 4 {
		return nil, errIndex
	}
	body, sum := body[:len(body)-4], body[len(body)-4:]
	if checksum(body) != binary.LittleEndian.Uint32(sum) {
		return nil, errIndex
	}
	blocks := map[string]string{}
	d := decoder{rest: string(body)}
	for d.rest != "" && !d.bad {
		dir := d.str()
		blocks[dir] = d.str()
	}
	if d.bad {
		return nil, errIndex
	}
	return blocks, nil
}

// dir decodes what is remembered of a directory.
func (ix *index) dir(name string) dirIndex {
	if ix == nil {
		return nil
	}
	block, ok := ix.known()[name]
	if !ok {
		return nil
	}
	d := decoder{rest: block}
	n := d.uint()
	if n > uint64(len(block)) {
		return nil
	}
	recs := make(dirIndex, 0, n)
	for range n {
		r := indexRecord{name: d.str()}
		r.stat = statKey{
			size: int64(d.uint()), mtime: int64(d.uint()), ctime: int64(d.uint()),
			ino: d.uint(), dev: d.uint(), mode: uint32(d.uint()),
		}
		if raw := d.str(); raw != "" {
			r.digest = digestOf(raw)
		}
		for range d.uint() {
			if r.xattrs == nil {
				r.xattrs = map[string]string{}
			}
			k := d.str()
			r.xattrs[k] = d.str()
			if d.bad {
				return nil
			}
		}
		if d.bad {
			return nil
		}
		recs = append(recs, r)
	}
	return recs
}

// digestOf names a hash.
func digestOf(raw string) digest.Digest {
	var b [71]byte
	n := copy(b[:], "sha256:")
	n += hex.Encode(b[n:], []byte(raw[:min(len(raw), 32)]))
	return digest.Digest(b[:n])
}

type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) uint() uint64 {
	var v uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		c := d.rest[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.rest = d.rest[i+1:]
			return v
		}
	}
	d.rest, d.bad = "", true
	return 0
}

func (d *decoder) str() string {
	n := d.uint()
	if n > uint64(len(d.rest)) {
		d.rest, d.bad = "", true
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func appendStr[S string | []byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// encodeDir encodes the children of a directory that can be told from later
// versions of themselves.
func encodeDir(d *dirNode, now time.Time) []byte {
	var recs []byte
	count := uint64(0)
	for _, n := range d.nodes {
		e := n.entry
		if e.Type == snapshot.TypeFile && e.Digest == "" || n.changing || n.stat.racy(now) {
			continue
		}
		count++
		recs = appendStr(recs, n.name)
		for _, v := range []uint64{
			uint64(n.stat.size), uint64(n.stat.mtime), uint64(n.stat.ctime),
			n.stat.ino, n.stat.dev, uint64(n.stat.mode),
		} {
			recs = binary.AppendUvarint(recs, v)
		}
		var raw []byte
		if h, ok := strings.CutPrefix(string(e.Digest), "sha256:"); ok {
			raw, _ = hex.DecodeString(h)
		}
		recs = appendStr(recs, raw)
		recs = binary.AppendUvarint(recs, uint64(len(e.Xattrs)))
		for k, v := range e.Xattrs {
			recs = appendStr(appendStr(recs, k), v)
		}
	}
	return append(binary.AppendUvarint(nil, count), recs...)
}

// saveIndex writes the index anew if something of it changed. Directories that
// were not looked at this time are kept as they were.
func (t *Tree) saveIndex() error {
	if t.index == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known, blocks := t.index.known(), map[string]string{}
	for dir, block := range known {
		if t.mayExist(dir) {
			blocks[dir] = block
		}
	}
	changed := len(blocks) != len(known)
	for dir, d := range t.dirs {
		if !d.changed {
			continue
		}
		d.changed = false
		block := string(encodeDir(d, t.opened))
		if blocks[dir] != block {
			blocks[dir] = block
			changed = true
		}
	}
	if !changed {
		return nil
	}
	t.index.learn(blocks)
	return t.index.write()
}

// mayExist reports whether a directory was not looked at, or exists.
func (t *Tree) mayExist(dir string) bool {
	if _, ok := t.dirs[dir]; ok || dir == "." {
		return true
	}
	parent, ok := t.dirs[path.Dir(dir)]
	if !ok {
		return t.mayExist(path.Dir(dir))
	}
	return slices.ContainsFunc(parent.nodes, func(n *node) bool { return n.entry.Path == dir })
}

// write replaces the index file. It is not flushed: the checksum finds a torn one.
func (ix *index) write() error {
	body := []byte(indexMagic)
	for dir, block := range ix.known() {
		body = appendStr(appendStr(body, dir), block)
	}
	body = binary.LittleEndian.AppendUint32(body, checksum(body[len(indexMagic):]))
	if err := os.MkdirAll(filepath.Dir(ix.path), 0o755); err != nil {
		return fmt.Errorf("write stat index: %w", err)
	}
	if err := files.Replace(ix.path, body, files.Replacement{}); err != nil {
		return fmt.Errorf("write stat index: %w", err)
	}
	return nil
}
