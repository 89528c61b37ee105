package registry

import (
	"context"
	"io"
)

// Progress is told about transfers: item is a short name of the blob, current
// and total are bytes (total < 0: not known yet). It is called from several
// goroutines at once.
type Progress func(item string, current, total int64)

// progressKey finds the Progress in a context: the store starts fetches, too, and
// knows nothing of it.
type progressKey struct{}

// WithProgress returns a context in which fetches, compressions and uploads, whoever
// starts them, are told to p; nil tells nobody.
func WithProgress(ctx context.Context, p Progress) context.Context {
	return context.WithValue(ctx, progressKey{}, p)
}

// ProgressOf returns what WithProgress put into a context, or a function that does
// nothing.
func ProgressOf(ctx context.Context) Progress {
	if p, ok := ctx.Value(progressKey{}).(Progress); ok && p != nil {
		return p
	}
	return func(string, int64, int64) {}
}

// meter reports what passes through it.
type meter struct {
	w      io.Writer
	report Progress
	item   string
	sent   int64
	total  int64
}

// Write implements io.Writer.
func (m *meter) Write(b []byte) (int, error) {
	n, err := m.w.Write(b)
	m.sent += int64(n)
	m.report(m.item, m.sent, m.total)
	return n, err
}
