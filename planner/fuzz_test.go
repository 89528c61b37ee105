package planner

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

// FuzzBuild plans any bytes: a plan whose parts fit together, or an error that
// names the file; the same again the second time.
func FuzzBuild(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, p := range paths {
		f.Add(string(readGolden(f, p).file("Dockerfile")), "", "x=1")
	}
	f.Add("FROM a\nONBUILD COPY --from=b a b\nFROM 0", "0", "")
	f.Add("ARG SOURCE_DATE_EPOCH=1\nFROM alpine\nEXPOSE 1-9\nVOLUME a", "stage-0", "SOURCE_DATE_EPOCH=-1")
	f.Fuzz(func(t *testing.T, src, target, arg string) {
		file, err := parser.Parse("Dockerfile", []byte(src))
		if err != nil {
			return
		}
		key, value, _ := strings.Cut(arg, "=")
		images := &fakeImages{configs: map[string]ImageConfig{"a": {}}}
		cfg := images.configs["a"]
		cfg.Config.OnBuild = []string{value}
		images.configs["a"] = cfg
		opts := Options{BuildPlatform: linuxAmd64, Target: target, BuildArgs: map[string]string{key: value}}
		p, err := Build(t.Context(), file, images, opts)
		q, err2 := Build(t.Context(), file, images, opts)
		if err != nil {
			var e *parser.Error
			if !errors.As(err, &e) {
				t.Fatalf("not a *parser.Error: %v", err)
			}
			if err2 == nil || len(err2.Error()) == 0 {
				t.Fatalf("fails only once: %v", err)
			}
			_ = e.Excerpt()
			return
		}
		if err2 != nil || p.Graph.String() != q.Graph.String() {
			t.Fatalf("the second plan differs: %v\n%s\n%s", err2, p.Graph, q.Graph)
		}
		checkPlan(t, p)
	})
}

func checkPlan(t *testing.T, p *Plan) {
	t.Helper()
	seen := map[*dag.Step]bool{}
	for _, s := range p.Graph.Steps {
		for _, in := range s.Inputs {
			if in.Step != nil && !seen[in.Step] {
				t.Fatalf("%s comes before its input", s.Meta.Name)
			}
		}
		seen[s] = true
		if err := s.Validate(); err != nil {
			t.Fatalf("%s: %v", s.Meta.Name, err)
		}
		checkInputs(t, s)
	}
	for _, img := range p.Targets {
		if img.Result.Step != nil && !seen[img.Result.Step] {
			t.Fatal("the target's result is not in the graph")
		}
		for _, in := range img.Instructions {
			if in.CreatedBy == "" || in.Location.Start == 0 {
				t.Fatalf("instruction without text or place: %+v", in)
			}
		}
		if !slices.ContainsFunc(img.Config.Config.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
			t.Fatal("no PATH")
		}
	}
}

// checkInputs checks that every index that an operation uses is an input.
func checkInputs(t *testing.T, s *dag.Step) {
	t.Helper()
	ok := func(i int) {
		if i < 0 || i >= len(s.Inputs) {
			t.Fatalf("%s: no input %d", s.Meta.Name, i)
		}
	}
	switch op := s.Op.(type) {
	case *dag.File:
		for _, a := range op.Actions {
			if a.Copy == nil {
				continue
			}
			ok(a.Copy.Input)
			if a.Copy.Dest == "" || a.Copy.Dest[0] != '/' {
				t.Fatalf("%s: destination %q", s.Meta.Name, a.Copy.Dest)
			}
			for _, src := range a.Copy.Sources {
				if src == "" || src[0] == '/' || src == ".." || strings.HasPrefix(src, "../") {
					t.Fatalf("%s: source %q", s.Meta.Name, src)
				}
			}
		}
	case *dag.Exec:
		if len(op.Args) == 0 {
			t.Fatalf("%s: nothing to execute", s.Meta.Name)
		}
		for _, m := range op.Mounts {
			if m.Input != -1 {
				ok(m.Input)
			}
			if m.Dest == "" || m.Dest[0] != '/' || strings.Contains(m.Selector, "..") && strings.HasPrefix(m.Selector, "..") {
				t.Fatalf("%s: mount %+v", s.Meta.Name, m)
			}
		}
	}
}

// FuzzMount plans a RUN with any text as a mount.
func FuzzMount(f *testing.F) {
	for _, s := range []string{
		"type=cache,target=/a,id=x,sharing=locked,uid=1,gid=2,mode=0700,from=a,source=/b,ro", "type=secret,id=a,env=B,required",
		"type=ssh,target=/s", "type=tmpfs,size=1g,target=t", "target=/a,rw", "type=bind,from=0", "type=cache,target=/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, mount string) {
		if strings.ContainsAny(mount, " \t\r\n\v\f\\\"'") {
			return // would be another instruction
		}
		file, err := parser.Parse("Dockerfile", []byte("FROM a AS b\nFROM a\nRUN --mount="+mount+" x\n"))
		if err != nil {
			return
		}
		p, err := Build(t.Context(), file, &fakeImages{configs: map[string]ImageConfig{"a": {}}}, Options{BuildPlatform: linuxAmd64})
		var e *parser.Error
		switch {
		case err == nil:
			checkPlan(t, p)
		case !errors.As(err, &e):
			t.Fatalf("not a *parser.Error: %v", err)
		}
	})
}
