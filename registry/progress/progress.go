// Package progress tells who started a transfer how far it is.
package progress

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
)

// Func is told about transfers: item is a short name of the blob, current
// and total are bytes (total < 0: not known yet). It is called from several
// goroutines at once.
type Func func(item string, current, total int64)

// key finds the Func in a context: the store starts fetches, too, and knows nothing
// of it.
type key struct{}

// With returns a context in which fetches, compressions and uploads, whoever starts
// them, are told to p; nil tells nobody.
func With(ctx context.Context, p Func) context.Context {
	return context.WithValue(ctx, key{}, p)
}

// Of returns what With put into a context, or a function that does nothing.
func Of(ctx context.Context) Func {
	if p, ok := ctx.Value(key{}).(Func); ok && p != nil {
		return p
	}
	return func(string, int64, int64) {}
}

// Item is the short name of a blob.
func Item(d digest.Digest) string { return d.Encoded()[:min(12, len(d.Encoded()))] }

// Writer tells how much passes through it.
type Writer struct {
	// W takes what is written.
	W io.Writer
	// To is told after every write of Item, with what has passed (Done, which
	// may begin with what passed before) and Total.
	To          Func
	Item        string
	Done, Total int64
}

// Write implements io.Writer.
func (w *Writer) Write(b []byte) (int, error) {
	n, err := w.W.Write(b)
	w.Done += int64(n)
	w.To(w.Item, w.Done, w.Total)
	return n, err
}
