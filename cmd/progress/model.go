package progress

import (
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// state is how far a vertex is.
type state int

const (
	running state = iota
	done
	cached
	failed
	canceled
)

// vertex is what is shown of one step or task.
type vertex struct {
	index      int
	name       string
	step       *dag.Step // nil for a task
	state      state
	start, end time.Time
	err        error
	reason     string
	why        string // it runs; "" where nothing is told
	items      []*item
	logs       splitter
	tail       []string // last lines of output, for the live picture
	open       openLine
	paused     bool // plain: the name was printed before
}

// item is one transfer or sub-task of a vertex.
type item struct {
	name           string
	current, total int64
	began          int64 // current at the start: what was there already
	start, end     time.Time
	shown          time.Time // plain: when it was printed last
}

// finished reports whether the item is complete. An item without a size (total
// 0) is an announcement that is complete at once.
func (it *item) finished() bool { return it.total >= 0 && it.current >= it.total }

// rate is how many bytes a second the item has made, 0 if that is not to be told yet.
func (it *item) rate() int64 {
	d := it.end.Sub(it.start)
	if d < minRated || it.current <= it.began {
		return 0
	}
	return int64(float64(it.current-it.began) / d.Seconds())
}

// minRated is for how long an item must have been under way to have a rate.
const minRated = 200 * time.Millisecond

// model is the state of a build as its events tell it. It is not safe for
// concurrent use; the displays lock around it.
type model struct {
	doing     string // what the title says: "Building"
	first     time.Time
	vertices  []*vertex // in order of appearance
	bySteps   map[dag.ID]*vertex
	byTask    map[string]*vertex
	announced map[dag.ID]bool
	warnings  []string
}

func newModel() *model {
	return &model{doing: "Building", bySteps: map[dag.ID]*vertex{}, byTask: map[string]*vertex{}, announced: map[dag.ID]bool{}}
}

// change is what one event did to the model.
type change struct {
	v     *vertex
	fresh bool     // the vertex is new
	lines []string // complete lines of output
	// repeats: the first of the lines was printed before it ended.
	repeats bool
	item    *item
	ended   bool
}

// tailLines is how many lines of a running step the live picture shows.
const tailLines = 6

// apply takes an event in. Events of no vertex (warnings) give a nil vertex.
func (m *model) apply(ev executor.Event) change {
	if m.first.IsZero() || ev.Time.Before(m.first) {
		m.first = ev.Time
	}
	if ev.Step == nil && ev.Task == "" {
		if ev.Type == executor.EventWarning {
			m.warnings = append(m.warnings, string(ev.Data))
		}
		return change{}
	}
	c := change{}
	c.v, c.fresh = m.vertex(ev)
	switch ev.Type {
	case executor.EventStarted:
		c.v.why = ev.Reason
	case executor.EventLog:
		c.lines = c.v.logs.write(ev.Data)
		c.repeats = c.v.open.printed(c.lines)
		c.v.open.follow(&c.v.logs, len(c.lines) > 0, ev.Time)
	case executor.EventProgress:
		c.item = c.v.progress(ev)
	case executor.EventWarning:
		if ev.Rule != "" { // findings are listed at the end of the build, with their lines
			break
		}
		m.warnings = append(m.warnings, string(ev.Data))
	case executor.EventDone:
		c.v.finish(done, ev)
		c.ended = true
	case executor.EventCached:
		c.v.finish(cached, ev)
		c.ended = true
	case executor.EventFailed:
		c.v.finish(failed, ev)
		c.ended = true
	case executor.EventCanceled:
		c.v.finish(canceled, ev)
		c.ended = true
	}
	if c.ended {
		c.lines = append(c.lines, c.v.logs.rest()...)
		c.repeats = c.v.open.printed(c.lines)
	}
	c.v.keep(c.lines)
	return c
}

// vertex finds the vertex of an event, or makes it.
func (m *model) vertex(ev executor.Event) (v *vertex, fresh bool) {
	if ev.Step != nil {
		v = m.bySteps[ev.Step.ID()]
	} else {
		v = m.byTask[ev.Task]
	}
	if v != nil {
		if v.state != running && ev.Type == executor.EventStarted { // a task done twice
			v.state, v.start = running, ev.Time
		}
		return v, false
	}
	v = &vertex{index: len(m.vertices) + 1, step: ev.Step, name: ev.Task, start: ev.Time}
	if ev.Step != nil {
		v.name = ev.Step.Meta.Name
		if v.name == "" {
			v.name = ev.Step.Op.Kind()
		}
		m.bySteps[ev.Step.ID()] = v
	} else {
		m.byTask[ev.Task] = v
	}
	m.vertices = append(m.vertices, v)
	return v, true
}

func (m *model) announce(steps []*dag.Step) {
	for _, s := range steps {
		m.announced[s.ID()] = true
	}
}

// counts returns how many vertices are finished, and how many there are;
// announced steps that have not appeared count unless the build is over.
func (m *model) counts(over bool) (finished, total int) {
	for _, v := range m.vertices {
		if v.state != running {
			finished++
		}
	}
	total = len(m.vertices)
	if !over {
		for id := range m.announced {
			if m.bySteps[id] == nil {
				total++
			}
		}
	}
	return finished, total
}

func (v *vertex) finish(s state, ev executor.Event) {
	v.state, v.end, v.err, v.reason = s, ev.Time, ev.Err, ev.Reason
}

// elapsed is how long the vertex took, or takes until now.
func (v *vertex) elapsed(now time.Time) time.Duration {
	if v.state != running {
		now = v.end
	}
	return max(0, now.Sub(v.start))
}

func (v *vertex) keep(lines []string) {
	v.tail = append(v.tail, lines...)
	if n := len(v.tail) - tailLines; n > 0 {
		v.tail = append([]string(nil), v.tail[n:]...)
	}
}

// progress updates one item of the vertex.
func (v *vertex) progress(ev executor.Event) *item {
	var it *item
	for _, have := range v.items {
		if have.name == ev.Item {
			it = have
		}
	}
	if it == nil {
		it = &item{name: ev.Item, start: ev.Time, began: ev.Current}
		v.items = append(v.items, it)
	}
	it.current, it.total, it.end = ev.Current, ev.Total, ev.Time
	return it
}
