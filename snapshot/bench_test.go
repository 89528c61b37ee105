package snapshot_test

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/archive"
)

// BenchmarkMaterializeFile pulls the one layer that BENCH_LAYER names, a tar that
// may be compressed, for example a distribution's root file system. Besides the
// time it reports the processor's, which says more on a busy machine.
func BenchmarkMaterializeFile(b *testing.B) {
	name := os.Getenv("BENCH_LAYER")
	if name == "" {
		b.Skip("BENCH_LAYER names no layer")
	}
	blob, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	z, _, err := archive.Decompress(bytes.NewReader(blob))
	if err != nil {
		b.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		b.Fatal(err)
	}
	r := (&remote{blob: blob, tar: plain}).lazy()
	b.SetBytes(int64(len(plain)))
	plain = nil
	runtime.GC()
	var user, sys float64
	for b.Loop() {
		b.StopTimer()
		s, err := snapshot.Open(b.TempDir(), snapshot.Options{})
		if err != nil {
			b.Fatal(err)
		}
		l, err := s.AddLazy(nil, r)
		if err != nil {
			b.Fatal(err)
		}
		u0, s0 := cpuTime(b)
		b.StartTimer()
		if err := s.Materialize(b.Context(), snapshot.Stack{l}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		u1, s1 := cpuTime(b)
		user, sys = user+u1-u0, sys+s1-s0
		if err := s.Remove(b.Context(), l.ID); err != nil {
			b.Fatal(err)
		}
		s.Close()
		b.StartTimer()
	}
	b.ReportMetric(user/float64(b.N), "user-s/op")
	b.ReportMetric(sys/float64(b.N), "sys-s/op")
}

func cpuTime(b *testing.B) (user, sys float64) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()) / 1e9, float64(u.Stime.Nano()) / 1e9
}
