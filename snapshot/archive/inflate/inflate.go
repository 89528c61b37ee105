package inflate

import (
	"encoding/binary"
	"errors"
	"io"
)

// ErrCorrupt says that the stream is not what the format allows.
var ErrCorrupt = errors.New("corrupt gzip stream")

const (
	window   = 32 << 10
	outSize  = 128 << 10 // what is made at once
	outSlack = 258 + 8 + 16
	inSize   = 64 << 10
	inSlack  = 16 // bytes behind the input that may be looked at
)

// state says what comes next in the stream.
type state int

const (
	atHeader state = iota // of a block
	inStored
	inCodes
	atEnd // of the last block
)

// decoder reads deflate.
type decoder struct {
	src io.Reader
	err error // of src, once it has ended

	in      []byte // [pos, end) is not read yet; inSlack bytes behind are zero at the end of src
	pos     int
	end     int
	limit   int // pos may go up to here before more is needed
	bits    uint64
	n       uint // valid bits in bits; those above are the next in the input, or zero
	state   state
	last    bool // the block is the last
	stored  int  // bytes that are left of a stored block
	lit     [litTable]uint32
	dist    [distTable]uint32
	meta    [metaTable]uint32
	lengths [288 + 32]uint8

	out  []byte // [read, made) is not given to anybody yet; what lies before made is the window
	read int
	made int
	base int // where the window of this stream begins
}

func newDecoder(src io.Reader) *decoder {
	return &decoder{src: src, in: make([]byte, inSize+inSlack), limit: -1, out: make([]byte, window+outSize+outSlack)}
}

// more reads input until there is enough for a symbol, or it ends.
func (d *decoder) more() error {
	if d.err != nil {
		if d.at() > d.end {
			return d.cut()
		}
		return nil
	}
	from := d.at() // align may go back to it
	copy(d.in, d.in[from:d.end])
	d.pos, d.end = d.pos-from, d.end-from
	for d.end < 3*inSlack && d.err == nil {
		var k int
		k, d.err = d.src.Read(d.in[d.end:inSize])
		d.end += k
	}
	d.limit = d.end - inSlack
	if d.err != nil {
		clear(d.in[d.end : d.end+inSlack])
		d.limit = d.end + inSlack - 8
	}
	return nil
}

// cut is the error of a stream that ends too early.
func (d *decoder) cut() error {
	if d.err != io.EOF {
		return d.err
	}
	return io.ErrUnexpectedEOF
}

// at is the position of the first byte of which no bit has been used.
func (d *decoder) at() int { return d.pos - int(d.n>>3) }

// refill makes at least 56 bits ready.
func (d *decoder) refill() error {
	if d.pos > d.limit {
		if err := d.more(); err != nil {
			return err
		}
		if d.pos > d.limit {
			return d.cut()
		}
	}
	d.bits |= binary.LittleEndian.Uint64(d.in[d.pos:]) << (d.n & 63)
	d.pos += int((63 - d.n) >> 3)
	d.n |= 56
	return nil
}

// take returns the next k bits, which are ready.
func (d *decoder) take(k uint) int {
	v := d.bits & (1<<(k&63) - 1)
	d.bits >>= k & 63
	d.n -= k
	return int(v)
}

// align gives whole bytes that are in the bit buffer back.
func (d *decoder) align() error {
	d.pos = d.at()
	d.bits, d.n = 0, 0
	if d.err != nil && d.pos > d.end {
		return d.cut()
	}
	return nil
}

// step makes some output, for which there is room. At the end of the last block the
// state is atEnd.
func (d *decoder) step() error {
	switch d.state {
	case atHeader:
		return d.header()
	case inStored:
		return d.copyStored()
	case inCodes:
		return d.codes()
	}
	return nil
}

// slide makes room; everything has been read.
func (d *decoder) slide() {
	by := d.made - window
	copy(d.out, d.out[by:d.made])
	d.made, d.read, d.base = window, window, max(0, d.base-by)
}

