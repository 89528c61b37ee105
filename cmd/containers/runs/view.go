package runs

import "time"

// View is what docker inspect shows of a container, as far as it is known, beside the
// record.
type View struct {
	DockerID string `json:"Id"`
	*Record
	Path  string
	Args  []string
	State State
}

// State is docker's word for how far a process is.
type State struct {
	Status     string
	Running    bool
	Dead       bool
	ExitCode   int
	StartedAt  time.Time
	FinishedAt time.Time
}

// View returns what is known of the run now.
func (r *Run) View() View {
	v := View{DockerID: r.Record.ID, Record: r.Record, Args: []string{}}
	if len(r.Record.Command) > 0 {
		v.Path, v.Args = r.Record.Command[0], r.Record.Command[1:]
	}
	v.State = State{Status: "dead", ExitCode: r.Record.ExitCode, StartedAt: r.Record.Created}
	switch {
	case r.Record.Finished != nil:
		v.State.Status, v.State.FinishedAt = "exited", *r.Record.Finished
	case r.Running():
		v.State.Status, v.State.Running = "running", true
	default:
		v.State.Dead = true
	}
	return v
}
