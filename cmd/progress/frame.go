package progress

import (
	"fmt"
	"strings"
	"time"
)

// The colours of the live picture (SGR).
const (
	sgrReset  = "\x1b[0m"
	sgrBlue   = "\x1b[34m"
	sgrRed    = "\x1b[31m"
	sgrYellow = "\x1b[33m"
	sgrGrey   = "\x1b[90m"
)

// frameSize is what a picture may use.
type frameSize struct {
	width, height int
	color         bool
}

// row is one line of the picture.
type row struct {
	text  string // printable, at most width columns
	color string // SGR sequence, "" for none
}

func (r row) render(color bool) string {
	if !color || r.color == "" {
		return r.text
	}
	return r.color + r.text + sgrReset
}

// frame draws the model. The final frame holds every vertex; others are cut to
// the height, oldest finished vertices first.
func (m *model) frame(now time.Time, sz frameSize, over bool) []row {
	var blocks [][]row
	var isDone []bool
	for _, v := range m.vertices {
		blocks = append(blocks, v.rows(now, sz.width))
		isDone = append(isDone, v.state != running)
	}
	if !over {
		blocks = crop(blocks, isDone, sz.height-2)
	}
	rows := []row{m.title(now, sz.width, over)}
	for _, b := range blocks {
		rows = append(rows, b...)
	}
	return rows
}

// title is `[+] Building 1.2s (5/9)`, or what else is being done.
func (m *model) title(now time.Time, width int, over bool) row {
	var d time.Duration
	if !m.first.IsZero() {
		d = max(0, now.Sub(m.first))
	}
	finished, total := m.counts(over)
	t := fmt.Sprintf("[+] %s %.1fs (%d/%d)", m.doing, d.Seconds(), finished, total)
	if over {
		t += " FINISHED"
	}
	return row{text: fit(t, width)}
}

// crop drops blocks until the rest has at most height rows: finished blocks from
// the oldest on, then the tails of running ones, then whatever is first.
func crop(blocks [][]row, isDone []bool, height int) [][]row {
	height = max(1, height)
	total := 0
	for _, b := range blocks {
		total += len(b)
	}
	var kept [][]row
	for i, b := range blocks {
		if total > height && isDone[i] {
			total -= len(b)
			continue
		}
		kept = append(kept, b)
	}
	for i := range kept {
		if total > height && len(kept[i]) > 1 {
			total -= len(kept[i]) - 1
			kept[i] = kept[i][:1]
		}
	}
	for total > height && len(kept) > 0 {
		total -= len(kept[0])
		kept = kept[1:]
	}
	return kept
}

// rows draws one vertex with its items and the tail of its output.
func (v *vertex) rows(now time.Time, width int) []row {
	name, color := v.name, ""
	switch v.state {
	case done:
		color = sgrBlue
	case cached:
		name, color = "CACHED "+name, sgrBlue
	case failed:
		name, color = "ERROR "+name, sgrRed
	case canceled:
		name, color = "CANCELED "+name, sgrYellow
	}
	rows := []row{timed(" => ", name, v.elapsed(now), width, color)}
	if v.why != "" && v.state != cached {
		rows = append(rows, row{text: fit(" => => why: "+printable(v.why), width), color: sgrGrey})
	}
	for _, it := range v.items {
		rows = append(rows, it.row(v, now, width, color))
	}
	if v.state != running {
		return rows
	}
	tail := v.tail
	if open := lastState(v.logs.last()); open != "" { // a line that has not ended is seen too
		tail = append(tail[max(0, len(tail)-tailLines+1):len(tail):len(tail)], open)
	}
	for _, l := range tail {
		text := fit(" => => # "+printable(l), width)
		rows = append(rows, row{text: text, color: sgrGrey})
	}
	return rows
}

func (it *item) row(v *vertex, now time.Time, width int, color string) row {
	if it.finished() || v.state != running {
		now = it.end
	}
	name := it.name
	switch {
	case it.total > 0 && it.finished():
		name = fmt.Sprintf("%s %s / %s", it.name, size(it.current), size(it.total))
	case it.total > 0:
		name = fmt.Sprintf("%s %s%s / %s%s", it.name, it.bar(width), size(it.current), size(it.total), it.speed())
	case it.total < 0 && it.current > 0:
		name = fmt.Sprintf("%s %s%s", it.name, size(it.current), it.speed())
	}
	return timed(" => => ", name, max(0, now.Sub(it.start)), width, color)
}

// barWidth is how many columns a bar has, where there is room for one.
const barWidth = 20

// bar draws how much of an item is done.
func (it *item) bar(width int) string {
	if width < 4*barWidth-1 {
		return ""
	}
	n := int(min(max(it.current, 0), it.total) * barWidth / it.total)
	bar := strings.Repeat("=", n)
	if n > 0 && n < barWidth {
		bar = bar[:n-1] + ">"
	}
	return "[" + bar + strings.Repeat(" ", barWidth-n) + "] "
}

// speed is " 12MB/s".
func (it *item) speed() string {
	if r := it.rate(); r > 0 {
		return " " + size(r) + "/s"
	}
	return ""
}

// timed is a row with its duration at the right edge.
func timed(prefix, name string, d time.Duration, width int, color string) row {
	right := fmt.Sprintf(" %.1fs", d.Seconds())
	left := fit(prefix+printable(name), max(8, width-len(right)))
	pad := max(0, width-columns(left)-len(right))
	return row{text: left + strings.Repeat(" ", pad) + right, color: color}
}
