package engine_test

import (
	"errors"
	"path/filepath"
	"testing"

	"layered.build/builder/cmd/engine"
)

// TestMountsOfAnySize refuses contents of cache mounts that say they are larger than the disk.
func TestMountsOfAnySize(t *testing.T) {
	h, err := engine.NewHost(engine.Options{Root: filepath.Join(t.TempDir(), "store"), Warn: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Open(t.Context(), engine.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	grow := e.Carrying().Grow
	for _, size := range [][2]int64{{1 << 60, 0}, {1, 1 << 60}} {
		if _, err := grow(t.Context(), size[0], size[1]); !errors.Is(err, engine.ErrNoRoom) {
			t.Errorf("got %v", err)
		}
	}
	done, err := grow(t.Context(), 1<<20, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	done(nil)
}
