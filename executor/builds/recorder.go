package builds

import (
	"sync"
	"time"

	"layered.build/builder/cache"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// most is how many reasons and changes of a step are kept.
const most = 200

// Recorder makes a Build of the events of one.
type Recorder struct {
	mu    sync.Mutex // guards what follows
	steps map[dag.ID]*Step
}

// NewRecorder returns one that has seen nothing.
func NewRecorder() *Recorder { return &Recorder{steps: map[dag.ID]*Step{}} }

// Observe is an executor.Observer.
func (r *Recorder) Observe(ev executor.Event) {
	if ev.Step == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := ev.Step.ID()
	s := r.steps[id]
	if s == nil {
		s = &Step{}
		r.steps[id] = s
	}
	if ev.Lookup != nil {
		s.look(ev.Lookup)
	}
	switch ev.Type {
	case executor.EventStarted:
		s.Started = ev.Time
	case executor.EventCached:
		s.Result, s.Reason, s.Started = Cached, ev.Reason, time.Time{}
	case executor.EventDone:
		s.end(ev, Ran)
	case executor.EventFailed:
		s.end(ev, Failed)
		if ev.Err != nil {
			s.Error = ev.Err.Error()
		}
	case executor.EventCanceled:
		s.end(ev, Canceled)
	}
}

func (s *Step) look(l *executor.Lookup) {
	s.Key, s.Why, s.Places, s.Changes = l.Key, l.Reasons, l.Places, l.Changes
	s.Earlier, s.More = nil, max(0, len(l.Changes)-most)
	s.Why, s.Changes = s.Why[:min(most, len(s.Why))], s.Changes[:min(most, len(s.Changes))]
	if e := l.Earlier; e != nil {
		s.Earlier = &Earlier{Key: key(e), Created: e.Created, Duration: e.Duration}
	}
}

// key is the definition key of a record.
func key(rec *cache.Record) cache.Key {
	if rec.Definition != "" {
		return rec.Definition
	}
	return rec.Key
}

func (s *Step) end(ev executor.Event, result string) {
	s.Result = result
	if !s.Started.IsZero() {
		s.Duration = ev.Time.Sub(s.Started)
	}
}

// Steps are what became of the steps of a graph, in its order.
func (r *Recorder) Steps(g *dag.Graph) []Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Step, 0, len(g.Steps))
	for _, step := range g.Steps {
		s := Step{}
		if seen := r.steps[step.ID()]; seen != nil {
			s = *seen
		}
		s.Name, s.Stage = step.Meta.Name, step.Meta.Stage
		if len(step.Meta.Locations) > 0 {
			s.Start, s.End = step.Meta.Locations[0].Start, step.Meta.Locations[0].End
		}
		if _, ok := step.Op.(*dag.Source); ok && s.Result == Ran {
			s.Result = Source
		}
		if s.Result == "" {
			s.Result = Canceled
		}
		out = append(out, s)
	}
	return out
}
