package errdef

import (
	"errors"
	"io"
	"testing"
)

func TestError(t *testing.T) {
	for want, e := range map[string]*Error{
		"get layer sha256:ab at r.example: unreachable: EOF": {Kind: ErrUnreachable, Op: "get layer", Object: "sha256:ab", Host: "r.example", Err: io.EOF},
		"log in: unauthorized (credentials: none): no":       {Kind: ErrUnauthorized, Op: "log in", Credentials: "none", Err: errors.New("no")},
		"get manifest 1: not found: 404 Not Found":           {Kind: ErrNotFound, Op: "get manifest", Object: "1", Err: errors.New("not found: 404 Not Found")},
		"get blob: not found":                                {Kind: ErrNotFound, Op: "get blob"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if !errors.Is(e, e.Kind) || e.Err != nil && !errors.Is(e, e.Err) {
			t.Errorf("%s: neither its kind nor its cause", want)
		}
	}
}
