package progress

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

const (
	// reportLines is how many lines of a failed step's output are repeated.
	reportLines = 20
	// keptLogs is how many builds' logs stay in the log directory.
	keptLogs = 20
)

// Logbook writes the output of every step to a file of its own, so that the
// whole output of a failed step can be read after the build.
type Logbook struct {
	parent string

	mu    sync.Mutex // guards what follows
	dir   string     // "" until the first output
	steps map[dag.ID]*stepLog
	err   error
}

type stepLog struct {
	path  string
	file  *os.File
	split splitter
	last  []string
}

// NewLogbook keeps logs in a new directory below parent, made when the first
// output comes.
func NewLogbook(parent string) *Logbook {
	return &Logbook{parent: parent, steps: map[dag.ID]*stepLog{}}
}

// Observe is an executor.Observer.
func (l *Logbook) Observe(ev executor.Event) {
	if ev.Step == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch ev.Type {
	case executor.EventLog:
		l.write(ev)
	case executor.EventDone, executor.EventCached, executor.EventFailed, executor.EventCanceled:
		if s := l.steps[ev.Step.ID()]; s != nil && s.file != nil {
			s.last = lastLines(s.last, s.split.rest())
			l.note(s.file.Close())
			s.file = nil
		}
	}
}

func (l *Logbook) write(ev executor.Event) {
	s := l.steps[ev.Step.ID()]
	if s == nil {
		s = &stepLog{}
		l.steps[ev.Step.ID()] = s
		l.note(l.create(s, ev.Step))
	}
	s.last = lastLines(s.last, s.split.write(ev.Data))
	if s.file != nil {
		_, err := s.file.Write(ev.Data)
		l.note(err)
	}
}

// create opens the log file of a step. A log that cannot be written must not
// fail the build: the last lines are still kept in memory.
func (l *Logbook) create(s *stepLog, step *dag.Step) error {
	if l.dir == "" {
		if err := os.MkdirAll(l.parent, 0o700); err != nil {
			return err
		}
		dir, err := os.MkdirTemp(l.parent, "build-")
		if err != nil {
			return err
		}
		l.dir = dir
	}
	id := strings.TrimPrefix(string(step.ID()), "sha256:")
	path := filepath.Join(l.dir, fmt.Sprintf("step-%.12s.log", id))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	s.path, s.file = path, f
	return nil
}

func (l *Logbook) note(err error) {
	if err != nil && l.err == nil {
		l.err = err
	}
}

// Last returns the last lines of a step's output and the path of all of it (""
// if it could not be kept).
func (l *Logbook) Last(step *dag.Step) (lines []string, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.steps[step.ID()]
	if s == nil {
		return nil, ""
	}
	if l.err != nil {
		return s.last, ""
	}
	return s.last, s.path
}

// Close ends the book. With keep the files stay, and the oldest books beyond a
// fixed number go; otherwise this book is removed.
func (l *Logbook) Close(keep bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range l.steps {
		if s.file != nil {
			errs = append(errs, s.file.Close())
			s.file = nil
		}
	}
	if l.dir == "" {
		return errors.Join(errs...)
	}
	if !keep {
		return errors.Join(append(errs, os.RemoveAll(l.dir))...)
	}
	return errors.Join(append(errs, prune(l.parent, keptLogs))...)
}

// prune removes the oldest directories below parent beyond keep.
func prune(parent string, keep int) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	type aged struct {
		path string
		time int64
	}
	var dirs []aged
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() {
			dirs = append(dirs, aged{filepath.Join(parent, e.Name()), info.ModTime().UnixNano()})
		}
	}
	sort.Slice(dirs, func(i, j int) bool { return dirs[i].time > dirs[j].time })
	var errs []error
	for _, d := range dirs[min(keep, len(dirs)):] {
		errs = append(errs, os.RemoveAll(d.path))
	}
	return errors.Join(errs...)
}

func lastLines(have, more []string) []string {
	have = append(have, more...)
	if n := len(have) - reportLines; n > 0 {
		have = append([]string(nil), have[n:]...)
	}
	return have
}
