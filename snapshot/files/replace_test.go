package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// describe returns a file's content, mode and owner.
func describe(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return fmt.Sprintf("%s %o %d", data, st.Mode&0o777, st.Uid)
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "file")
	me := os.Geteuid()
	for i, step := range []struct {
		r    Replacement
		want string
	}{
		{Replacement{}, "600"},
		{Replacement{Mode: 0o644, Sync: true}, "644"},
		{Replacement{Mode: 0o400}, "400"},
		{Replacement{}, "600"},
	} {
		must(t, Replace(p, fmt.Append(nil, i), step.r))
		if got, want := describe(t, p), fmt.Sprintf("%d %s %d", i, step.want, me); got != want {
			t.Errorf("step %d: the file is %q, not %q", i, got, want)
		}
	}
	failed := errors.New("failed")
	err := ReplaceBy(p, Replacement{}, func(w io.Writer) error {
		io.WriteString(w, "half")
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("a failed write: %v", err)
	}
	if got, want := describe(t, p), fmt.Sprintf("3 600 %d", me); got != want {
		t.Errorf("a failed write left %q, not %q", got, want)
	}
	if err := Replace(filepath.Join(dir, "file", "x"), nil, Replacement{}); err == nil {
		t.Error("a file was made below a file")
	}
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	if err := Replace(filepath.Join(dir, "sub"), nil, Replacement{}); err == nil {
		t.Error("a folder was replaced")
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Errorf("temporary files are left: %v, %v", all, err)
	}
}

func TestPending(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	f, err := NewPending(Replacement{Temp: temp, Mode: 0o444})
	must(t, err)
	_, err = f.WriteString("x")
	must(t, err)
	if all, _ := os.ReadDir(dir); len(all) != 0 {
		t.Error("it is there already")
	}
	must(t, f.Commit(filepath.Join(dir, "file")))
	must(t, f.Discard())
	if got, want := describe(t, filepath.Join(dir, "file")), fmt.Sprintf("x 444 %d", os.Geteuid()); got != want {
		t.Errorf("the file is %q, not %q", got, want)
	}
	if f, err = NewPending(Replacement{Temp: temp}); err == nil {
		err = f.Discard()
	}
	must(t, err)
	if err := f.Commit(filepath.Join(dir, "none")); err == nil {
		t.Error("a discarded file was committed")
	}
	if all, _ := os.ReadDir(temp); len(all) != 0 {
		t.Error("temporary files are left")
	}
}
