package local

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"layered.build/builder/executor"
)

const (
	// tailSize is how much of the end of a log is kept for an error.
	tailSize = 16 << 10
	// keepLogs is how many log files are kept.
	keepLogs = 500
)

// log receives what a process writes: all of it goes to a file and to the
// observer, the end is kept.
type log struct {
	path     string
	observer executor.Observer

	mu   sync.Mutex // guards all below
	f    *os.File
	tail []byte
	err  error
}

func (w *Worker) newLog(id string, job *executor.Job) (*log, error) {
	dir := w.folder(logsFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	if err := pruneLogs(dir); err != nil {
		return nil, fmt.Errorf("remove old logs: %w", err)
	}
	p := filepath.Join(dir, id+".log")
	f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	l := &log{path: p, observer: job.Observer, f: f}
	if l.observer == nil {
		l.observer = func(executor.Event) {}
	}
	return l, nil
}

// pruneLogs removes the oldest logs when there are many.
func pruneLogs(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < keepLogs {
		return err
	}
	infos := make([]os.FileInfo, 0, len(entries))
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			infos = append(infos, fi)
		}
	}
	slices.SortFunc(infos, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, fi := range infos[:len(infos)/2] {
		if err := os.Remove(filepath.Join(dir, fi.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// stream returns the writer for stdout (1) or stderr (2).
func (l *log) stream(n int) io.Writer { return stream{l, n} }

type stream struct {
	l *log
	n int
}

// Write implements io.Writer. A log file that cannot be written fails the step at
// its end, not the process.
func (s stream) Write(p []byte) (int, error) {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.f.Write(p); err != nil && l.err == nil {
		l.err = fmt.Errorf("write log: %w", err)
	}
	l.tail = append(l.tail, p[max(0, len(p)-2*tailSize):]...)
	if len(l.tail) > 2*tailSize {
		l.tail = append(l.tail[:0], l.tail[len(l.tail)-tailSize:]...)
	}
	l.observer(executor.Event{Type: executor.EventLog, Stream: s.n, Data: p})
	return len(p), nil
}

func (l *log) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.f.Close())
}

// lastLines returns the end of the log, beginning with a whole line where there is
// one.
func (l *log) lastLines() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tail
	if len(t) > tailSize {
		t = t[len(t)-tailSize:]
		if _, rest, ok := bytes.Cut(t, []byte("\n")); ok {
			t = rest
		}
	}
	return bytes.Clone(t)
}
