package progress

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// jsonEvent is one line of the JSON form.
type jsonEvent struct {
	Type    executor.EventType `json:"type"`
	Time    time.Time          `json:"time"`
	Step    dag.ID             `json:"step,omitempty"`
	Name    string             `json:"name,omitempty"` // of the step
	Stage   string             `json:"stage,omitempty"`
	Task    string             `json:"task,omitempty"`
	Stream  int                `json:"stream,omitempty"`
	Data    string             `json:"data,omitempty"` // invalid UTF-8 is replaced
	Item    string             `json:"item,omitempty"`
	Current int64              `json:"current,omitempty"`
	Total   int64              `json:"total,omitempty"` // -1 where it is not known
	Rate    int64              `json:"rate,omitempty"`  // bytes a second so far
	Rule    dag.Rule           `json:"rule,omitempty"`
	Reason  string             `json:"reason,omitempty"`
	Error   string             `json:"error,omitempty"`
	// Location is that of the error, if it is known.
	Location *Location  `json:"location,omitempty"`
	Usage    *jsonUsage `json:"usage,omitempty"`
}

// Location is where in a Dockerfile something is wrong: from a line's column up to and
// with another's, all counted from 1.
type Location struct {
	File        string `json:"file,omitempty"` // "": only the hint is known
	StartLine   int    `json:"startLine,omitempty"`
	EndLine     int    `json:"endLine,omitempty"`
	StartColumn int    `json:"startColumn,omitempty"`
	EndColumn   int    `json:"endColumn,omitempty"`
	// Hint says what to do; several are lines.
	Hint string `json:"hint,omitempty"`
}

// Locator is a Display that tells where errors are, as find knows it; find may return
// nil. It is called before the first event.
type Locator interface {
	Locate(find func(error) *Location)
}

type jsonUsage struct {
	CPUSeconds    float64 `json:"cpuSeconds"`
	SystemSeconds float64 `json:"systemSeconds"`
	WallSeconds   float64 `json:"wallSeconds"`
	PeakMemory    int64   `json:"peakMemory"`
	ReadBytes     int64   `json:"readBytes"`
	WriteBytes    int64   `json:"writeBytes"`
	RxBytes       *int64  `json:"rxBytes,omitempty"` // absent with the host's network
	TxBytes       *int64  `json:"txBytes,omitempty"`
	Processes     int     `json:"processes"`
	// Contacts are what the process talked to, if it had a network of its own.
	Contacts []jsonContact `json:"contacts,omitempty"`
}

type jsonContact struct {
	Proto    string `json:"proto"`
	Name     string `json:"name,omitempty"`
	Address  string `json:"address,omitempty"`
	Port     uint16 `json:"port,omitempty"`
	Denied   bool   `json:"denied,omitempty"`
	Flows    int64  `json:"flows"`
	Sent     int64  `json:"sent"`
	Received int64  `json:"received"`
}

func contacts(in []executor.Contact) []jsonContact {
	var out []jsonContact
	for _, c := range in {
		j := jsonContact{
			Proto: c.Proto, Name: c.Name, Port: c.Addr.Port(), Denied: c.Denied,
			Flows: c.Flows, Sent: c.Sent, Received: c.Received,
		}
		if c.Addr.IsValid() {
			j.Address = c.Addr.Addr().String()
		}
		out = append(out, j)
	}
	return out
}

func usageOf(u *executor.Usage) *jsonUsage {
	out := &jsonUsage{
		CPUSeconds: u.CPU.Seconds(), SystemSeconds: u.System.Seconds(), WallSeconds: u.Wall.Seconds(),
		PeakMemory: u.PeakMemory, ReadBytes: u.ReadBytes, WriteBytes: u.WriteBytes, Processes: u.Processes,
		Contacts: contacts(u.Contacts),
	}
	if !u.HostNetwork {
		out.RxBytes, out.TxBytes = &u.RxBytes, &u.TxBytes
	}
	return out
}

// jsonLines writes every event as one line.
type jsonLines struct {
	mu    sync.Mutex // guards what follows
	enc   *json.Encoder
	err   error
	items map[string]*item // under way, by task or step and name

	find func(error) *Location // see Locate; nil: nothing is known
}

// NewJSON returns a display that writes one JSON object a line for every event.
func NewJSON(out io.Writer) Display {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return &jsonLines{enc: enc, items: map[string]*item{}}
}

var (
	_ Display = (*jsonLines)(nil)
	_ Locator = (*jsonLines)(nil)
)

// Locate implements Locator.
func (j *jsonLines) Locate(find func(error) *Location) { j.find = find }

// Announce implements Display.
func (j *jsonLines) Announce([]*dag.Step) {}

// Observe implements Display.
func (j *jsonLines) Observe(ev executor.Event) {
	line := jsonEvent{
		Type: ev.Type, Time: ev.Time, Task: ev.Task, Stream: ev.Stream, Data: string(ev.Data),
		Item: ev.Item, Current: ev.Current, Total: ev.Total, Rule: ev.Rule, Reason: ev.Reason,
	}
	if ev.Step != nil {
		line.Step, line.Name, line.Stage = ev.Step.ID(), ev.Step.Meta.Name, ev.Step.Meta.Stage
	}
	if ev.Err != nil {
		line.Error = ev.Err.Error()
		if j.find != nil {
			line.Location = j.find(ev.Err)
		}
	}
	if ev.Usage != nil {
		line.Usage = usageOf(ev.Usage)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if ev.Type == executor.EventProgress {
		line.Rate = j.rate(string(line.Step)+ev.Task+" "+ev.Item, ev)
	}
	if err := j.enc.Encode(line); err != nil && j.err == nil {
		j.err = err
	}
}

// rate is that of an item so far.
func (j *jsonLines) rate(key string, ev executor.Event) int64 {
	it := j.items[key]
	if it == nil {
		it = &item{start: ev.Time, began: ev.Current}
		j.items[key] = it
	}
	it.current, it.total, it.end = ev.Current, ev.Total, ev.Time
	if it.finished() {
		delete(j.items, key)
	}
	return it.rate()
}

// Close implements Display.
func (j *jsonLines) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}
