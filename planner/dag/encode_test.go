package dag_test

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/planner/dag"
)

// TestCanonical pins the encoding that docs/FORMAT.md describes.
func TestCanonical(t *testing.T) {
	platform := ocispec.Platform{Architecture: "amd64", OS: "linux"}
	image := &dag.Step{Op: &dag.Source{Image: &dag.ImageSource{Ref: "docker.io/library/a:1", Digest: "sha256:1"}}, Platform: platform}
	const wantImage = `{"Kind":"source","Op":{"Image":{"Ref":"docker.io/library/a:1","Digest":"sha256:1"}},"Inputs":null,"Platform":{"architecture":"amd64","os":"linux"}}`
	if got := string(image.Canonical()); got != wantImage {
		t.Errorf("image:\n got %s\nwant %s", got, wantImage)
	}
	file := &dag.Step{
		Op: &dag.File{Base: true, Actions: []dag.Action{
			{Copy: &dag.Copy{Input: 1, Sources: []string{"a"}, Dest: "/b", Wildcard: true}},
			{Mkfile: &dag.Mkfile{Path: "/<c>", Mode: 0o644, Data: []byte("c")}},
		}},
		Inputs: []dag.Edge{{}, {Step: image}}, Platform: platform, Meta: dag.Meta{Name: "not encoded"},
	}
	want := `{"Kind":"file","Op":{"Base":true,"Actions":[{"Copy":{"Input":1,"Sources":["a"],"Dest":"/b","Wildcard":true}},` +
		`{"Mkfile":{"Path":"/\u003cc\u003e","Mode":420,"Data":"Yw=="}}]},"Inputs":["scratch","ID/0"],"Platform":{"architecture":"amd64","os":"linux"}}`
	if got := strings.Replace(string(file.Canonical()), string(image.ID()), "ID", 1); got != want {
		t.Errorf("file:\n got %s\nwant %s", got, want)
	}
	merge := &dag.Step{Op: &dag.Merge{}, Inputs: []dag.Edge{{Step: image}}}
	if got := string(merge.Canonical()); !strings.HasPrefix(got, `{"Kind":"merge","Op":{},"Inputs":["`) {
		t.Errorf("merge: %s", got)
	}
}
