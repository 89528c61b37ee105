package secretscan

import (
	"bytes"
	"crypto/x509"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Likely reports whether a value looks like a secret, as opposed to the name of a user or a
// region, a public certificate, a setting: what of it may stay somewhere by chance, or is
// meant to. It goes by the form of keys, tokens and passwords, and by how far its words are
// from words; docs/COMPATIBILITY.md has the rule. This is the one place that decides it.
func Likely(value []byte) bool {
	v := private(bytes.TrimRight(value, "\r\n"))
	if len(bytes.TrimSpace(v)) < minSecret {
		return false
	}
	if !isText(v) || keyForms().Match(v) {
		return true
	}
	words := bytes.FieldsFunc(v, isSpace)
	if len(words) == 1 && isPassword(v) || isPhrase(v) {
		return true
	}
	for _, w := range words {
		if isRandom(string(w)) {
			return true
		}
	}
	return false
}

// private is a value without the parts of it that are public: certificates and public
// keys.
func private(value []byte) []byte {
	if _, err := x509.ParseCertificates(value); err == nil {
		return nil
	}
	return publicParts().ReplaceAll(value, nil)
}

var publicParts = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)-----BEGIN (?:(?:TRUSTED |X509 )?CERTIFICATE|(?:NEW )?CERTIFICATE REQUEST|X509 CRL|PKCS7|(?:RSA |DSA )?PUBLIC KEY|(?:DH|DSA|EC) PARAMETERS|PGP PUBLIC KEY BLOCK)-----.*?-----END [A-Z0-9 ]*-----` +
		`|(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp[0-9]+|sk-[a-z0-9@.-]+) AAAA[A-Za-z0-9+/]+=*`)
})

// keyForms are what keys, tokens and passwords are recognised by wherever they stand.
var keyForms = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)-----BEGIN [A-Z0-9 ]*PRIVATE KEY` +
		`|\bAGE-SECRET-KEY-` +
		`|\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|sk-|[sr]k_(?:live|test)_|npm_|pypi-|dckr_pat_|hv[sb]\.|AKIA|ASIA|AIza|ya29\.|SG\.)[A-Za-z0-9_.-]{12}` +
		`|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+` +
		`|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b` +
		`|\b[a-z][a-z0-9+.-]*://[^\s/:@]*:[^\s/@]+@` + // a password in a URL
		`|\b(?:Bearer|Basic)\s+[A-Za-z0-9+/_=.-]{8}` +
		`|\$(?:1|2[aby]?|5|6|y|argon2\w*|apr1)\$` + // a password's hash
		`|\bpassword\s+[^\s]{4}` +
		`|(?:passwo?r?d|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|_auth|"auth)["']?\s*[=:]\s*["']?[^\s"'{[]{4}`)
})

func isSpace(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("\"'`,;<>()[]{}", r) }

func isText(v []byte) bool {
	return utf8.Valid(v) && bytes.IndexFunc(v, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }) < 0
}

// isPassword reports whether a word has letters of both cases, digits and signs that
// separate nothing.
func isPassword(word []byte) bool {
	return bytes.ContainsFunc(word, unicode.IsUpper) && bytes.ContainsFunc(word, unicode.IsLower) &&
		bytes.ContainsFunc(word, unicode.IsDigit) && bytes.ContainsAny(word, "!#$%^&*+~?|\\") &&
		!bytes.ContainsAny(word, "\"'`,;<>()[]{}") && !bytes.Contains(word, []byte("://"))
}

// isPhrase reports whether a value is four words or more, and nothing else.
func isPhrase(v []byte) bool {
	for _, b := range v {
		if b != ' ' && (b < 'a' || b > 'z') {
			return false
		}
	}
	return len(bytes.Fields(v)) >= 4
}

// enough is the surprise, in bits, from which on a word is taken for random.
const enough = 20

// isRandom reports whether a word, or a part of it without signs, looks as if it was drawn
// by lot: there is surprise enough, and not because the word is long.
func isRandom(word string) bool {
	total, length := 0.0, 0
	for _, chunk := range strings.FieldsFunc(word, func(r rune) bool { return !isDigit(r) && !isLetter(r) }) {
		bits := surprise(chunk)
		if bits >= enough && bits >= float64(len(chunk)) || isHex(chunk) && len(chunk) >= 2*minToken {
			return true
		}
		total += bits
		length += len(chunk)
	}
	return total >= enough && total >= float64(length)
}

func isDigit(r rune) bool  { return r >= '0' && r <= '9' }
func isLetter(r rune) bool { return r|0x20 >= 'a' && r|0x20 <= 'z' }

// isHex reports whether a chunk is a hexadecimal number that is no decimal one, nor a word.
func isHex(chunk string) bool {
	return strings.ContainsFunc(chunk, isDigit) && strings.ContainsFunc(chunk, isLetter) &&
		!strings.ContainsFunc(chunk, func(r rune) bool { return isLetter(r) && r|0x20 > 'f' })
}

// surprise is how many bits of a chunk, letters and digits, are not what names and numbers
// are made of: letters that seldom follow each other, capitals within words, letters and
// digits in turn, very long numbers.
func surprise(chunk string) float64 {
	runs := split(chunk)
	mixed := len(runs) >= 4 && len(chunk) < 4*len(runs)
	bits := 0.0
	for _, run := range runs {
		switch {
		case isDigit(rune(run[0])):
			if mixed {
				bits += 3.3 * float64(len(run))
			} else if len(run) >= minToken {
				bits += 2 * float64(len(run))
			}
		case mixed && len(run) <= 2:
			bits += 4.7 * float64(len(run))
		default:
			bits += unlike(run)
		}
	}
	return bits
}

// split cuts a chunk where letters and digits meet.
func split(chunk string) []string {
	var runs []string
	start := 0
	for i := 1; i <= len(chunk); i++ {
		if i == len(chunk) || isDigit(rune(chunk[i])) != isDigit(rune(chunk[i-1])) {
			runs = append(runs, chunk[start:i])
			start = i
		}
	}
	return runs
}

// unlike is how far letters are from words.
func unlike(letters string) float64 {
	bits, switches := 0.0, 0
	for i := 1; i < len(letters); i++ {
		a, b := letters[i-1], letters[i]
		if !strings.Contains(followers[a|0x20-'a'], string(b|0x20)) {
			bits += 4.7
		}
		if (a^b)&0x20 != 0 {
			switches++
		}
	}
	if 3*switches > len(letters) { // camel case has less
		bits += 2 * float64(switches)
	}
	return bits
}

// followers are the letters that follow each letter often, in English and in the names of
// software.
var followers = [26]string{
	"bcdfgiklmnprstuvwxy", "aeijlorsuy", "acehiklmorstu", "abcdefilmorsu", "abcdefgilmnopqrstuvwxy",
	"aefilorstu", "aehilnorsu", "aeiortu", "abcdefglmnoprstvz", "aeou", "aeilnosuy", "acdeilostuy",
	"abeimopsu", "acdefgiklmnorstuv", "abcdfgiklmnoprstuvw", "acdehilmoprstu", "u",
	"acdefgiklmnoprstuvy", "acdehiklmoprstuwy", "abcdefhilmoprstuy", "abcdefgilmnprst", "aeiops",
	"aehiorsu", "aeipt", "aemnopst", "aeioz",
}
