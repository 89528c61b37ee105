package dag

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	one, two := make([]Edge, 1), make([]Edge, 2)
	for _, c := range []struct {
		step *Step
		want string // "" : valid
	}{
		{&Step{}, "without an operation"},
		{&Step{Op: (*Exec)(nil)}, "without an operation"},
		{run(Edge{}, "make"), ""},
		{run(Edge{}, "printf \xff"), "not valid UTF-8"},
		{&Step{Op: &Exec{Env: []string{"A=\xff"}}}, "not valid UTF-8"},
		{&Step{Op: &Exec{Mounts: []Mount{{Input: 1, Dest: "/"}}}, Inputs: one}, "refers to input 1 of 1"},
		{&Step{Op: &Exec{Mounts: []Mount{{Input: -2, Dest: "/"}}}, Inputs: one}, "refers to input -2"},
		{&Step{Op: &Exec{Mounts: []Mount{{Input: -1, Dest: "tmp"}}}, Inputs: one}, "not absolute"},
		{&Step{Op: &Exec{Mounts: []Mount{{Input: -1, Dest: "/tmp"}}}}, ""},
		{&Step{Op: &Exec{Network: "host "}}, "no network"},
		{&Step{Op: &Exec{Network: "ns:"}}, "no network"},
		{&Step{Op: &Exec{Network: "ns:/run/netns/x"}}, ""},
		{&Step{Op: &Exec{Mounts: []Mount{{Type: MountBind, Input: -1, Dest: "/a", Output: 1}}}}, ""},
		{&Step{Op: &Exec{Mounts: []Mount{{Type: MountBind, Input: -1, Dest: "/a", Output: 1 << 40}}}}, "not one of its own"},
		{&Step{Op: &Exec{Mounts: []Mount{{Type: MountBind, Input: -1, Dest: "/a", Output: -1}}}}, "not one of its own"},
		{&Step{Op: &Exec{Mounts: []Mount{{Type: MountBind, Input: -1, Dest: "/a", Output: 2}}}}, "outputs up to 2"},
		{&Step{Op: &Exec{Mounts: []Mount{{Type: MountCache, Input: -1, Dest: "/a", Output: 1}}}}, "only bind mounts"},
		{&Step{Op: &Exec{Mounts: []Mount{{Type: MountBind, Input: -1, Dest: "/", Output: 1}}}}, "only bind mounts"},
		{&Step{Op: &File{Base: true}}, "needs 1"},
		{&Step{Op: &File{Base: true}, Inputs: one}, ""},
		{&Step{Op: &File{Actions: []Action{{Copy: &Copy{Input: 1, Dest: "/"}}}}, Inputs: one}, "refers to input 1"},
		{&Step{Op: &File{Actions: []Action{{Copy: &Copy{Input: 1, Dest: "x"}}}}, Inputs: two}, "not absolute"},
		{&Step{Op: &File{Actions: []Action{{Copy: &Copy{Input: 1, Dest: "/", Owner: &Owner{User: "\xfe"}}}}}, Inputs: two}, "not valid UTF-8"},
		{&Step{Op: &File{Actions: []Action{{Mkfile: &Mkfile{Path: "/a", Data: []byte("\xff")}}}}}, ""},
		{&Step{Op: &Merge{}}, "needs 1"},
		{&Step{Op: &Diff{}, Inputs: one}, "needs 2"},
		{&Step{Op: &Diff{}, Inputs: two}, ""},
	} {
		err := c.step.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.step.Op, err, c.want)
		}
	}
}
