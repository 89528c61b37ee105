package inflate

import "math/bits"

// Entries of the decoding tables. An entry is found with the next bits of the
// stream; bits 0-7 say how many of them it stands for, extra bits included, bits 8-11
// how many of those are the code.
const (
	isLiteral = 1 << 31 // bits 16-23: the byte
	isSpecial = 1 << 15 // none of: a literal, a length, a distance
	isPointer = 1 << 14 // special: bits 16-27 say where a table for longer codes begins, bits 8-11 with how many bits it is indexed
	isEnd     = 1 << 13 // special: end of block
)

const (
	litBits  = 11
	distBits = 8
	metaBits = 7
	maxCode  = 15

	// What zlib's program "enough" computes for 288 and 32 symbols of at most 15
	// bits, rounded up.
	litTable  = 2432
	distTable = 448
	metaTable = 1 << metaBits
)

// kinds of tables: what a symbol means, without the length of its code.
var (
	litKinds  = makeLitKinds()
	distKinds = makeDistKinds()
	metaKinds = makeMetaKinds()
)

func makeLitKinds() (t [288]uint32) {
	for i := range 256 {
		t[i] = isLiteral | uint32(i)<<16
	}
	t[256] = isSpecial | isEnd
	base := uint32(3)
	for i := range 28 {
		extra := uint32(0)
		if i >= 8 {
			extra = uint32(i-4) / 4
		}
		t[257+i] = base<<16 | extra
		base += 1 << extra
	}
	t[285] = 258 << 16
	t[286], t[287] = isSpecial, isSpecial
	return t
}

func makeDistKinds() (t [32]uint32) {
	base := uint32(1)
	for i := range 30 {
		extra := uint32(0)
		if i >= 4 {
			extra = uint32(i-2) / 2
		}
		t[i] = base<<16 | extra
		base += 1 << extra
	}
	t[30], t[31] = isSpecial, isSpecial
	return t
}

func makeMetaKinds() (t [19]uint32) {
	for i := range t {
		t[i] = uint32(i) << 16
	}
	return t
}

// build fills a table for codes of the given lengths; index is the number of bits
// that it is indexed with. It is false if the lengths make no prefix code. As in
// zlib a code may be incomplete only if it has at most one symbol, of one bit.
func build(table []uint32, index uint, lengths []uint8, kinds []uint32) bool {
	var count, next [maxCode + 1]int
	for _, l := range lengths {
		count[l]++
	}
	count[0] = 0
	code, longest := 0, 0
	for l := 1; l <= maxCode; l++ {
		code <<= 1
		next[l] = code
		code += count[l]
		if count[l] > 0 {
			longest = l
			if code > 1<<l {
				return false
			}
		}
	}
	for i := range 1 << index {
		table[i] = isSpecial
	}
	complete := code == 1<<maxCode
	if !complete && longest > 0 && (longest != 1 || count[1] != 1) {
		return false
	}
	return fill(table, index, lengths, kinds, next)
}

// fill enters the symbols. Next has the first code of each length.
func fill(table []uint32, index uint, lengths []uint8, kinds []uint32, next [maxCode + 1]int) bool {
	var sub [1 << litBits]uint8 // how many more bits the codes with this beginning need
	first := next
	for _, l := range lengths {
		if uint(l) > index {
			head := reversed(first[l]>>(uint(l)-index), index)
			sub[head] = max(sub[head], l-uint8(index))
		}
		first[l]++
	}
	free := 1 << index
	for sym, l := range lengths {
		if l == 0 {
			continue
		}
		code := next[l]
		next[l]++
		kind := kinds[sym]
		if uint(l) <= index {
			e := kind&^0xff | uint32(l)<<8 | kind&0xff + uint32(l)
			for i := int(reversed(code, uint(l))); i < 1<<index; i += 1 << l {
				table[i] = e
			}
			continue
		}
		head := reversed(code>>(uint(l)-index), index)
		width := uint(sub[head])
		p := table[head]
		if p&isPointer == 0 {
			if free+1<<width > len(table) {
				return false
			}
			p = uint32(free)<<16 | isSpecial | isPointer | uint32(width)<<8 | uint32(index)
			table[head] = p
			for i := range 1 << width {
				table[free+i] = isSpecial
			}
			free += 1 << width
		}
		rest := uint(l) - index
		e := kind&^0xff | uint32(rest)<<8 | kind&0xff + uint32(rest)
		for i := int(reversed(code, uint(l)) >> index); i < 1<<width; i += 1 << rest {
			table[int(p>>16)+i] = e
		}
	}
	return true
}

// reversed returns the lowest n bits of a code, the first bit lowest.
func reversed(code int, n uint) uint16 { return bits.Reverse16(uint16(code)) >> (16 - n) }
