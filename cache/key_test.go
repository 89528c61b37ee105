package cache

import (
	"testing"

	"layered.build/builder/planner/dag"
)

func mustKey(t *testing.T, step *dag.Step, inputs ...Input) Key {
	t.Helper()
	k, parts, err := DefinitionKey(step, inputs)
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) < 3 {
		t.Fatalf("parts: %v", parts)
	}
	return k
}

func TestKeyComponents(t *testing.T) {
	base := func() *dag.Step {
		return &dag.Step{Op: &dag.Exec{Args: []string{"a", "b"}, Cwd: "/"}}
	}
	ref := mustKey(t, base(), Input{Definition: "sha256:1"})
	if again := mustKey(t, base(), Input{Definition: "sha256:1"}); again != ref {
		t.Errorf("same step, other key")
	}
	quiet := base()
	quiet.Meta = dag.Meta{Name: "x", NoCache: true, ProxyEnv: []string{"http_proxy=x"}, Limits: dag.Limits{Memory: 1}}
	if mustKey(t, quiet, Input{Definition: "sha256:1"}) != ref {
		t.Errorf("Meta changes the key")
	}
	differ := map[string]Key{
		"input":   mustKey(t, base(), Input{Definition: "sha256:2"}),
		"output":  mustKey(t, base(), Input{Definition: "sha256:1", Output: 1}),
		"content": mustKey(t, base(), Input{Definition: "sha256:1", Content: "sha256:1"}),
		"scratch": mustKey(t, base(), Input{}),
		"args":    mustKey(t, &dag.Step{Op: &dag.Exec{Args: []string{"a b"}, Cwd: "/"}}, Input{Definition: "sha256:1"}),
		"cwd":     mustKey(t, &dag.Step{Op: &dag.Exec{Args: []string{"a", "b"}, Cwd: "/x"}}, Input{Definition: "sha256:1"}),
	}
	other := base()
	other.Platform.OS, other.Platform.Architecture = "linux", "arm64"
	differ["platform"] = mustKey(t, other, Input{Definition: "sha256:1"})
	rk, _, err := ResultKey(base(), []Input{{Definition: "sha256:1"}})
	if err != nil {
		t.Fatal(err)
	}
	differ["kind"] = rk
	seen := map[Key]string{ref: "reference"}
	for name, k := range differ {
		if was, ok := seen[k]; ok {
			t.Errorf("%s: same key as %s", name, was)
		}
		seen[k] = name
	}
}

func TestImageKeyIsItsDigest(t *testing.T) {
	img := func(ref, digest string) *dag.Step {
		return &dag.Step{Op: &dag.Source{Image: &dag.ImageSource{Ref: ref, Digest: digest}}}
	}
	a := mustKey(t, img("alpine:3", "sha256:1"))
	if mustKey(t, img("alpine:3.20", "sha256:1")) != a {
		t.Error("another tag of the same image gives another key")
	}
	layout := &dag.Step{Op: &dag.Source{OCILayout: &dag.OCILayoutSource{Path: "dir", Digest: "sha256:1"}}}
	if mustKey(t, layout) != a {
		t.Error("the same image in a layout has another key")
	}
	if mustKey(t, img("alpine:3", "sha256:2")) == a {
		t.Error("another image gives the same key")
	}
}

// TestRevision proves that only the kinds of steps that do something else than before have
// other keys.
func TestRevision(t *testing.T) {
	for _, tc := range []struct {
		op   dag.Op
		want string
	}{
		{&dag.Exec{Args: []string{"a"}}, ""}, {&dag.Merge{}, ""}, {&dag.File{}, "1"},
		{&dag.File{Actions: []dag.Action{{Copy: &dag.Copy{}}}}, "1"}, {&dag.File{Actions: []dag.Action{{Copy: &dag.Copy{Unpack: true}}}}, "3"},
	} {
		_, parts, err := ResultKey(&dag.Step{Op: tc.op}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, p := range parts {
			if p.Name == "revision" {
				got = p.Value
			}
		}
		if got != tc.want {
			t.Errorf("%s: revision %q, want %q", tc.op.Kind(), got, tc.want)
		}
	}
}
