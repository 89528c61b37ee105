package progress

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// redrawEvery is the time between two pictures.
const redrawEvery = 100 * time.Millisecond

// live draws the build on a terminal and keeps the picture up to date.
type live struct {
	out   *os.File
	color bool
	stop  chan struct{}
	wg    sync.WaitGroup

	mu sync.Mutex // guards m
	m  *model

	drawn []int // columns of each row that is on the screen
	err   error
}

func newLive(out *os.File, color bool, doing string) *live {
	l := &live{out: out, color: color, stop: make(chan struct{}), m: newModel()}
	l.m.doing = doing
	l.wg.Go(l.loop)
	return l
}

var _ Display = (*live)(nil)

// loop redraws at a steady pace, and at once when the window changes.
func (l *live) loop() {
	t := time.NewTicker(redrawEvery)
	defer t.Stop()
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, unix.SIGWINCH)
	defer signal.Stop(winch)
	for {
		select {
		case <-l.stop:
			return
		case <-winch:
		case <-t.C:
		}
		l.draw(time.Now(), false)
	}
}

// Announce implements Display.
func (l *live) Announce(steps []*dag.Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m.announce(steps)
}

// Observe implements Display.
func (l *live) Observe(ev executor.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m.apply(ev)
}

// Close implements Display.
func (l *live) Close() error {
	close(l.stop)
	l.wg.Wait()
	l.draw(time.Now(), true)
	return l.err
}

func (l *live) draw(now time.Time, over bool) {
	w, h, err := term.GetSize(int(l.out.Fd()))
	if err != nil || w < 20 {
		w, h = 80, 24
	}
	rows := l.rows(now, frameSize{width: w - 1, height: h, color: l.color}, over)
	if rows == nil {
		return
	}
	// Written outside of the lock: a terminal that is stopped must not stop the
	// build. Only one goroutine draws at a time.
	var b bytes.Buffer
	l.drawn = paint(&b, rows, l.drawn, w, l.color)
	if _, err := l.out.Write(b.Bytes()); err != nil && l.err == nil {
		l.err = err
	}
}

// rows is the picture, nil while there is nothing to show.
func (l *live) rows(now time.Time, size frameSize, over bool) []row {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.m.vertices) == 0 {
		return nil
	}
	rows := l.m.frame(now, size, over)
	if over {
		for _, warning := range l.m.warnings {
			rows = append(rows, row{text: "WARN: " + printable(warning), color: sgrYellow})
		}
	}
	return rows
}

// paint writes rows over those that were drawn before and returns what is on
// the screen then. A terminal that became narrower has wrapped the old rows.
func paint(b *bytes.Buffer, rows []row, drawn []int, width int, color bool) []int {
	up := 0
	for _, c := range drawn {
		up += max(1, (c+width-1)/width)
	}
	b.WriteString("\x1b[?25l\r") // hide the cursor while it moves
	if up > 0 {
		fmt.Fprintf(b, "\x1b[%dA", up)
	}
	now := make([]int, 0, len(rows))
	for _, r := range rows {
		b.WriteString(r.render(color))
		b.WriteString("\x1b[K\n")
		now = append(now, columns(r.text))
	}
	b.WriteString("\x1b[J\x1b[?25h")
	return now
}
