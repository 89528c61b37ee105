package sandbox

import (
	"fmt"
	"strings"
	"testing"
)

// TestArrange proves that parents come first, that the last of several at one place
// counts, and that all else stays in its order.
func TestArrange(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "",
		"/b=1 /a=2 /c=3":                   "/b=1 /a=2 /c=3",
		"/a/b=1 /c/d/e=2 /a=3 /c=4":        "/a=3 /c=4 /a/b=1 /c/d/e=2",
		"/a=1 /b=2 /a/=3":                  "/a=3 /b=2",
		"/a/b=1 /a=2 /a/b=3 /a/./b/../b=4": "/a=2 /a/b=4",
	} {
		var mounts []Mount
		for _, f := range strings.Fields(in) {
			dest, src, _ := strings.Cut(f, "=")
			mounts = append(mounts, Mount{Dest: dest, HostPath: src})
		}
		var got []string
		for _, m := range Arrange(mounts) {
			got = append(got, fmt.Sprintf("%s=%s", m.Dest, m.HostPath))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
