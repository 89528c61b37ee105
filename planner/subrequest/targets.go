package subrequest

import (
	"fmt"
	"io"
	"text/tabwriter"

	"layered.build/builder/parser"
	"layered.build/builder/planner"
)

// Target is a stage that can be asked for.
type Target struct {
	Name        string    `json:"name,omitempty"`
	Default     bool      `json:"default,omitempty"`
	Description string    `json:"description,omitempty"`
	Base        string    `json:"base,omitempty"`
	Platform    string    `json:"platform,omitempty"`
	Location    *Location `json:"location,omitempty"`
}

// Targets is the answer to targets.
type Targets struct {
	Targets []Target `json:"targets"`
	Sources [][]byte `json:"sources"`
}

// NewTargets is the answer to targets.
func NewTargets(file *parser.File) Targets {
	res := Targets{Sources: [][]byte{file.Source}}
	for _, t := range planner.Targets(file) {
		res.Targets = append(res.Targets, Target{t.Name, t.Default, t.Description, t.Base, t.Platform, at(t.Location)})
	}
	return res
}

// PrintTargets writes the table that buildx writes.
func PrintTargets(out io.Writer, file *parser.File) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprint(w, "TARGET\tDESCRIPTION\n")
	for _, t := range planner.Targets(file) {
		name := t.Name
		switch {
		case t.Default && name == "":
			name = "(default)"
		case t.Default:
			name += " (default)"
		}
		fmt.Fprintf(w, "%s\t%s\n", name, t.Description)
	}
	return w.Flush()
}
