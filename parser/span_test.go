package parser

import (
	"errors"
	"strings"
	"testing"
)

// TestMarkedPart: position and marked part of mistakes that parsing finds.
func TestMarkedPart(t *testing.T) {
	for _, c := range []struct{ src, at, part string }{
		{"FROM a\nBADCMD y\n", "2:1-6", "BADCMD"},
		{"FROM a\nRUN --mont=target=/e true", "2:5-10", "--mont"},
		{"FROM a\nCOPY \\\n\t--form=x \\\n  a b\n", "3:2-7", "--form"},
		{"FROM a\nRUN --mount=from=$x,target=/y ls", "2:13-16", "from"},
		{"FROM a AS 1x\n", "1:11-12", "1x"},
		{"FROM a b\n", "1:1-8", ""},
		{"FROM a\nRUN --network=nowhere x", "2:15-21", "nowhere"},
		{"FROM a\nRUN --security=none x", "2:16-19", "none"},
		{"FROM a\nHEALTHCHECK --interval=soon CMD x", "2:24-27", "soon"},
		{"FROM a\nHEALTHCHECK --retries=-1 CMD x", "2:13-21", "--retries"},
		{"FROM a\nONBUILD ONBUILD RUN x", "2:1-15", "ONBUILD ONBUILD"},
		{"FROM a\nSHELL sh -c", "2:1-11", ""},
		{"FROM a\nENV \u00fc=1 b", "2:9", "b"},
		{"# escape=x\nFROM a\n", "1:10", "x"},
		{"# check=what=1\nFROM a\n", "1:9-12", "what"},
		{"# syntax=example.org/mine:1\nFROM a\n", "1:10-27", "example.org/mine:1"},
		{"FROM a\nCOPY x\n", "2:1-6", ""},
		{"FROM a\nCOPY \\\n  x\n", "2:1-3:3", ""},
	} {
		_, err := Parse("Dockerfile", []byte(c.src))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: got %v", c.src, err)
			continue
		}
		if got := e.Span().String(); got != c.at {
			t.Errorf("%q: at %s, want %s (%s)", c.src, got, c.at, e.Msg)
		}
		if got := underlined(e.Excerpt()); got != c.part {
			t.Errorf("%q: marked %q, want %q (%s)\n%s", c.src, got, c.part, e.Msg, e.Excerpt())
		}
	}
}

// underlined is the text above the carets.
func underlined(excerpt string) string {
	lines := strings.Split(excerpt, "\n")
	for i, l := range lines {
		if from := strings.Index(l, "^"); from > 0 && strings.HasPrefix(l, "     |") {
			above := []rune(lines[i-1])
			return string(above[from : strings.LastIndex(l, "^")+1])
		}
	}
	return ""
}

func TestFindSpan(t *testing.T) {
	src := []byte("RUN a-b ab b\n  b.c /b b\n")
	for part, want := range map[string]string{"b": "1:12", "ab": "1:9-10", "b.c": "2:3-5", "/b": "2:7-8", "c": "", "": ""} {
		got, ok := FindSpan(src, 1, 2, part)
		if got.String() != want || ok != (want != "") {
			t.Errorf("%q: %s, want %s", part, got, want)
		}
	}
	if s := WholeSpan(src, 1, 9); s.String() != "1:1-2:10" {
		t.Error(s)
	}
	if s := WholeSpan(src, 7, 9); s != (Span{}) {
		t.Error(s)
	}
}
