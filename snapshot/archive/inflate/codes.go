package inflate

import "encoding/binary"

const (
	litMask  = 1<<litBits - 1
	distMask = 1<<distBits - 1
)

// codes reads symbols until the block ends or there is no room for another.
func (d *decoder) codes() error {
	for d.made <= window+outSize {
		if d.pos > d.limit {
			if err := d.more(); err != nil {
				return err
			}
			if d.pos > d.limit {
				return d.cut()
			}
		}
		switch end, ok := d.run(); {
		case !ok:
			return ErrCorrupt
		case end:
			return d.blockEnd()
		}
	}
	return nil
}

// run reads symbols as long as there are input and room. It tells whether the block
// has ended, and whether all was well.
func (d *decoder) run() (end, ok bool) {
	in, out := d.in, d.out
	pos, made, bits, n := d.pos, d.made, d.bits, d.n
	limit, base := d.limit, d.base
	lit, dist := &d.lit, &d.dist
	ok = true
loop:
	for pos <= limit && made <= window+outSize {
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (n & 63)
		pos += int((63 - n) >> 3)
		n |= 56
		e := lit[bits&litMask]
		if e&isLiteral != 0 {
			// Up to three, of 11 bits at most, before the match that may follow
			// needs more bits than are left.
			bits >>= e & 63
			n -= uint(e & 63)
			out[made] = byte(e >> 16)
			made++
			if e = lit[bits&litMask]; e&isLiteral != 0 {
				bits >>= e & 63
				n -= uint(e & 63)
				out[made] = byte(e >> 16)
				made++
				if e = lit[bits&litMask]; e&isLiteral != 0 {
					bits >>= e & 63
					n -= uint(e & 63)
					out[made] = byte(e >> 16)
					made++
					continue
				}
			}
			if pos > limit {
				continue // the symbol is looked up again
			}
			bits |= binary.LittleEndian.Uint64(in[pos:]) << (n & 63)
			pos += int((63 - n) >> 3)
			n |= 56
		}
		if e&isSpecial != 0 {
			if e&isPointer != 0 {
				bits >>= litBits
				n -= litBits
				if e, ok = long(lit[:], e, bits); !ok {
					break
				}
				if e&isLiteral != 0 {
					bits >>= e & 63
					n -= uint(e & 63)
					out[made] = byte(e >> 16)
					made++
					continue
				}
			}
			if e&isSpecial != 0 {
				bits >>= e & 63
				n -= uint(e & 63)
				end, ok = e&isEnd != 0, e&isEnd != 0
				break
			}
		}
		length := int(e>>16&0x1ff) + int(bits&(1<<(e&63)-1)>>(e>>8&15))
		bits >>= e & 63
		n -= uint(e & 63)

		e = dist[bits&distMask]
		if e&isSpecial != 0 {
			bits >>= distBits
			n -= distBits
			if e, ok = long(dist[:], e, bits); !ok || e&isSpecial != 0 {
				ok = false
				break
			}
		}
		back := int(e>>16) + int(bits&(1<<(e&63)-1)>>(e>>8&15))
		bits >>= e & 63
		n -= uint(e & 63)
		from := made - back
		if from < base {
			ok = false
			break loop
		}
		stop := made + length
		switch {
		case back >= 8 && (length <= 32 || back < length):
			for made < stop {
				binary.LittleEndian.PutUint64(out[made:], binary.LittleEndian.Uint64(out[from:]))
				made += 8
				from += 8
			}
		case back >= 8:
			copy(out[made:stop], out[from:from+length])
		default:
			repeat(out, from, made, stop)
		}
		made = stop
	}
	d.pos, d.made, d.bits, d.n = pos, made, bits, n
	return end, ok
}

// long looks a code up that is longer than the first part of a table is wide: e points to
// its second part, or else is no code. It tells whether there is such a code.
func long(table []uint32, e uint32, bits uint64) (uint32, bool) {
	if e&isPointer == 0 {
		return 0, false
	}
	at := e>>16&0xfff + uint32(bits)&(1<<(e>>8&15)-1)
	if at >= uint32(len(table)) {
		return 0, false
	}
	return table[at], true
}

// repeat copies up to 7 bytes before made again and again, up to stop; what comes after
// it is written as well.
func repeat(out []byte, from, made, stop int) {
	if made-from > 1 {
		for made < stop {
			out[made] = out[from]
			made++
			from++
		}
		return
	}
	word := uint64(out[from]) * 0x0101010101010101
	for made < stop {
		binary.LittleEndian.PutUint64(out[made:], word)
		made += 8
	}
}
