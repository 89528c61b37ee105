package planner

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fakeImages resolves alpine, busybox, debian and golang, and what it is given.
type fakeImages struct {
	configs map[string]ImageConfig // by reference as written
	mu      sync.Mutex             // guards asked
	asked   []string
}

var linuxAmd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

func (f *fakeImages) ResolveImage(_ context.Context, ref string, p ocispec.Platform) (*BaseImage, error) {
	f.mu.Lock()
	f.asked = append(f.asked, ref+" "+platforms.Format(p))
	f.mu.Unlock()
	cfg, ok := f.configs[ref]
	if !ok {
		name, _, _ := strings.Cut(ref, ":")
		switch name {
		case "alpine", "busybox", "debian", "golang":
		default:
			return nil, fmt.Errorf("pull: not found")
		}
		cfg.Config.Env = []string{"PATH=/usr/bin:/bin"}
		cfg.Config.Cmd = []string{"/bin/sh"}
		cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(name)}}
		cfg.History = []ocispec.History{{CreatedBy: name}}
	}
	if cfg.OS == "" {
		cfg.Platform = p
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, err
	}
	full := reference.TagNameOnly(named).String()
	return &BaseImage{
		Ref: full, Digest: digest.FromString(full + platforms.Format(p)).String(), Platform: p, Config: cfg,
	}, nil
}

// golden is one archive of testdata: "Dockerfile", optional "options" (one a
// line) and "image <ref>" (a configuration), and what is expected: "plan", or
// "error".
type golden struct {
	ar     *txtar.Archive
	opts   Options
	images fakeImages
}

func readGolden(t testing.TB, path string) *golden {
	t.Helper()
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g := &golden{ar: ar, images: fakeImages{configs: map[string]ImageConfig{}}}
	g.opts = Options{BuildPlatform: linuxAmd64, BuildArgs: map[string]string{}, Labels: map[string]string{}}
	for _, f := range ar.Files {
		if ref, ok := strings.CutPrefix(f.Name, "image "); ok {
			var cfg ImageConfig
			if err := json.Unmarshal(f.Data, &cfg); err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
			g.images.configs[ref] = cfg
		}
	}
	for line := range strings.Lines(string(g.file("options"))) {
		if err := setOption(&g.opts, strings.TrimSpace(line)); err != nil {
			t.Fatalf("option %q: %v", line, err)
		}
	}
	return g
}

func (g *golden) file(name string) []byte {
	for _, f := range g.ar.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func (g *golden) set(name string, data []byte) {
	for i, f := range g.ar.Files {
		if f.Name == name {
			g.ar.Files[i].Data = data
			return
		}
	}
	g.ar.Files = append(g.ar.Files, txtar.File{Name: name, Data: data})
}

func setOption(o *Options, line string) error {
	key, value, _ := strings.Cut(line, " ")
	k, v, _ := strings.Cut(value, "=")
	switch key {
	case "":
	case "target":
		o.Target = value
	case "arg":
		o.BuildArgs[k] = v
	case "label":
		o.Labels[k] = v
	case "platform":
		p, err := platforms.Parse(value)
		o.Platforms = append(o.Platforms, p)
		return err
	case "no-cache":
		o.NoCache = true
	case "no-cache-stage":
		o.NoCacheStages = append(o.NoCacheStages, value)
	case "all":
		o.AllStages = true
	case "exclude":
		o.Excludes = append(o.Excludes, value)
	case "host":
		o.Hosts = append(o.Hosts, dag.HostAlias{Host: k, IP: v})
	case "network":
		o.Network = dag.Network(value)
	case "memory":
		n, err := strconv.ParseInt(value, 10, 64)
		o.Limits.Memory = n
		return err
	case "epoch":
		n, err := strconv.ParseInt(value, 10, 64)
		tm := time.Unix(n, 0).UTC()
		o.Epoch = &tm
		return err
	default:
		return errors.New("unknown")
	}
	return nil
}

func (g *golden) build(t *testing.T) (*Plan, error) {
	file, err := parser.Parse("Dockerfile", g.file("Dockerfile"))
	if err != nil {
		return nil, err
	}
	return Build(t.Context(), file, &g.images, g.opts)
}

// TestGolden plans every Dockerfile of testdata. Run with -update to rewrite
// what is expected, and read the difference.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			g := readGolden(t, path)
			plan, err := g.build(t)
			name, got := "error", ""
			if err == nil {
				name, got = "plan", show(t, plan)
			} else {
				got = showError(err)
			}
			if *update {
				g.set(name, []byte(got))
				if err := os.WriteFile(path, txtar.Format(g.ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(g.file(name)); got != want {
				t.Errorf("%s differs\n--- want\n%s--- got\n%s", name, want, got)
			}
		})
	}
}

// TestSamePlan plans every golden Dockerfile again: same input, same bytes.
func TestSamePlan(t *testing.T) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		var first string
		for i := range 5 {
			plan, err := readGolden(t, path).build(t)
			got := ""
			if err != nil {
				got = showError(err)
			} else {
				got = show(t, plan)
				for _, s := range plan.Graph.Steps {
					got += string(s.ID()) + "\n"
				}
			}
			if i == 0 {
				first = got
			} else if got != first {
				t.Fatalf("%s: plans differ:\n%s\n%s", path, first, got)
			}
		}
	}
}

func showError(err error) string {
	var e *parser.Error
	if !errors.As(err, &e) {
		return "NOT A parser.Error: " + err.Error() + "\n"
	}
	return e.Error() + "\n" + e.Excerpt()
}

func show(t *testing.T, p *Plan) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(p.Graph.String())
	numbers := map[*dag.Step]int{}
	for i, s := range p.Graph.Steps {
		numbers[s] = i + 1
	}
	for _, img := range p.Targets {
		fmt.Fprintf(&b, "\nimage %s (stage %d) %s result %s\n", img.Stage, img.Index, platforms.FormatAll(img.Platform), edge(numbers, img.Result))
		if img.Base != nil {
			fmt.Fprintf(&b, "    base %s\n", img.Base.Ref)
		}
		for _, in := range img.Instructions {
			at := fmt.Sprintf("%d", in.Location.Start)
			if in.Location.End != in.Location.Start {
				at += fmt.Sprintf("-%d", in.Location.End)
			}
			step := "-"
			if in.Step != nil {
				step = edge(numbers, dag.Edge{Step: in.Step})
			}
			if in.EmptyLayer != (in.Step == nil) {
				t.Errorf("%s: empty layer %v with step %v", in.CreatedBy, in.EmptyLayer, in.Step)
			}
			fmt.Fprintf(&b, "    %-5s %-4s %q\n", at, step, in.CreatedBy)
		}
		config, err := json.MarshalIndent(img.Config, "    ", "  ")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "    config %s\n", config)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning %s:%d %s: %s\n", w.File, w.Start, w.Rule, w.Message)
	}
	if len(p.Skipped) > 0 {
		fmt.Fprintf(&b, "skipped %s\n", strings.Join(p.Skipped, " "))
	}
	if len(p.UnusedArgs) > 0 {
		fmt.Fprintf(&b, "unused arguments %s\n", strings.Join(p.UnusedArgs, " "))
	}
	if p.Epoch != nil {
		fmt.Fprintf(&b, "epoch %d\n", p.Epoch.Unix())
	}
	return b.String()
}

func edge(numbers map[*dag.Step]int, e dag.Edge) string {
	if e.IsScratch() {
		return "scratch"
	}
	return fmt.Sprintf("#%d", numbers[e.Step])
}