// blockEnd is called at the end of a block.
func (d *decoder) blockEnd() error {
	d.state = atHeader
	if d.last {
		d.state = atEnd
		return d.align()
	}
	return nil
}

// header reads the beginning of a block.
func (d *decoder) header() error {
	if err := d.refill(); err != nil {
		return err
	}
	d.last = d.take(1) == 1
	switch d.take(2) {
	case 0:
		if err := d.align(); err != nil {
			return err
		}
		if err := d.refill(); err != nil {
			return err
		}
		size, check := d.take(16), d.take(16)
		if size != check^0xffff {
			return ErrCorrupt
		}
		if err := d.align(); err != nil {
			return err
		}
		d.stored, d.state = size, inStored
		return nil
	case 1:
		d.state = inCodes
		return d.fixed()
	case 2:
		d.state = inCodes
		return d.dynamic()
	}
	return ErrCorrupt
}

func (d *decoder) copyStored() error {
	for d.stored > 0 {
		room := window + outSize - d.made
		if room == 0 {
			return nil
		}
		if d.pos >= d.end {
			if d.err != nil {
				return d.cut()
			}
			if err := d.more(); err != nil {
				return err
			}
			continue
		}
		k := copy(d.out[d.made:d.made+min(room, d.stored)], d.in[d.pos:d.end])
		d.pos, d.made, d.stored = d.pos+k, d.made+k, d.stored-k
	}
	return d.blockEnd()
}

// fixed prepares the codes that are agreed upon (RFC 1951, 3.2.6).
func (d *decoder) fixed() error {
	l := d.lengths[:288]
	for i := range l {
		switch {
		case i < 144, i >= 280:
			l[i] = 8
		case i < 256:
			l[i] = 9
		default:
			l[i] = 7
		}
	}
	build(d.lit[:], litBits, l, litKinds[:])
	dist := d.lengths[288:]
	for i := range dist {
		dist[i] = 5
	}
	build(d.dist[:], distBits, dist, distKinds[:])
	return nil
}

// metaOrder is the order of the lengths of the codes for lengths.
var metaOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the codes of a block (RFC 1951, 3.2.7).
func (d *decoder) dynamic() error {
	nlit, ndist, nmeta := d.take(5)+257, d.take(5)+1, d.take(4)+4
	if nlit > 286 || ndist > 30 {
		return ErrCorrupt
	}
	var meta [19]uint8
	for i := range nmeta {
		if err := d.refill(); err != nil {
			return err
		}
		meta[metaOrder[i]] = uint8(d.take(3))
	}
	if !build(d.meta[:], metaBits, meta[:], metaKinds[:]) {
		return ErrCorrupt
	}
	l := d.lengths[:nlit+ndist]
	for i := 0; i < len(l); {
		k, err := d.lengthsAt(l, i)
		if err != nil {
			return err
		}
		i += k
	}
	if l[256] == 0 || !build(d.lit[:], litBits, l[:nlit], litKinds[:]) || !build(d.dist[:], distBits, l[nlit:], distKinds[:]) {
		return ErrCorrupt
	}
	return nil
}

// lengthsAt reads the length of one symbol's code or of several at once.
func (d *decoder) lengthsAt(l []uint8, i int) (int, error) {
	if err := d.refill(); err != nil {
		return 0, err
	}
	e := d.meta[d.bits&(1<<metaBits-1)]
	if e&isSpecial != 0 {
		return 0, ErrCorrupt
	}
	d.take(uint(e & 0xff))
	sym := uint8(e >> 16)
	value, repeat := uint8(0), 0
	switch {
	case sym < 16:
		l[i] = sym
		return 1, nil
	case sym == 16 && i == 0:
		return 0, ErrCorrupt
	case sym == 16:
		value, repeat = l[i-1], 3+d.take(2)
	case sym == 17:
		repeat = 3 + d.take(3)
	default:
		repeat = 11 + d.take(7)
	}
	if i+repeat > len(l) {
		return 0, ErrCorrupt
	}
	for k := range repeat {
		l[i+k] = value
	}
	return repeat, nil
}
