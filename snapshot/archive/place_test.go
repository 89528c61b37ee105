package archive

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestPlace finds entries in a folder "d d/e/ f l->target": directories, a file, links.
func TestPlace(t *testing.T) {
	const has = "d/ d/e/ f. up->../../d abs->/d/e rel->d nowhere->none deep->none/../d loop->loop file->f out->../../../.. dot->./d/./e/.."
	things := map[string]Found{}
	for item := range strings.FieldsSeq(has) {
		name, target, _ := strings.Cut(item, "->")
		things[strings.TrimRight(name, "/.")] = Found{Dir: strings.HasSuffix(name, "/"), Link: target}
	}
	for _, c := range []struct {
		name, want, made string
		err              error
	}{
		{name: "x", want: "x"},
		{name: "./", want: "."},
		{name: "/../..", want: "."},
		{name: "d/../x", want: "x"},
		{name: "/../../d/x", want: "d/x"},
		{name: "up/x", want: "d/x"},
		{name: "abs/x", want: "d/e/x"},
		{name: "out/x", want: "x"},
		{name: "out/d/x", want: "d/x"},
		{name: "dot/x", want: "d/x"},
		{name: "rel", want: "rel"}, // its own link is what an entry replaces
		{name: "rel/e/x", want: "d/e/x"},
		{name: "new/er/x", want: "new/er/x", made: "new new/er"},
		{name: "rel/new/er/x", want: "d/new/er/x", made: "d/new d/new/er"},
		{name: "nowhere", want: "nowhere"},
		{name: "nowhere/x", err: fs.ErrNotExist},
		{name: "nowhere/new/x", err: fs.ErrNotExist},
		{name: "deep/x", err: fs.ErrNotExist},
		{name: "f/x", err: syscall.ENOTDIR},
		{name: "file/x", err: syscall.ENOTDIR},
		{name: "loop/x", err: syscall.ELOOP},
	} {
		var made []string
		p := Place{
			Look: func(p string) (Found, error) {
				if f, ok := things[p]; ok || slices.Contains(made, p) {
					f.Dir = f.Dir || !ok
					return f, nil
				}
				return Found{}, &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
			},
			Mkdir: func(p string) error { made = append(made, p); return nil },
		}
		got, err := p.Entry(c.name)
		if got != c.want || !errors.Is(err, c.err) || strings.Join(made, " ") != c.made {
			t.Errorf("%s is at %q, %v; made %q", c.name, got, err, made)
		}
		made = nil
		if got, err := p.Target(c.name); c.made == "" && (got != c.want || !errors.Is(err, c.err)) {
			t.Errorf("the target %s is at %q, %v", c.name, got, err)
		} else if c.made != "" && (!errors.Is(err, fs.ErrNotExist) || made != nil) {
			t.Errorf("the target %s is at %q, %v; made %q", c.name, got, err, made)
		}
	}
}
