package subrequest

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"layered.build/builder/parser"
	"layered.build/builder/planner"
)

// Arg is a build argument.
type Arg struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Value       string    `json:"value,omitempty"`
	Location    *Location `json:"location,omitempty"`
}

// Mount is a secret or an agent.
type Mount struct {
	Name     string    `json:"name"`
	Required bool      `json:"required,omitempty"`
	Location *Location `json:"location,omitempty"`
}

// Cache is a cache mount.
type Cache struct {
	ID       string    `json:"ID"`
	Location *Location `json:"location,omitempty"`
}

// Outline is the answer to outline.
type Outline struct {
	Name        string   `json:"name,omitempty"`
	Description string   `json:"description,omitempty"`
	Args        []Arg    `json:"args,omitempty"`
	Secrets     []Mount  `json:"secrets,omitempty"`
	SSH         []Mount  `json:"ssh,omitempty"`
	Cache       []Cache  `json:"cache,omitempty"`
	Sources     [][]byte `json:"sources,omitempty"`
}

// NewOutline is the answer to outline.
func NewOutline(file *parser.File, o *planner.Outline) Outline {
	res := Outline{Name: o.Name, Description: o.Description, Sources: [][]byte{file.Source}}
	for _, a := range o.Args {
		res.Args = append(res.Args, Arg{a.Name, a.Description, a.Value, at(a.Location)})
	}
	for _, m := range o.Secrets {
		res.Secrets = append(res.Secrets, Mount{m.ID, m.Required, at(m.Location)})
	}
	for _, m := range o.SSH {
		res.SSH = append(res.SSH, Mount{m.ID, m.Required, at(m.Location)})
	}
	for _, m := range o.Caches {
		res.Cache = append(res.Cache, Cache{m.ID, at(m.Location)})
	}
	return res
}

// PrintOutline writes the tables that buildx writes, and one of the caches.
func PrintOutline(out io.Writer, o *planner.Outline) error {
	if o.Name != "" || o.Description != "" {
		name := o.Name
		if name == "" {
			name = "(default)"
		}
		rows := [][]string{{"TARGET:", name}}
		if o.Description != "" {
			rows = append(rows, []string{"DESCRIPTION:", o.Description})
		}
		if err := table(out, 1, rows); err != nil {
			return err
		}
	}
	rows := [][]string{{"BUILD ARG", "VALUE", "DESCRIPTION"}}
	for _, a := range o.Args {
		rows = append(rows, []string{a.Name, a.Value, a.Description})
	}
	if err := table(out, 3, rows); err != nil {
		return err
	}
	for _, t := range []struct {
		title  string
		mounts []planner.OutlineMount
	}{{"SECRET", o.Secrets}, {"SSH", o.SSH}} {
		rows := [][]string{{t.title, "REQUIRED"}}
		for _, m := range t.mounts {
			required := ""
			if m.Required {
				required = "true"
			}
			rows = append(rows, []string{m.ID, required})
		}
		if err := table(out, 3, rows); err != nil {
			return err
		}
	}
	rows = [][]string{{"CACHE"}}
	for _, m := range o.Caches {
		rows = append(rows, []string{m.ID})
	}
	return table(out, 3, rows)
}

// table writes rows and an empty line; nothing if there is only a head.
func table(out io.Writer, padding int, rows [][]string) error {
	if len(rows) < 2 && !strings.HasSuffix(rows[0][0], ":") {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, padding, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out)
	return err
}
