package inflate

import (
	"fmt"
	"hash/crc32"
	"io"
)

// Reader reads a gzip stream: one member or several after each other.
type Reader struct {
	d    *decoder
	sum  uint32 // CRC-32 of the member so far
	size uint32
	err  error
}

// NewReader reads the header of a gzip stream. The Reader may read more of r than
// the stream, up to its end.
func NewReader(r io.Reader) (*Reader, error) {
	z := &Reader{d: newDecoder(r)}
	if err := z.header(); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return z, nil
}

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	for {
		d := z.d
		if d.read < d.made {
			n := copy(p, d.out[d.read:d.made])
			d.read += n
			return n, nil
		}
		if z.err != nil || len(p) == 0 {
			return 0, z.err
		}
		if d.state == atEnd {
			if z.err = z.trailer(); z.err == nil {
				z.err = z.header() // of another member, or EOF
			}
			continue
		}
		if d.made > outSize {
			d.slide()
		}
		old := d.made
		if z.err = d.step(); z.err == ErrCorrupt && d.err != nil && d.at()+8 > d.end {
			z.err = d.cut() // there is no trailer: it is zeros behind the end that make no sense
		}
		z.sum = crc32.Update(z.sum, crc32.IEEETable, d.out[old:d.made])
		z.size += uint32(d.made - old)
	}
}

// Close implements io.Closer. It does not close the stream below.
func (z *Reader) Close() error { return nil }

// byte reads one byte between deflate streams.
func (d *decoder) byte() (byte, error) {
	for d.pos >= d.end {
		if d.err != nil {
			return 0, d.err
		}
		if err := d.more(); err != nil {
			return 0, err
		}
	}
	d.pos++
	return d.in[d.pos-1], nil
}

func (d *decoder) bytes(n int) (v uint32, err error) {
	for i := range n {
		b, err := d.byte()
		if err != nil {
			return 0, noEOF(err)
		}
		v |= uint32(b) << (8 * i)
	}
	return v, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// trailer checks what follows a member.
func (z *Reader) trailer() error {
	sum, err := z.d.bytes(4)
	if err != nil {
		return err
	}
	size, err := z.d.bytes(4)
	if err != nil {
		return err
	}
	if sum != z.sum || size != z.size {
		return fmt.Errorf("%w: the checksum does not match", ErrCorrupt)
	}
	return nil
}

// header reads the beginning of a member. At the end of the stream it returns
// io.EOF.
func (z *Reader) header() error {
	d := z.d
	first, err := d.byte()
	if err != nil {
		return err
	}
	magic, err := d.bytes(2)
	if err != nil {
		return err
	}
	if first != 0x1f || magic != 0x088b {
		return fmt.Errorf("%w: no gzip header", ErrCorrupt)
	}
	flags, err := d.bytes(1)
	if err != nil {
		return err
	}
	if _, err := d.bytes(4); err != nil { // time
		return err
	}
	if _, err := d.bytes(2); err != nil { // level, system
		return err
	}
	if err := d.skipFields(flags); err != nil {
		return err
	}
	z.sum, z.size = 0, 0
	d.state, d.base = atHeader, d.made
	return nil
}

// skipFields reads the optional parts of a header.
func (d *decoder) skipFields(flags uint32) error {
	const hasCRC, hasExtra, hasName, hasComment = 2, 4, 8, 16
	if flags&hasExtra != 0 {
		n, err := d.bytes(2)
		if err != nil {
			return err
		}
		for range n {
			if _, err := d.bytes(1); err != nil {
				return err
			}
		}
	}
	for _, flag := range []uint32{hasName, hasComment} {
		for flags&flag != 0 {
			b, err := d.bytes(1)
			if err != nil {
				return err
			}
			if b == 0 {
				break
			}
		}
	}
	if flags&hasCRC != 0 {
		_, err := d.bytes(2)
		return err
	}
	return nil
}
