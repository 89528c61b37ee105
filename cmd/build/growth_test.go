package build_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/executor/source"
	"layered.build/builder/fixtures"
	"layered.build/builder/planner"
	"layered.build/builder/registry/export"
)

// long are Dockerfiles that are as long as n says.
var long = map[string]func(n int) string{
	"stages": func(n int) string {
		return chain(n, func(i int) string { return fmt.Sprintf("COPY file /f%d\n", i) })
	},
	"stages of ENV": func(n int) string {
		return chain(n, func(i int) string { return fmt.Sprintf("ENV A%d=%d\n", i, i) })
	},
	"copies between stages": func(n int) string {
		var b strings.Builder
		b.WriteString("FROM scratch AS s0\nCOPY file /f0\n")
		for i := 1; i < n; i++ {
			fmt.Fprintf(&b, "FROM scratch AS s%[1]d\nCOPY --from=s%[2]d /f%[2]d /f%[1]d\n", i, i-1)
		}
		return b.String()
	},
	"COPY":   func(n int) string { return repeated(n, "COPY file /f%d\n") },
	"LABEL":  func(n int) string { return repeated(n, "LABEL l%[1]d=%[1]d\n") },
	"EXPOSE": func(n int) string { return repeated(n, "EXPOSE %d\n") },
	"ENV":    func(n int) string { return repeated(n, "ENV E%[1]d=%[1]d\n") },
	"ARG":    func(n int) string { return repeated(n, "ARG E%[1]d=%[1]d\n") },
}

func chain(n int, body func(int) string) string {
	var b strings.Builder
	b.WriteString("FROM scratch AS s0\n" + body(0))
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "FROM s%d AS s%d\n%s", i-1, i, body(i))
	}
	return b.String()
}

func repeated(n int, line string) string {
	var b strings.Builder
	b.WriteString("FROM scratch\n")
	for i := range n {
		fmt.Fprintf(&b, line, i+1)
	}
	return b.String()
}

// cached builds a Dockerfile without anything but a context with a file.
func cached(ctx context.Context, h *engine.Host, dir, dockerfile string) (err error) {
	e, err := h.Open(ctx, engine.Access{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(ctx)) }()
	contexts := &source.Contexts{Dirs: map[string]string{"context": dir}}
	defer func() { err = errors.Join(err, contexts.Close()) }()
	_, err = build.New(e, build.Request{
		Plan: planner.Options{BuildPlatform: binfmt.Local(), CanRun: binfmt.Machine{Own: binfmt.Local()}.CanRun}, Exporters: []export.Exporter{export.ToStore()},
	}, build.Inputs{
		Definition: func(context.Context, executor.Observer) (*build.Definition, error) {
			return &build.Definition{Name: "Dockerfile", Source: []byte(dockerfile)}, nil
		},
		Contexts: contexts,
	}, func(executor.Event) {}).Run(ctx, nil)
	return err
}

// TestGrowth compares what builds of which everything is cached allocate above a build of
// almost nothing: four times the length may need five or six times as much, somewhat more
// where each of many stages has many variables, and never the square.
func TestGrowth(t *testing.T) {
	fixtures.NeedOverlay(t)
	allocated := func(t *testing.T, dockerfile string) int64 {
		h, err := engine.NewHost(engine.Options{Root: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		fixtures.WriteFiles(t, dir, "file", "content")
		var before, after runtime.MemStats
		for range 2 {
			runtime.ReadMemStats(&before)
			if err := cached(t.Context(), h, dir, dockerfile); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
		}
		return int64(after.TotalAlloc - before.TotalAlloc)
	}
	for name, times := range map[string]int64{
		"LABEL": 5, "EXPOSE": 5, "ENV": 5, "ARG": 5, "copies between stages": 5, "COPY": 6, "stages": 6,
		"stages of ENV": 9,
	} {
		t.Run(name, func(t *testing.T) {
			least := allocated(t, long[name](1))
			a, b := allocated(t, long[name](60))-least, allocated(t, long[name](240))-least
			t.Logf("%d B for 60, %d B for 240: %.1f times", a, b, float64(b)/float64(a))
			if b > times*a {
				t.Errorf("4 times the length needs %.1f times the memory", float64(b)/float64(a))
			}
		})
	}
}

// BenchmarkCached builds long Dockerfiles of which everything is cached. It grows with
// their length, not faster.
func BenchmarkCached(b *testing.B) {
	fixtures.NeedOverlay(b)
	for name, make := range long {
		for _, n := range []int{100, 300, 1000} {
			if name == "stages" && n > 300 {
				continue // so many layers cannot be stacked
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				h, err := engine.NewHost(engine.Options{Root: b.TempDir()})
				if err != nil {
					b.Fatal(err)
				}
				dir := b.TempDir()
				fixtures.WriteFiles(b, dir, "file", "content")
				if err := cached(b.Context(), h, dir, make(n)); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err := cached(b.Context(), h, dir, make(n)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
