package tarsplit

import (
	"encoding/binary"
	"hash/crc64"

	"github.com/vbatts/tar-split/tar/storage"
)

// updateCRC adds bytes to a CRC-64 of tar-split: hash/crc64's with the polynomial
// ISO, x^64 + x^4 + x^3 + x + 1. That has so few terms that a multiplication by a power
// of x^64 is a few shifts, which is four times as fast as tables: x^64 is x^4 + x^3 +
// x + 1, and x^128 its square, x^8 + x^6 + x^2 + 1. The highest coefficient is in the
// lowest bit.
func updateCRC(sum uint64, b []byte) uint64 {
	sum = ^sum
	for ; len(b) >= 16; b = b[16:] {
		s, w := sum^binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		// s by x^128, and what of that is beyond x^64 by x^64; w by x^64 likewise.
		over := s<<62 ^ s<<58 ^ s<<56 ^ w ^ w<<63 ^ w<<61 ^ w<<60
		sum = s ^ s>>2 ^ s>>6 ^ s>>8 ^ over ^ over>>1 ^ over>>3 ^ over>>4
	}
	return crc64.Update(^sum, storage.CRCTable, b)
}
