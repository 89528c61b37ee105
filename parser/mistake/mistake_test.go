package mistake_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"layered.build/builder/parser/mistake"
)

func TestError(t *testing.T) {
	err := fmt.Errorf("outer: %w", mistake.New("open %s: %w", "f", fs.ErrNotExist).WithHint("make %s", "f"))
	var m *mistake.Error
	if !errors.As(err, &m) || m.Hint != "make f" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %#v", m)
	}
	if got, want := err.Error(), "outer: open f: file does not exist"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := mistake.New("m").WithCause(fs.ErrInvalid); !errors.Is(err, fs.ErrInvalid) || err.Error() != "m" {
		t.Errorf("got %v", err)
	}
	if got := mistake.Unsupported("--x", "use --y").Hint; got != "use --y" {
		t.Errorf("got %q", got)
	}
	if err := (&mistake.Advised{Err: fs.ErrClosed, Hint: "h"}); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
