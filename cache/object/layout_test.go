package object

import (
	"strings"
	"testing"
)

func TestIndexNames(t *testing.T) {
	l := Layout{Blobs: "b/", Index: "m/name"}
	long := strings.Repeat("ä", maxScope)
	names := map[string]string{}
	for _, c := range []struct {
		layout Layout
		scope  string
		want   string // "": any
	}{
		{l, "", "m/name.builder"},
		{l, "main", "m/name.builder~main"},
		{l, "Main", "m/name.builder~Main"},
		{l, "pull/7 ~", "m/name.builder~pull~2F7~20~7E"},
		{l, "release-1.2_x", "m/name.builder~release-1~2E2_x"},
		{l, long, ""},
		{l, long + "x", ""},
		{l, "builder", ""},
		{Layout{Index: "m/name.builder"}, "", ""},
		{Layout{Index: "m/name.builder~x"}, "", ""},
		{l, "x.builder", ""},
	} {
		got := c.layout.index(c.scope)
		if c.want != "" && got != c.want {
			t.Errorf("%q: got %s, want %s", c.scope, got, c.want)
		}
		if len(got) > 200 {
			t.Errorf("%.20q…: %d bytes are too many for a file", c.scope, len(got))
		}
		if before, ok := names[got]; ok {
			t.Errorf("%q and %q are both %s", before, c.scope, got)
		}
		names[got] = c.scope
	}
}
