package registry

import (
	"io"
	"os"
	"sync"

	"layered.build/builder/snapshot"
)

// followed is a blob that is read while it is written: the reader waits for the writer,
// and the writer never for the reader, however slow that is.
type followed struct {
	out *snapshot.BlobWriter
	in  *os.File

	mu   sync.Mutex
	more sync.Cond
	have int64 // guarded by mu: bytes that are written
	at   int64 // guarded by mu: bytes that are read
	end  error // guarded by mu: io.EOF when all is written, or why there is no more
}

func follow(out *snapshot.BlobWriter) (*followed, error) {
	in, err := out.Follow()
	if err != nil {
		return nil, err
	}
	f := &followed{out: out, in: in}
	f.more.L = &f.mu
	return f, nil
}

// Write implements io.Writer.
func (f *followed) Write(b []byte) (int, error) {
	n, err := f.out.Write(b)
	f.mu.Lock()
	f.have += int64(n)
	f.mu.Unlock()
	f.more.Broadcast()
	return n, err
}

// stop says that nothing more is written; a reader that has read all gets err.
func (f *followed) stop(err error) {
	f.mu.Lock()
	if f.end == nil || err != io.EOF {
		f.end = err
	}
	f.mu.Unlock()
	f.more.Broadcast()
}

// left is how much is written and not read.
func (f *followed) left() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have - f.at
}

// Read implements io.Reader. What was stopped by another error than io.EOF is not read
// to its end.
func (f *followed) Read(b []byte) (int, error) {
	f.mu.Lock()
	for f.at == f.have && f.end == nil {
		f.more.Wait()
	}
	at, have, end := f.at, f.have, f.end
	f.mu.Unlock()
	if end != nil && (end != io.EOF || at == have) {
		return 0, end
	}
	n, err := f.in.ReadAt(b[:min(int64(len(b)), have-at)], at)
	f.mu.Lock()
	f.at += int64(n)
	f.mu.Unlock()
	return n, err
}
