package secretscan

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// Form is how a secret was written.
type Form string

// The forms.
const (
	Plain  Form = "plain"
	Base64 Form = "base64"
	Hex    Form = "hex"
)

const (
	// minSecret is the length of the shortest value that is searched.
	minSecret = 8
	// minDistinct is how many different bytes a value must have.
	minDistinct = 3
	// maxPattern bounds what is compared of one value.
	maxPattern = 4 << 10
	// maxTokens bounds how many parts of one value are searched by themselves.
	maxTokens = 256
	// minToken is the length of the shortest part that is searched by itself; one
	// of hexadecimal digits alone must be twice as long.
	minToken = 16
)

// partPatterns are what is searched beside all of a value, since a key or a credentials
// file may be copied in part: the parts of it that look random. They are likely secrets if
// they are in no public part and do not look like names.
func partPatterns(id string, value, v []byte) []pattern {
	var out []pattern
	secret := private(value)
	for _, t := range tokens(v) {
		out = append(out, pattern{bytes: t, secret: id, form: Plain, likely: bytes.Contains(secret, t) && isRandom(string(t))})
	}
	return out
}

// whole is a value without the line's end that an editor or echo adds, and cut
// to the length that is compared; nil if it is not searched.
func whole(value []byte) []byte {
	v := bytes.TrimRight(value, "\r\n")
	v = v[:min(len(v), maxPattern)]
	if len(v) < minSecret || distinct(v) < minDistinct {
		return nil
	}
	return v
}

func distinct(v []byte) int {
	var seen [256]bool
	n := 0
	for _, b := range v {
		if !seen[b] {
			seen[b] = true
			n++
		}
	}
	return n
}

// tokens are the parts of a value that look random: words of the alphabet of
// base64 that have upper-case, lower-case letters and digits, or long hexadecimal
// numbers. Names, addresses and the first and last line of a key do not.
func tokens(value []byte) [][]byte {
	var out [][]byte
	for _, word := range bytes.FieldsFunc(value, func(r rune) bool { return !isTokenRune(r) }) {
		if len(out) == maxTokens {
			break
		}
		word = word[:min(len(word), maxPattern)]
		if len(word) < len(value) && looksRandom(word) {
			out = append(out, word)
		}
	}
	return out
}

func isTokenRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("+/_-.~", r)
}

func looksRandom(word []byte) bool {
	if len(word) < minToken {
		return false
	}
	var upper, lower, digit bool
	hexOnly := true
	for _, b := range word {
		switch {
		case b >= '0' && b <= '9':
			digit = true
			continue
		case b >= 'A' && b <= 'Z':
			upper = true
		case b >= 'a' && b <= 'z':
			lower = true
		}
		if (b|0x20) < 'a' || (b|0x20) > 'f' {
			hexOnly = false
		}
	}
	return digit && (upper && lower || hexOnly && (upper || lower) && len(word) >= 2*minToken)
}

// encodedPatterns are the forms of a value in hexadecimal and base64. What stands
// before the value decides which of three texts its base64 has; the characters
// that also depend on its neighbours are left out, and so is padding.
func encodedPatterns(id string, v []byte, likely bool) []pattern {
	h := hex.EncodeToString(v)
	out := []pattern{
		{bytes: []byte(h), secret: id, form: Hex, likely: likely},
		{bytes: []byte(strings.ToUpper(h)), secret: id, form: Hex, likely: likely},
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := enc.EncodeToString(append(make([]byte, before), v...))
			first := (before*8 + 5) / 6
			if (before+len(v))%3 != 0 {
				text = text[:len(text)-1]
			}
			out = append(out, pattern{bytes: []byte(text[first:]), secret: id, form: Base64, likely: likely})
		}
	}
	return out
}
