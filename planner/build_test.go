package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/fixtures"
	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

func mustPlan(t *testing.T, src string, opts Options) *Plan {
	t.Helper()
	p, err := plan(t, src, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ids(p *Plan) []dag.ID {
	var out []dag.ID
	for _, s := range p.Graph.Steps {
		out = append(out, s.ID())
	}
	slices.Sort(out)
	return out
}

// TestPermutedStagesKeepIDs moves stages about, renames them and puts comments
// between: what the steps are does not change.
func TestPermutedStagesKeepIDs(t *testing.T) {
	a := "FROM alpine AS a\nRUN a\nCOPY x /x\n"
	b := "FROM debian AS b\nARG V=1\nWORKDIR /w\nRUN b $V\n"
	last := "FROM busybox\nCOPY --from=a /x /x\nCOPY --from=b /y /y\nRUN --mount=from=a,target=/m c\n"
	want := ids(mustPlan(t, a+b+last, Options{}))
	for name, src := range map[string]string{
		"order":    b + a + last,
		"comments": "# one\n" + a + "\n\n# two\n" + b + last,
		"unneeded": a + "FROM golang\nRUN never\n" + b + last,
		"names": strings.NewReplacer("AS a", "AS z", "from=a", "from=z").Replace(b + a +
			last),
		"indices": strings.ReplaceAll(a+b, " AS b", "") + strings.ReplaceAll(last, "from=b", "from=1"),
		"case":    strings.ReplaceAll(a, "RUN", "run") + b + strings.ReplaceAll(last, "from=a", "from=A"),
	} {
		if got := ids(mustPlan(t, src, Options{})); !slices.Equal(got, want) {
			t.Errorf("%s: other steps", name)
		}
	}
	if got := ids(mustPlan(t, a+strings.ReplaceAll(b, "V=1", "V=2")+last, Options{})); slices.Equal(got, want) {
		t.Error("another value of an argument that RUN sees gives the same steps")
	}
}

func TestOptionsOutsideIdentity(t *testing.T) {
	src := "FROM alpine\nRUN x\nCOPY a b\n"
	want := ids(mustPlan(t, src, Options{}))
	for name, o := range map[string]Options{
		"no cache": {NoCache: true},
		"limits":   {Limits: dag.Limits{Memory: 1 << 20}},
		"labels":   {Labels: map[string]string{"a": "b"}},
		"proxy":    {BuildArgs: map[string]string{"http_proxy": "http://p"}},
		"epoch":    {BuildArgs: map[string]string{epochArg: "1"}},
	} {
		p := mustPlan(t, src, o)
		if !slices.Equal(ids(p), want) {
			t.Errorf("%s changes what the steps are", name)
		}
	}
}

func TestStagesShareSteps(t *testing.T) {
	p := mustPlan(t, "FROM alpine AS a\nRUN same\nFROM a AS b\nRUN b\nFROM alpine AS c\nRUN same\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\nCOPY --from=c / /", Options{})
	steps := map[dag.ID]*dag.Step{}
	for _, s := range p.Graph.Steps {
		if other, ok := steps[s.ID()]; ok && other != s {
			t.Errorf("%s is there twice", s.Meta.Name)
		}
		steps[s.ID()] = s
	}
	byName := map[string]*Image{}
	for _, img := range p.Stages {
		byName[img.Stage] = img
	}
	a, b, c := byName["a"], byName["b"], byName["c"]
	if a.Instructions[0].Step != b.Instructions[0].Step || a.Result != c.Result {
		t.Error("equal steps are not shared by pointer")
	}
	if len(b.Instructions) != 2 || b.Base == nil || b.Base != a.Base {
		t.Errorf("a stage on a stage: %+v", b)
	}
}

// TestInstructionsDoNotAlias changes one configuration and looks at all others.
func TestInstructionsDoNotAlias(t *testing.T) {
	p := mustPlan(t, "FROM alpine AS a\nENV A=1\nLABEL a=1\nVOLUME /v\nEXPOSE 1\nCMD [\"x\"]\nHEALTHCHECK CMD y\nSHELL [\"s\"]\nONBUILD RUN x\nENTRYPOINT [\"e\"]\nENV A=2\nFROM a\nENV A=3", Options{})
	var all []func() *ImageConfig
	for _, img := range p.Stages {
		all = append(all, func() *ImageConfig { return &img.Config })
		for _, in := range img.Instructions {
			all = append(all, func() *ImageConfig { c := in.Config.Image(); return &c })
		}
	}
	var before []string
	for _, c := range all {
		before = append(before, configText(t, c()))
	}
	for i, c := range all {
		changed := c()
		scribble(changed)
		before[i] = configText(t, c()) // of a stage
		for j, o := range all {
			if configText(t, o()) != before[j] {
				t.Fatalf("configuration %d changed with %d", j, i)
			}
		}
	}
}

func configText(t *testing.T, c *ImageConfig) string {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestConfigurations compares what each instruction left with what a Dockerfile makes that
// ends there.
func TestConfigurations(t *testing.T) {
	src := "FROM alpine AS a\nENV A=1 B=2\nLABEL a=1 b=2\nVOLUME /v\nEXPOSE 1 2/udp\nENV A=3 PATH=/x\nLABEL b=3\nCMD [\"x\"]\n" +
		"MAINTAINER m\nUSER u\nWORKDIR /w\nHEALTHCHECK CMD y\nSHELL [\"s\"]\nSTOPSIGNAL 9\nENTRYPOINT [\"e\"]\nEXPOSE 1 3\nARG X\nVOLUME /v /u\n" +
		"FROM a AS b\nENV B=4 C=5\nLABEL a=5\nFROM scratch AS c\nLABEL c=1\nENV Z=1\nFROM c AS d\nFROM d\nENV Z=2 Y=2\nLABEL c=2\n"
	opts := Options{Env: [][2]string{{"A", "0"}, {"PATH", "/p"}}}
	lines := strings.SplitAfter(strings.TrimSuffix(src, "\n"), "\n")
	for n := 1; n <= len(lines); n++ {
		target := mustPlan(t, strings.Join(lines[:n], ""), opts).Targets[0]
		if len(target.Instructions) == 0 || strings.HasPrefix(lines[n-1], "FROM ") {
			continue
		}
		left := target.Instructions[len(target.Instructions)-1].Config.Image()
		if got, want := configText(t, &left), configText(t, &target.Config); got != want {
			t.Errorf("%safter it\n%s, want\n%s", lines[n-1], got, want)
		}
		for i, in := range target.Instructions[:len(target.Instructions)-1] {
			if b := target.Instructions[i+1].Config.Before(); b != in.Config {
				t.Errorf("%s: the configuration after %s is not that before the next", target.Stage, in.CreatedBy)
			}
		}
	}
}

func scribble(c *ImageConfig) {
	d := &c.Config
	for _, s := range [][]string{d.Env, d.Cmd, d.Entrypoint, d.Shell, d.OnBuild} {
		if len(s) > 0 {
			s[0] = "scribbled"
		}
	}
	if d.Healthcheck != nil {
		d.Healthcheck.Test[0] = "scribbled"
	}
	for _, m := range []map[string]struct{}{d.ExposedPorts, d.Volumes} {
		if m != nil {
			m["scribbled"] = struct{}{}
		}
	}
	if d.Labels != nil {
		d.Labels["scribbled"] = ""
	}
}

func TestImagesAreResolvedOnceAndTogether(t *testing.T) {
	src := "FROM alpine AS a\nFROM alpine AS b\nFROM debian AS c\nFROM busybox\nCOPY --from=alpine / /\nCOPY --from=golang / /\nRUN --mount=from=golang,target=/g x\nCOPY --from=a / /\nCOPY --from=b / /\nCOPY --from=c / /\n"
	file, err := parser.Parse("Dockerfile", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	together := &barrier{n: 4, release: make(chan struct{})}
	if _, err := Build(t.Context(), file, together, Options{BuildPlatform: linuxAmd64}); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(together.images.asked)); len(got) != 4 {
		t.Errorf("asked for %q", got)
	}
}

// barrier answers when n images are asked for at the same time.
type barrier struct {
	images  fakeImages
	mu      sync.Mutex // guards waiting
	waiting int
	n       int
	release chan struct{}
}

func (b *barrier) ResolveImage(ctx context.Context, ref string, p ocispec.Platform) (*BaseImage, error) {
	b.mu.Lock()
	if b.waiting++; b.waiting == b.n {
		close(b.release)
	}
	b.mu.Unlock()
	select {
	case <-b.release:
	case <-time.After(fixtures.Patience):
		return nil, errors.New("the others are not asked for meanwhile")
	}
	return b.images.ResolveImage(ctx, ref, p)
}

func TestBuildLeavesItsInputAlone(t *testing.T) {
	src := "ARG SOURCE_DATE_EPOCH\nFROM alpine\nARG A\nCOPY $A /x\nENV B=$A\nRUN --mount=target=$A x"
	file, err := parser.Parse("Dockerfile", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	when := time.Unix(5, 0)
	opts := Options{BuildPlatform: linuxAmd64, BuildArgs: map[string]string{"A": "1"}, Epoch: &when}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			o := opts
			o.BuildArgs = maps.Clone(opts.BuildArgs)
			o.BuildArgs["A"] = string(rune('a' + i))
			p, err := Build(t.Context(), file, &fakeImages{}, o)
			if err != nil {
				t.Error(err)
				return
			}
			if got := p.Targets[0].Instructions[2].CreatedBy; got != "ENV B="+o.BuildArgs["A"] {
				t.Errorf("got %s", got)
			}
			if len(o.BuildArgs) != 1 || p.Epoch == nil || p.Epoch.Unix() != 5 {
				t.Errorf("build arguments %v, epoch %v", o.BuildArgs, p.Epoch)
			}
		})
	}
	wg.Wait()
}

func TestSeveralPlatforms(t *testing.T) {
	p := mustPlan(t, "FROM --platform=$BUILDPLATFORM golang AS build\nARG TARGETARCH\nRUN build $TARGETARCH\nFROM alpine\nCOPY --from=build /o /o\nCMD foo", Options{
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}},
	})
	if len(p.Targets) != 2 || p.Targets[1].Config.Architecture != "arm64" || p.Targets[0].Config.Architecture != "amd64" {
		t.Fatalf("targets %+v", p.Targets)
	}
	var names []string
	for _, s := range p.Graph.Steps {
		names = append(names, s.Meta.Name)
	}
	got := strings.Join(names, "\n")
	for _, want := range []string{
		"[linux/amd64->arm64 build 2/2] RUN build arm64",
		"[linux/amd64 build 2/2] RUN build amd64",
		"[linux/arm64 stage-1 2/2] COPY --from=build /o /o",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no step %q in\n%s", want, got)
		}
	}
	if len(p.Warnings) != 1 {
		t.Errorf("warnings are not told once: %v", p.Warnings)
	}
	if strings.Count(got, "load build context")+strings.Count(got, "build 1/2") != 1 {
		t.Errorf("the platforms share too little:\n%s", got)
	}
}

