package mounts

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Decode reads a manifest that anybody may have written. What it returns is whole: every
// index leads to something, and the chunks of the stream have as many bytes as the files.
func Decode(b []byte) (*Manifest, error) {
	z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxManifest))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer z.Close()
	text, err := io.ReadAll(io.LimitReader(z, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrDamaged, err)
	}
	return parse(text)
}

// parse reads a manifest that is not compressed.
func parse(text []byte) (*Manifest, error) {
	if len(text) > maxManifest || !bytes.HasPrefix(text, []byte(magic)) {
		return nil, fmt.Errorf("manifest: %w", ErrDamaged)
	}
	d := &decoder{b: text[len(magic):]}
	m := &Manifest{}
	d.entries(m)
	d.chunks(m)
	if len(d.b) > 0 {
		d.fail("bytes behind the end")
	}
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

// decoder reads from b; after the first error all that it reads is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err, d.b = fmt.Errorf("manifest: %s: %w", what, ErrDamaged), nil
	}
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("it ends early")
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uint(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > most {
		d.fail("a number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("a number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text(most uint64) string { return string(d.take(d.uint(most))) }

// entries reads all entries: the folder of the mount with what is in it.
func (d *decoder) entries(m *Manifest) {
	var open []int           // the folders that are read, outermost first
	last := map[int]string{} // of these, the name that was read last
	var total int64
	for d.err == nil {
		kind := byte(endOfDir)
		if b := d.take(1); len(b) == 1 {
			kind = b[0]
		}
		if kind == endOfDir {
			if len(open) == 0 {
				d.fail("the folder is missing")
				return
			}
			delete(last, open[len(open)-1])
			if open = open[:len(open)-1]; len(open) == 0 {
				return
			}
			continue
		}
		e := Entry{Kind: Kind(kind), Parent: -1, Name: d.text(maxName)}
		if n := len(m.Entries); n > 0 {
			e.Parent = open[len(open)-1]
			if prev, some := last[e.Parent]; !validName(e.Name) || some && e.Name <= prev {
				d.fail(fmt.Sprintf("name %q", e.Name))
			}
			last[e.Parent] = e.Name
		} else if e.Kind != KindDir || e.Name != "" {
			d.fail("it does not begin with a folder")
		}
		d.entry(&e, m)
		if total += e.stored(); total < 0 || len(m.Entries) == maxEntries || len(open) == maxDepth {
			d.fail("it is too large")
		}
		if e.Kind == KindDir {
			open = append(open, len(m.Entries))
		}
		m.Entries = append(m.Entries, e)
	}
}

// validName reports whether a name is one of an object in a folder, and leads nowhere else.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

func (d *decoder) entry(e *Entry, m *Manifest) {
	if e.Kind == KindHard {
		e.File = int(d.uint(maxEntries))
		if e.File >= len(m.Entries) || m.Entries[e.File].Kind == KindDir || m.Entries[e.File].Kind == KindHard {
			d.fail("a link to what is no file")
		}
		return
	}
	e.Mode = uint32(d.uint(0o7777))
	e.UID, e.GID = uint32(d.uint(1<<32-2)), uint32(d.uint(1<<32-2))
	e.ModTime = time.Unix(d.int(), int64(d.uint(999_999_999)))
	switch e.Kind {
	case KindFile:
		e.Size = int64(d.uint(1<<62 - 1))
		d.extents(e)
	case KindLink:
		if e.Target = d.text(maxTarget); e.Target == "" || strings.ContainsRune(e.Target, 0) {
			d.fail("a link that leads nowhere")
		}
	case KindDir, KindFifo:
	default:
		d.fail("kind of an entry")
	}
	for n := d.uint(maxXattrs); n > 0 && d.err == nil; n-- {
		k := d.text(maxName)
		if !validXattr(k) {
			d.fail(fmt.Sprintf("attribute %q", k))
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		e.Xattrs[k] = d.text(maxXattr)
	}
}

// extents reads where a file has bytes.
func (d *decoder) extents(e *Entry) {
	n := d.uint(maxExtents + 1)
	if n == 0 {
		return
	}
	e.Sparse = true
	for end := int64(0); n > 1 && d.err == nil; n-- {
		x := Extent{Offset: end + int64(d.uint(1<<62-1)), Length: int64(d.uint(1<<62 - 1))}
		if x.Offset < 0 || x.Offset > e.Size || x.Length == 0 || x.Length > e.Size-x.Offset {
			d.fail("an extent outside of its file")
		}
		end = x.Offset + x.Length
		e.Extents = append(e.Extents, x)
	}
}

// chunks reads the packs, the chunks and the stream.
func (d *decoder) chunks(m *Manifest) {
	for n := d.uint(maxPacks); n > 0 && d.err == nil; n-- {
		p := Pack{Digest: digest.NewDigestFromBytes(digest.SHA256, d.take(32))}
		p.Size = int64(d.uint(maxPack))
		m.Packs = append(m.Packs, p)
	}
	pack, offset := 0, int64(0)
	for n := d.uint(maxChunks); n > 0 && d.err == nil; n-- {
		var c Chunk
		copy(c.Digest[:], d.take(32))
		c.Size = int(d.uint(maxChunk))
		at := int64(pack) + d.int()
		if at < 0 || at >= int64(len(m.Packs)) {
			d.fail("a chunk without a pack")
			return
		}
		if int(at) != pack {
			offset = 0
		}
		c.Pack = int(at)
		c.Offset = offset + d.int()
		c.Stored = int(d.uint(maxChunk))
		if c.Size == 0 || c.Stored == 0 || c.Stored > c.Size || c.Offset < 0 || c.Offset > m.Packs[at].Size-int64(c.Stored) {
			d.fail("a chunk outside of its pack")
		}
		pack, offset = c.Pack, c.Offset+int64(c.Stored)
		m.Chunks = append(m.Chunks, c)
	}
	next, left := int64(0), m.Size()
	for n := d.uint(maxChunks); n > 0 && d.err == nil; n-- {
		at := next + d.int()
		if at < 0 || at >= int64(len(m.Chunks)) {
			d.fail("a chunk that is not there")
			return
		}
		if left -= int64(m.Chunks[at].Size); left < 0 {
			d.fail("more bytes than files have")
		}
		next, m.Stream = at+1, append(m.Stream, int(at))
	}
	if left != 0 {
		d.fail("fewer bytes than files have")
	}
	// Who packs takes no pack that is not used by half, see Known.
	if m.PackSize()-m.Size() > m.Size() {
		d.fail("packs that are too large for what it has of them")
	}
}
