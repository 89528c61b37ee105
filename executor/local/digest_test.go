package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/executor/source"
	"layered.build/builder/planner/dag"
)

// BenchmarkContextKey50k is what a cached COPY of 50,000 files costs.
func BenchmarkContextKey50k(b *testing.B) {
	dir, state := b.TempDir(), b.TempDir()
	body := strings.Repeat("x", 4000)
	for d := range 500 {
		sub := filepath.Join(dir, fmt.Sprintf("pkg%03d/src", d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range 100 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%03d.js", f)), []byte(body), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	time.Sleep(50 * time.Millisecond) // longer than a clock tick: see source.Tree
	copyAll := step("copy", &dag.File{Base: true, Actions: []dag.Action{{Copy: cp("/app/", ".")}}}, nil, contextStep())
	w := New(Machine{}, Build{}, dag.Grants{})
	for b.Loop() {
		tree, err := source.Open(dir, nil, state)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := w.InputDigest(b.Context(), copyAll, 1, executor.Result{Tree: tree}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(tree.Hashed()), "hashed")
		tree.Close()
	}
}
