package snapshot_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/snapshottest"
)

// BenchmarkCommitSmall is the store's part of a RUN that makes one file on top of
// 30 layers.
func BenchmarkCommitSmall(b *testing.B) {
	s := openStore(b)
	var stack snapshot.Stack
	for i := range 30 {
		l, err := s.WriteLayer(b.Context(), stack, []snapshot.Change{dir("d"), file(fmt.Sprintf("d/f%d", i), "data")}, snapshot.WriteOptions{Dir: true})
		if err != nil {
			b.Fatal(err)
		}
		stack = append(stack, l)
	}
	n := 0
	for b.Loop() {
		a, err := s.Prepare(b.Context(), stack)
		if err != nil {
			b.Fatal(err)
		}
		if err := os.Mkdir(a.Upper()+"/d", 0o755); err != nil {
			b.Fatal(err)
		}
		n++
		if err := os.WriteFile(a.Upper()+"/d/new", []byte(fmt.Sprint(n)), 0o644); err != nil {
			b.Fatal(err)
		}
		if _, err := a.Commit(b.Context(), snapshot.CommitOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit hashes 10,000 files of 4 KB and one of 256 MB.
func BenchmarkCommit(b *testing.B) {
	small, large := bytes.Repeat([]byte("some text "), 400), benchData(64<<20)
	b.SetBytes(10000*int64(len(small)) + 4*int64(len(large)))
	for b.Loop() {
		b.StopTimer()
		s := openStore(b)
		a, err := s.Prepare(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		for i := range 10000 {
			dir := filepath.Join(a.Upper(), fmt.Sprint("d", i/100))
			if i%100 == 0 {
				os.Mkdir(dir, 0o755)
			}
			os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), small, 0o644)
		}
		os.WriteFile(a.Upper()+"/large", bytes.Repeat(large, 4), 0o644)
		b.StartTimer()
		if _, err := a.Commit(b.Context(), snapshot.CommitOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAttach mounts and unmounts an overlay of 30 layers.
func BenchmarkAttach(b *testing.B) {
	snapshottest.NeedMount(b)
	s := openStore(b)
	var stack snapshot.Stack
	for i := range 30 {
		l, err := s.WriteLayer(b.Context(), stack, []snapshot.Change{file(fmt.Sprint(i), "x")}, snapshot.WriteOptions{Dir: true})
		if err != nil {
			b.Fatal(err)
		}
		stack = append(stack, l)
	}
	m, err := s.View(b.Context(), stack)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		snapshottest.InMount(b, m, func(string) {})
	}
}
