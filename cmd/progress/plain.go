package progress

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	units "github.com/docker/go-units"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

const (
	// patience is how long the output of a step waits while another one is
	// being shown, so that two steps at once do not alternate line by line.
	patience = 2 * time.Second
	// maxWaiting bounds the lines that wait.
	maxWaiting = 1000
	// transferEvery is how often the state of a transfer is printed.
	transferEvery = 5 * time.Second
)

// plain prints events as text, one vertex at a time.
type plain struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	m       *model
	out     *bufio.Writer
	err     error
	current *vertex
	waiting []*waiting // in order of first output
	blank   bool       // something was printed, separate the next vertex
}

// waiting is output of a vertex that is not the current one.
type waiting struct {
	v     *vertex
	since time.Time
	lines []string
	ended bool
}

// NewPlain returns a display that prints text in the manner of BuildKit.
func NewPlain(out io.Writer) Display {
	p := newPlain(out)
	p.wg.Go(p.tick)
	return p
}

func newPlain(out io.Writer) *plain {
	return &plain{m: newModel(), out: bufio.NewWriter(out), stop: make(chan struct{})}
}

var _ Display = (*plain)(nil)

// tick lets waiting output through while no event comes.
func (p *plain) tick() {
	t := time.NewTicker(patience / 4)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case now := <-t.C:
			p.mu.Lock()
			p.showOpen(now)
			p.release(now)
			p.flush()
			p.mu.Unlock()
		}
	}
}

// showOpen prints the lines that have been open for a while.
func (p *plain) showOpen(now time.Time) {
	for _, v := range p.m.vertices {
		if l := v.take(now); l != "" {
			p.queue(v, []string{v.logLine(l, now)}, false, now)
		}
	}
}

// logLine is a line of output with its time.
func (v *vertex) logLine(l string, now time.Time) string {
	if l != "" {
		l = " " + l
	}
	return fmt.Sprintf("%.3f%s", now.Sub(v.start).Seconds(), l)
}

// Announce implements Display.
func (p *plain) Announce([]*dag.Step) {}

// Observe implements Display.
func (p *plain) Observe(ev executor.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.m.apply(ev)
	if c.v == nil {
		if ev.Type == executor.EventWarning {
			fmt.Fprintf(p.out, "WARN: %s\n", strings.Join(warning(ev), "\n"))
		}
		p.flush()
		return
	}
	p.queue(c.v, p.text(ev, c), c.ended, ev.Time)
	p.release(ev.Time)
	p.flush()
}

// warning is the text of a warning, line by line. It may be of somebody else.
func warning(ev executor.Event) []string {
	lines := strings.Split(string(ev.Data), "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return lines
}

// text is what an event adds to the log, each line without its "#n ".
func (p *plain) text(ev executor.Event, c change) []string {
	var lines []string
	if c.fresh {
		lines = append(lines, c.v.name)
	}
	if ev.Type == executor.EventStarted && ev.Reason != "" {
		lines = append(lines, "why: "+printable(ev.Reason))
	}
	logs := c.lines
	if c.repeats {
		logs = logs[1:]
	}
	for _, l := range logs {
		lines = append(lines, c.v.logLine(l, ev.Time))
	}
	if c.item != nil {
		lines = append(lines, c.item.plainLine(ev.Time)...)
	}
	switch {
	case ev.Type == executor.EventWarning && ev.Rule != "": // listed at the end of the build
	case ev.Type == executor.EventWarning:
		text := warning(ev)
		lines = append(lines, "WARN: "+text[0])
		lines = append(lines, text[1:]...)
	case !c.ended:
	case c.v.state == done:
		lines = append(lines, fmt.Sprintf("DONE %.1fs", c.v.elapsed(ev.Time).Seconds()))
	case c.v.state == cached:
		lines = append(lines, "CACHED")
	case c.v.state == canceled:
		lines = append(lines, "CANCELED")
	case c.v.state == failed:
		lines = append(lines, fmt.Sprintf("ERROR: %v", ev.Err))
	}
	return lines
}

// plainLine prints an item when it begins, when it ends, and now and then.
func (it *item) plainLine(now time.Time) []string {
	if !it.finished() && !it.shown.IsZero() && now.Sub(it.shown) < transferEvery {
		return nil
	}
	it.shown = now
	switch {
	case it.total == 0:
		return []string{it.name + " done"}
	case it.total < 0 && it.current == 0: // something that takes a while
		return []string{it.name}
	case it.total < 0:
		return []string{fmt.Sprintf("%s %s%s", it.name, size(it.current), it.speed())}
	case it.finished():
		return []string{fmt.Sprintf("%s %s / %s %.1fs done", it.name, size(it.current), size(it.total), now.Sub(it.start).Seconds())}
	}
	return []string{fmt.Sprintf("%s %s / %s%s", it.name, size(it.current), size(it.total), it.speed())}
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 4) }

// queue prints lines of the current vertex at once and keeps those of others.
func (p *plain) queue(v *vertex, lines []string, ended bool, now time.Time) {
	if len(lines) == 0 && !ended {
		return
	}
	if p.current == nil {
		p.show(v)
	}
	if p.current == v {
		p.print(v, lines)
		if ended {
			p.current = nil
		}
		return
	}
	var w *waiting
	for _, have := range p.waiting {
		if have.v == v {
			w = have
		}
	}
	if w == nil {
		w = &waiting{v: v, since: now}
		p.waiting = append(p.waiting, w)
	}
	w.lines, w.ended = append(w.lines, lines...), w.ended || ended
}

// release prints what waits: finished vertices when nothing is current, and any
// vertex that has waited for too long or has too much.
func (p *plain) release(now time.Time) {
	for i := 0; i < len(p.waiting); {
		w := p.waiting[i]
		if p.current != nil && now.Sub(w.since) < patience && len(w.lines) < maxWaiting {
			i++
			continue
		}
		p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
		p.show(w.v)
		p.print(w.v, w.lines)
		if w.ended {
			p.current = nil
		}
		i = 0
	}
}

// show makes v the current vertex. Its name is repeated when it had to pause.
func (p *plain) show(v *vertex) {
	if p.current != nil && p.current != v {
		fmt.Fprintf(p.out, "#%d ...\n", p.current.index)
	}
	if p.blank {
		fmt.Fprintln(p.out)
	}
	p.blank, p.current = true, v
	if v.paused {
		fmt.Fprintf(p.out, "#%d %s\n", v.index, v.name)
	}
	v.paused = true
}

func (p *plain) print(v *vertex, lines []string) {
	for _, l := range lines {
		fmt.Fprintf(p.out, "#%d %s\n", v.index, l)
	}
}

func (p *plain) flush() {
	if err := p.out.Flush(); err != nil && p.err == nil {
		p.err = err
	}
}

// Close implements Display.
func (p *plain) Close() error {
	close(p.stop)
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) > 0 {
		p.current = nil
		p.release(time.Now())
	}
	p.flush()
	return p.err
}
