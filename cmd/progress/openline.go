package progress

import "time"

const (
	// openPatience is how long a line that does not end waits before its state is
	// printed as one: what a step asks, or a bar that it draws over and over.
	openPatience = 2 * time.Second
	// openEvery is how often it is printed from then on, if it changes.
	openEvery = transferEvery
)

// openLine is when the line of a vertex that has not ended was or is to be printed as
// it is.
type openLine struct {
	due   time.Time // zero: there is nothing new
	shown string    // what was printed of this line
}

// follow notes that output came; whether it has ended the line that was open.
func (o *openLine) follow(logs *splitter, ended bool, now time.Time) {
	if ended {
		*o = openLine{}
	}
	switch state := lastState(logs.last()); {
	case state == o.shown:
		o.due = time.Time{}
	case !o.due.IsZero():
	case o.shown == "":
		o.due = now.Add(openPatience)
	default:
		o.due = now.Add(openEvery)
	}
}

// printed reports whether the first of the lines that have ended was printed already.
func (o *openLine) printed(lines []string) bool {
	return o.shown != "" && len(lines) > 0 && lines[0] == o.shown
}

// take returns the state that is to be printed now, "" if there is none.
func (v *vertex) take(now time.Time) string {
	if v.state != running || v.open.due.IsZero() || now.Before(v.open.due) {
		return ""
	}
	v.open = openLine{shown: lastState(v.logs.last())}
	return v.open.shown
}
