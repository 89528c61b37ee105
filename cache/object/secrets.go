package object

import (
	"net/url"
	"slices"
	"strings"
	"sync"
)

// hidden is shown in the place of a credential.
const hidden = "***"

// Secrets are the credentials that no error may hold. The zero value has none.
type Secrets struct {
	mu    sync.Mutex
	words []string // guarded by mu; longest first
}

// Add adds credentials; short ones are no credentials.
func (s *Secrets) Add(words ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range words {
		for _, form := range []string{w, url.QueryEscape(w), url.PathEscape(w)} {
			if len(form) > 3 && !slices.Contains(s.words, form) {
				s.words = append(s.words, form)
			}
		}
	}
	slices.SortStableFunc(s.words, func(a, b string) int { return len(b) - len(a) })
}

// markers are what stands before a signature or a key in texts of services and in URLs.
var markers = []string{
	"signature=", "sig=", "x-amz-credential=", "x-amz-security-token=", "accountkey=",
	"sharedaccesssignature=", "client_assertion=", "webidentitytoken=", "bearer ", "sharedkey ",
}

// Scrub hides the credentials in a text, and what looks like a signature.
func (s *Secrets) Scrub(text string) string {
	s.mu.Lock()
	for _, w := range s.words {
		text = strings.ReplaceAll(text, w, hidden)
	}
	s.mu.Unlock()
	for _, m := range markers {
		text = scrubAfter(text, m)
	}
	return text
}

// scrubAfter hides the words that follow a marker, however it is written.
func scrubAfter(text, marker string) string {
	var b strings.Builder
	for {
		at := strings.Index(lowerASCII(text), marker)
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		at += len(marker)
		b.WriteString(text[:at] + hidden)
		text = text[at:]
		if end := strings.IndexAny(text, " \t\n&,;\"'<>"); end >= 0 {
			text = text[end:]
		} else {
			text = ""
		}
	}
}

// lowerASCII keeps the length of a text, unlike strings.ToLower.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