func TestAllStages(t *testing.T) {
	p := mustPlan(t, "FROM alpine AS a\nRUN a\nFROM alpine AS t\nRUN test\nFROM a\nRUN b", Options{AllStages: true})
	if len(p.Graph.Steps) != 4 || len(p.Stages) != 3 || len(p.Skipped) != 0 || len(p.Targets) != 1 {
		t.Errorf("%d steps, %d stages, skipped %v", len(p.Graph.Steps), len(p.Stages), p.Skipped)
	}
}

func TestNoCache(t *testing.T) {
	marked := func(o Options) string {
		var names []string
		for _, s := range mustPlan(t, "FROM alpine AS a\nRUN a\nFROM a AS b\nCOPY x y\nWORKDIR /w", o).Graph.Steps {
			if s.Meta.NoCache {
				names = append(names, s.Meta.Command)
			}
		}
		return strings.Join(names, ", ")
	}
	if got := marked(Options{NoCache: true}); got != "RUN a, COPY x y" {
		t.Errorf("all: %s", got)
	}
	if got := marked(Options{NoCacheStages: []string{"B"}}); got != "COPY x y" {
		t.Errorf("one stage: %s", got)
	}
	if p := mustPlan(t, "FROM alpine AS a\nRUN a\nFROM a", Options{NoCacheStages: []string{"A", "stage-1", "c", "1"}}); !slices.Equal(p.UnknownStages, []string{"c", "1"}) {
		t.Errorf("unknown: %q", p.UnknownStages)
	}
}

