package leak

import (
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"layered.build/builder/executor/secretscan"
	"layered.build/builder/snapshot"
)

// Inspector returns what searches a layer, nil if there is nothing to search for.
func (g *Guard) Inspector() snapshot.Inspector {
	if g.set() == nil {
		return nil
	}
	return inspector{g}
}

// inspector searches the entries of a layer.
type inspector struct{ g *Guard }

// Inspect implements snapshot.Inspector: it searches all but the content.
func (i inspector) Inspect(e *snapshot.Entry) error {
	if e.Type == snapshot.TypeWhiteout { // the name is of a layer below
		return nil
	}
	var errs []error
	look := func(text, place string) {
		if f := i.g.find(text); f != nil {
			errs = append(errs, i.g.note(f, place))
		}
	}
	look(e.Path, "the name of a file in /"+i.dir(e.Path))
	look(e.Linkname, "the target of the link "+i.name(e))
	for key, value := range e.Xattrs {
		look(key, "the name of an attribute of "+i.name(e))
		look(value, "an attribute of "+i.name(e))
	}
	return errors.Join(errs...)
}

// Content implements snapshot.Inspector.
func (i inspector) Content(e *snapshot.Entry) io.Writer {
	c := &content{inspector: i, e: e}
	for _, s := range []*secretscan.Set{i.g.grave, i.g.slight} {
		if s != nil {
			c.streams = append(c.streams, s.Stream())
		}
	}
	return c
}

// name is a path that can be shown. Inspect has seen to it that it holds no secret,
// unless that is allowed.
func (i inspector) name(e *snapshot.Entry) string {
	if i.g.find(e.Path) != nil {
		return "a file in /" + i.dir(e.Path)
	}
	return "/" + e.Path
}

// dir is the folder of a path as far as it holds no secret.
func (i inspector) dir(p string) string {
	for p = path.Dir(p); p != "." && i.g.find(p) != nil; {
		p = path.Dir(p)
	}
	return strings.TrimPrefix(p, ".")
}

// content searches a file.
type content struct {
	inspector
	streams []*secretscan.Stream // of which nothing was found yet
	e       *snapshot.Entry
}

// Write implements io.Writer.
func (c *content) Write(p []byte) (int, error) {
	var errs []error
	c.streams = slices.DeleteFunc(c.streams, func(s *secretscan.Stream) bool {
		_, err := s.Write(p)
		var f *secretscan.Found
		if errors.As(err, &f) {
			errs = append(errs, c.g.note(f, c.name(c.e)))
		}
		return f != nil
	})
	return len(p), errors.Join(errs...)
}
