package manifest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// errDamaged says that a manifest does not decode.
var errDamaged = errors.New("damaged manifest")

// Flags of an encoded entry: which optional parts follow.
const (
	hasDigest = 1 << iota
	hasLinkname
	hasHardlink
	hasXattrs
	hasDevice
	isOpaque
	hasOffset
	hasRealTime
)

// Record is an entry as a manifest keeps it.
type Record struct {
	Entry
	// Offset is where a file's content begins in the layer's canonical tar; 0 if
	// the layer has none.
	Offset int64
}

// appendRecord appends the encoding of r (docs/FORMAT.md, "Manifest"). The form
// that the content digest covers has no times and no offsets.
func appendRecord(b []byte, r *Record, forContent bool) []byte {
	b = appendText(b, r.Path)
	b = append(b, byte(r.Type), recordFlags(r, forContent))
	b = binary.AppendUvarint(b, uint64(r.Mode))
	b = binary.AppendUvarint(b, uint64(r.UID))
	b = binary.AppendUvarint(b, uint64(r.GID))
	b = binary.AppendUvarint(b, uint64(r.Size))
	if !forContent {
		b = binary.AppendVarint(b, r.ModTime.Unix())
		b = binary.AppendUvarint(b, uint64(r.ModTime.Nanosecond()))
	}
	if r.Digest != "" {
		var raw [32]byte
		hex.Decode(raw[:], []byte(r.Digest.Encoded()))
		b = append(b, raw[:]...)
	}
	if r.Linkname != "" {
		b = appendText(b, r.Linkname)
	}
	if r.Hardlink != "" {
		b = appendText(b, r.Hardlink)
	}
	if len(r.Xattrs) > 0 {
		b = appendXattrs(b, r.Xattrs)
	}
	if r.DevMajor != 0 || r.DevMinor != 0 {
		b = binary.AppendVarint(b, r.DevMajor)
		b = binary.AppendVarint(b, r.DevMinor)
	}
	if r.Offset != 0 && !forContent {
		b = binary.AppendUvarint(b, uint64(r.Offset))
	}
	if !r.RealTime.IsZero() && !forContent {
		b = binary.AppendVarint(b, r.RealTime.Unix())
	}
	return b
}

func recordFlags(r *Record, forContent bool) byte {
	var flags byte
	set := func(cond bool, f byte) {
		if cond {
			flags |= f
		}
	}
	set(r.Digest != "", hasDigest)
	set(r.Linkname != "", hasLinkname)
	set(r.Hardlink != "", hasHardlink)
	set(len(r.Xattrs) > 0, hasXattrs)
	set(r.DevMajor != 0 || r.DevMinor != 0, hasDevice)
	set(r.Opaque, isOpaque)
	set(r.Offset != 0 && !forContent, hasOffset)
	set(!r.RealTime.IsZero() && !forContent, hasRealTime)
	return flags
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendXattrs(b []byte, xattrs map[string]string) []byte {
	keys := make([]string, 0, len(xattrs))
	for k := range xattrs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = appendText(appendText(b, k), xattrs[k])
	}
	return b
}

// decoder reads an encoded record; bad is set by the first thing that is wrong.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() []byte { return d.bytes(d.uvarint()) }

func (d *decoder) octet() byte {
	v := d.bytes(1)
	if v == nil {
		return 0
	}
	return v[0]
}

func decodeRecord(b []byte) (*Record, error) {
	d := &decoder{b: b}
	r := &Record{}
	r.Path = string(d.text())
	r.Type = Type(d.octet())
	flags := d.octet()
	r.Mode, r.UID, r.GID = uint32(d.uvarint()), uint32(d.uvarint()), uint32(d.uvarint())
	r.Size = int64(d.uvarint())
	sec := d.varint()
	r.ModTime = time.Unix(sec, int64(d.uvarint()))
	if flags&hasDigest != 0 {
		r.Digest = digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(d.bytes(32)))
	}
	if flags&hasLinkname != 0 {
		r.Linkname = string(d.text())
	}
	if flags&hasHardlink != 0 {
		r.Hardlink = string(d.text())
	}
	if flags&hasXattrs != 0 {
		r.Xattrs = d.xattrs()
	}
	if flags&hasDevice != 0 {
		r.DevMajor, r.DevMinor = d.varint(), d.varint()
	}
	r.Opaque = flags&isOpaque != 0
	if flags&hasOffset != 0 {
		r.Offset = int64(d.uvarint())
	}
	if flags&hasRealTime != 0 {
		r.RealTime = time.Unix(d.varint(), 0)
	}
	if d.bad || len(d.b) != 0 {
		return nil, errDamaged
	}
	return r, nil
}

func (d *decoder) xattrs() map[string]string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		k := string(d.text())
		m[k] = string(d.text())
	}
	return m
}
