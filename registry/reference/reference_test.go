package reference

import (
	"errors"
	"strings"
	"testing"

	"layered.build/builder/registry/errdef"
)

func TestReference(t *testing.T) {
	hex := strings.Repeat("b", 64)
	for in, want := range map[string][2]string{
		"alpine":                   {"docker.io/library/alpine:latest", "alpine:latest"},
		"user/app:1":               {"docker.io/user/app:1", "user/app:1"},
		"index.docker.io/user/app": {"docker.io/user/app:latest", "user/app:latest"},
		"localhost:5000/a/b:c":     {"localhost:5000/a/b:c", "localhost:5000/a/b:c"},
		"alpine@sha256:" + hex:     {"docker.io/library/alpine@sha256:" + hex, "alpine@sha256:" + hex},
		"alpine:3@sha256:" + hex:   {"docker.io/library/alpine:3@sha256:" + hex, "alpine:3@sha256:" + hex},
	} {
		r := must(t, in)
		if r.String() != want[0] || r.Familiar() != want[1] {
			t.Errorf("%s: %q, %q", in, r, r.Familiar())
		}
	}
	for _, bad := range []string{"", "UPPER", "a:b:c", "x@sha256:1", hex} {
		if _, err := Parse(bad); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func must(t *testing.T, s string) Reference {
	t.Helper()
	r, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
