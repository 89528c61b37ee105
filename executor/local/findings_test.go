package local

import (
	"fmt"
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// TestFindings proves that it is told which file was replaced by a later source, and which
// names the image does not know.
func TestFindings(t *testing.T) {
	own := func(user, group string) *dag.Copy {
		c := cp("/x", "bar")
		c.Owner = &dag.Owner{User: user, Group: group}
		return c
	}
	const slash = ": a destination of several sources should end with a slash"
	for _, tc := range []struct {
		name    string
		actions []*dag.Copy
		want    string
	}{
		{"one source", []*dag.Copy{cp("/x", "bar")}, ""},
		{"files", []*dag.Copy{cp("/x", "bar", "foo.go")}, "CopySourceReplaced: /x of bar was replaced by that of foo.go" + slash},
		{"of two inputs", []*dag.Copy{cp("/x", "bar"), cp("/x", "foo.go")}, "CopySourceReplaced: /x of bar was replaced by that of foo.go" + slash},
		{"of a wildcard", []*dag.Copy{cp("/x", "foo*.go")}, "CopySourceReplaced: /x of foo.go was replaced by that of foo2.go" + slash},
		{"wildcard without a match", []*dag.Copy{cp("/x", "bar", "nothing*")}, ""},
		{"in folders", []*dag.Copy{cp("/d", "one", "two")}, "CopySourceReplaced: /d/f of one was replaced by that of two, /d/g of one was replaced by that of two, /d/h of one was replaced by that of two, and 1 more" + slash},
		{"in folders that are meant to be merged", []*dag.Copy{cp("/d/", "one", "two")}, ""},
		{"into a folder that is there", []*dag.Copy{cp("/app", "bar", "foo.go")}, ""},
		{"over what the base has", []*dag.Copy{cp("/file", "bar", "nothing*")}, ""},
		{"a user", []*dag.Copy{own("ghost", "")}, "CopyOwnerUnknown: the image does not know the user \"ghost\": what is copied belongs to 0:0"},
		{"a group", []*dag.Copy{own("7", "ghost")}, "CopyOwnerUnknown: the image does not know the group \"ghost\": what is copied belongs to 7:7"},
		{"both, twice", []*dag.Copy{own("me", "us"), func() *dag.Copy { c := own("me", "us"); c.Dest = "/y"; return c }()}, "CopyOwnerUnknown: the image does not know the user \"me\": what is copied belongs to 0:0\nCopyOwnerUnknown: the image does not know the group \"us\": what is copied belongs to 0:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			more := "f 644 0:0 one/f 1\nf 644 0:0 one/g 1\nf 644 0:0 one/h 1\nf 644 0:0 one/i 1\nf 644 0:0 one/only 1\n" +
				"f 644 0:0 two/f 2\nf 644 0:0 two/g 2\nf 644 0:0 two/h 2\nf 644 0:0 two/i 2\n"
			var actions []dag.Action
			for _, c := range tc.actions {
				actions = append(actions, dag.Action{Copy: c})
			}
			d, err := edit(t, memTree(t, baseFiles), []snapshot.Tree{memTree(t, contextFiles+more)}, actions...)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range d.found.all() {
				got = append(got, fmt.Sprintf("%s: %s", f.Rule, f.Text))
			}
			if strings.Join(got, "\n") != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), tc.want)
			}
		})
	}
}
