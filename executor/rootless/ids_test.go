package rootless

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseSubIDs(t *testing.T) {
	const file = "# a comment\nann:100000:65536\n1000:300000:10\nbob:165536:65536\nann:broken:1\nann:4294967290:100\n"
	for _, tc := range []struct {
		names string
		want  string
		free  uint32
	}{
		{"1000 ann", "[{0 100000 65536} {0 300000 10}]", 300010},
		{"1001 bob", "[{0 165536 65536}]", 300010},
		{"1002 cid", "[]", 300010},
	} {
		ids, err := parseSubIDs(strings.NewReader(file), strings.Fields(tc.names))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(ids.own); got != tc.want || ids.free != tc.free {
			t.Errorf("%s: got %s, free %d; want %s, %d", tc.names, got, ids.free, tc.want, tc.free)
		}
	}
}

func TestMapping(t *testing.T) {
	ids := mapping(1000, []idRange{{outside: 100000, size: 65536}, {outside: 300000, size: 10}})
	const want = "0 1000 1\n1 100000 65536\n65537 300000 10"
	if got := format(ids, "\n"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := format(parseMap(want), "\n"); got != want {
		t.Errorf("read back as %q", got)
	}
	if n := count(ids); n != 65547 {
		t.Errorf("count is %d", n)
	}
}

func TestParseIsolation(t *testing.T) {
	for in, want := range map[string]Isolation{
		"": Auto, "auto": Auto, "default": Auto, "oci": Auto, "rootless": Subuid, "root": Root,
		"subuid": Subuid, "single": Single, "chroot": Chroot,
	} {
		if got, err := ParseIsolation(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := ParseIsolation("hyperv"); err == nil {
		t.Error("hyperv was accepted")
	}
}
