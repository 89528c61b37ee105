package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/executor"
	"layered.build/builder/fixtures"
)

// TestFilesThatChange changes a file of the context after it was hashed, when a step is
// about to copy it. The build goes on: what was appended is left out, and of what was
// replaced all begins anew, shown as one build. No later build finds a wrong record.
func TestFilesThatChange(t *testing.T) {
	const dockerfile = "FROM scratch\nCOPY other /a\nCOPY file /b\nCOPY file /c\n"
	for _, tc := range []struct {
		name, now string
		change    func(path string, n int) error
		anew      bool
		fails     string
	}{
		{"appended", "the file of me", func(p string, n int) error { return appendTo(p, " and more") }, false, ""},
		{"replaced", "new 1", func(p string, n int) error { return os.WriteFile(p, fmt.Append(nil, "new ", n), 0o644) }, true, ""},
		{"touched", "the file of me", func(p string, n int) error { return os.Chmod(p, 0o600) }, false, ""},
		{"removed", "", func(p string, n int) error { return os.Remove(p) }, true, `"/file": not found`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, c := newHost(t), newClient(t, "me")
			fixtures.WriteFiles(t, c.dir, "other", "stays")
			file := filepath.Join(c.dir, "file")
			n := 0
			var warnings []string
			c.hook = func(ev executor.Event) {
				if ev.Type == executor.EventStarted && ev.Step != nil && strings.Contains(ev.Step.Meta.Name, "COPY file /b") {
					n++
					if err := tc.change(file, n); err != nil && !os.IsNotExist(err) {
						t.Error(err)
					}
				}
				if ev.Type == executor.EventWarning {
					warnings = append(warnings, string(ev.Data))
				}
			}
			err := c.build(t.Context(), h, "", dockerfile)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"b", "c"} {
				if got := c.content(t, name); got != tc.now {
					t.Errorf("/%s holds %q, want %q", name, got, tc.now)
				}
			}
			if (n > 1) != tc.anew || (len(warnings) > 0) != tc.anew {
				t.Errorf("%d attempts, warnings %q", n, warnings)
			}
			last := map[string]int{}
			for _, ev := range c.events {
				typ, name, _ := strings.Cut(ev, " ")
				if typ != "started" && typ != "log" && typ != "warning" {
					last[name]++
				}
				if typ == "failed" || typ == "canceled" {
					t.Errorf("shown: %s", ev)
				}
			}
			for name, n := range last {
				if n != 1 {
					t.Errorf("%s ended %d times", name, n)
				}
			}
			// What is found later is what the file holds then.
			c.hook = nil
			for _, want := range []string{"the file of me", tc.now, "another"} {
				fixtures.WriteFiles(t, c.dir, "file", want)
				if err := c.build(t.Context(), h, "", dockerfile); err != nil {
					t.Fatal(err)
				}
				if got := c.content(t, "b") + c.content(t, "c"); got != want+want {
					t.Errorf("with %q the image has %q", want, got)
				}
			}
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Close()
}
