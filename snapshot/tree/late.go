package tree

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"layered.build/builder/snapshot/manifest"
)

// Forms are where the parts of a layer that is here lie, as Merged.Add takes them.
type Forms struct {
	List, Dir, Tar string
	Aliases        []Alias
}

// AddLate is Add for a layer of which only the entries are known: bring is called once, when
// a file of the layer is opened first, and returns where the layer is then.
func (t *Merged) AddLate(entries *manifest.Index, bring func() (Forms, error)) {
	t.Layers = append(t.Layers, Layer{Index: entries, late: &late{bring: sync.OnceValues(func() (*Layer, error) {
		f, err := bring()
		if err != nil {
			return nil, err
		}
		return newLayer(f.List, f.Dir, f.Tar, f.Aliases)
	})}})
}

// late is a layer that is brought here when it is needed.
type late struct {
	bring func() (*Layer, error)
	begun atomic.Bool // somebody brings it
}

// openFile is Layer.OpenFile. The layer's own list tells where the content lies.
func (l *late) openFile(r *manifest.Record) (*os.File, int64, error) {
	here, err := l.bring()
	if err != nil {
		return nil, 0, err
	}
	own, err := here.Index.Find(r.Path)
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", r.Path, err)
	}
	if own.Type != r.Type || own.Size != r.Size || own.Digest != r.Digest {
		return nil, 0, fmt.Errorf("open %s: the layer is not what its entries said", r.Path)
	}
	return here.OpenFile(own)
}

// WillOpen says that a file is going to be opened: its layer begins to be brought here.
func (t *Merged) WillOpen(p string) {
	_, l, err := t.Lookup("open", p)
	if err == nil && l != nil && l.late != nil && l.late.begun.CompareAndSwap(false, true) {
		go func() { _, _ = l.late.bring() }() // who opens the file meets the error
	}
}
