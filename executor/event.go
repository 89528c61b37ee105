package executor

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"layered.build/builder/planner/dag"
)

// EventType says what happened.
type EventType string

// The event types. Every step that a Solve looks at has exactly one of
// EventCached, EventDone, EventFailed and EventCanceled as its last event.
const (
	EventStarted  EventType = "started"
	EventCached   EventType = "cached"
	EventLog      EventType = "log"
	EventProgress EventType = "progress"
	EventDone     EventType = "done"
	EventFailed   EventType = "failed"
	EventCanceled EventType = "canceled"
	EventWarning  EventType = "warning"
)

// Event is one thing that an observer of a build learns.
type Event struct {
	Type EventType
	Time time.Time
	// Step is nil for work that is not a step (Task names it).
	Step *dag.Step
	// Task is work beside the steps: "exporting to image", "pushing layers".
	Task string
	// Stream is 1 (stdout) or 2 (stderr) for EventLog.
	Stream int
	Data   []byte // EventLog: raw output; EventWarning: the text
	// Rule is the check whose finding an EventWarning tells of; "" for other warnings.
	Rule dag.Rule
	// Item, Current and Total describe a transfer for EventProgress (bytes).
	Item           string
	Current, Total int64
	// Reason says for EventCached which key hit, and for EventStarted of a step why none
	// did: what changed since it ran here last.
	Reason string
	// Lookup is what the cache said of a step, with EventCached and EventStarted; nil for
	// sources, which are not looked up, and for what no step of this build looked for.
	Lookup *Lookup
	Err    error
	Usage  *Usage // EventDone and EventFailed of a process that ran
}

// Usage is what the processes of a step used together.
type Usage struct {
	// CPU is the time on CPUs, of which System in the kernel. Wall is how long it
	// took.
	CPU, System, Wall time.Duration
	PeakMemory        int64 // bytes
	// ReadBytes and WriteBytes went from and to storage.
	ReadBytes, WriteBytes int64
	// RxBytes and TxBytes went through the step's network interface; HostNetwork
	// says that it had none of its own, so that nothing was counted.
	RxBytes, TxBytes int64
	HostNetwork      bool
	// Processes is how many were seen at once.
	Processes int
	// Contacts are what the process talked to over a network of its own.
	Contacts []Contact
}

// Contact is a destination that a process talked to, or tried to.
type Contact struct {
	// Proto is tcp, udp or icmp; dns for a name that was refused; other for those
	// that were too many.
	Proto string
	// Addr is the zero value for a name; its port is 0 where there is none.
	Addr netip.AddrPort
	// Name is the name whose address this was; "" if the process looked up none.
	Name string
	// Denied says that it was refused.
	Denied bool
	// Flows counts connections, or tries.
	Flows int64
	// Sent and Received are bytes of content, as seen from the process.
	Sent, Received int64
}

// Host is the contact for people: NAME:PORT, or ADDRESS:PORT.
func (c Contact) Host() string {
	switch {
	case !c.Addr.IsValid():
		return c.Name
	case c.Name == "" && c.Addr.Port() == 0:
		return c.Addr.Addr().String()
	case c.Name == "":
		return c.Addr.String()
	case c.Addr.Port() == 0:
		return c.Name
	}
	return net.JoinHostPort(c.Name, strconv.Itoa(int(c.Addr.Port())))
}

// Observer receives the events of a build. It is called from many goroutines
// and must not block for long. Data is only valid during the call.
type Observer func(Event)
