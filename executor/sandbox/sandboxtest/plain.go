package sandboxtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// layOut copies Lower to Upper.
func (e *Env) layOut() {
	e.laid = true
	if out, err := exec.Command("cp", "-a", e.Lower+"/.", e.Upper).CombinedOutput(); err != nil {
		panic("copy root file system: " + string(out))
	}
}

// differences lists what differs in Upper from Lower, with the directories that lead
// there.
func (e *Env) differences(t *testing.T) []string {
	t.Helper()
	var out []string
	listed := map[string]bool{}
	add := func(rel string) {
		var chain []string
		for ; rel != "." && !listed[rel]; rel = filepath.Dir(rel) {
			listed[rel] = true
			chain = append([]string{rel}, chain...)
		}
		out = append(out, chain...)
	}
	err := filepath.WalkDir(e.Upper, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == e.Upper {
			return err
		}
		rel := strings.TrimPrefix(path, e.Upper+"/")
		now, err := d.Info()
		if err != nil {
			return err
		}
		was, err := os.Lstat(filepath.Join(e.Lower, rel))
		if err != nil || was.Mode() != now.Mode() || !was.IsDir() && (was.Size() != now.Size() || !was.ModTime().Equal(now.ModTime())) {
			add(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(e.Lower, func(path string, _ fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(path, e.Lower+"/")
		if _, serr := os.Lstat(filepath.Join(e.Upper, rel)); path != e.Lower && serr != nil {
			add(rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