// TestReuse proves that comments and options say which results may be used, and that they
// change nothing else of any step.
func TestReuse(t *testing.T) {
	src := "FROM alpine\nRUN a\n# builder: ttl=2d\nRUN b\n# other\n#builder: no-cache\nCOPY x y\n# builder: ttl=0\nRUN c\nWORKDIR /w\n" +
		"# builder: ttl=1h\nFROM scratch\nADD x y\n# builder: ttl=30m\nADD z y\n"
	o := Options{AllStages: true, MaxAge: 24 * time.Hour}
	p := mustPlan(t, src, o)
	var got []string
	for _, s := range p.Graph.Steps {
		if _, ok := s.Op.(*dag.Source); !ok {
			got = append(got, fmt.Sprintf("%s %s %t", s.Meta.Command, s.Meta.MaxAge, s.Meta.NoCache))
		}
	}
	want := []string{
		"RUN a 24h0m0s false", "RUN b 24h0m0s false", "COPY x y 24h0m0s true", "RUN c 24h0m0s true", "WORKDIR /w 24h0m0s false",
		"ADD x y 1h0m0s false", "ADD z y 30m0s false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	bare := mustPlan(t, regexp.MustCompile("(?m)^#.*\n").ReplaceAllString(src, ""), Options{AllStages: true})
	for i, s := range p.Graph.Steps {
		if s.ID() != bare.Graph.Steps[i].ID() {
			t.Errorf("another step: %s", s.Meta.Command)
		}
	}
}

func TestCopyIgnoredFile(t *testing.T) {
	src := "# check=experimental=all\nFROM scratch\nCOPY a.md /\nCOPY b.go /\nCOPY . /\nADD dir/x /\nCOPY --from=alpine a.md /\n"
	for _, c := range []struct{ excludes, want string }{
		{"*.md dir", "3 6"}, {"*", "3 4 5 6"}, {"*.md dir !x", ""}, {"", ""},
	} {
		var got []string
		for _, w := range mustPlan(t, src, Options{Excludes: strings.Fields(c.excludes)}).Warnings {
			if w.Rule == "CopyIgnoredFile" {
				got = append(got, strconv.Itoa(w.Start))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: lines %v, want %s", c.excludes, got, c.want)
		}
	}
}

func TestCheckArgumentWins(t *testing.T) {
	src := "# check=skip=all\nFROM alpine AS Base\nCMD foo"
	with := func(v string) (*Plan, error) {
		return plan(t, src, Options{BuildArgs: map[string]string{checkArg: v}})
	}
	if p := mustPlan(t, src, Options{}); len(p.Warnings) != 0 {
		t.Errorf("the file's own options: %v", p.Warnings)
	}
	if p, err := with("skip=JSONArgsRecommended"); err != nil || len(p.Warnings) != 1 || len(p.UnusedArgs) != 0 {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := with("error=true"); err == nil || !strings.Contains(err.Error(), "JSONArgsRecommended, StageNameCasing") {
		t.Errorf("error=true: %v", err)
	}
	if _, err := with("nonsense"); err == nil {
		t.Error("a bad option is accepted")
	}
}

func TestHostname(t *testing.T) {
	p := mustPlan(t, "FROM alpine\nRUN x", Options{Hostname: "flag", BuildArgs: map[string]string{hostnameArg: "arg"}})
	if got := p.Graph.Steps[1].Op.(*dag.Exec).Hostname; got != "arg" {
		t.Errorf("hostname %q", got)
	}
}

func TestRemoteSources(t *testing.T) {
	for src, want := range map[string]string{
		"https://example.org/a.tar":          "url",
		"http://example.org/a.git.tar":       "url",
		"https://example.org/a.git":          "git",
		"https://example.org/a.git#v1:sub":   "git",
		"https://example.org/a.git?ref=main": "git",
		"https://example.org/x?file=a.git":   "url",
		"https://example.org/x#a.git":        "url",
		"git://example.org/a":                "git",
		"ssh://git@example.org/a":            "git",
		"git@example.org:a/b.git":            "git",
		"me@example.org:a#b":                 "git",
		"github.com/a/b":                     "",
		"./git@example.org:a":                "",
		"dir/me@host:x":                      "",
		"ftp://example.org/x":                "",
		"a:b":                                "",
		"a@b":                                "",
		"https:/example.org/x":               "",
	} {
		got := ""
		switch {
		case isGit(src):
			got = "git"
		case isURL(src):
			got = "url"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", src, got, want)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	src := readGolden(b, "testdata/multistage.txtar").file("Dockerfile")
	for b.Loop() {
		file, err := parser.Parse("Dockerfile", src)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Build(b.Context(), file, &fakeImages{}, Options{BuildPlatform: linuxAmd64}); err != nil {
			b.Fatal(err)
		}
	}
}
