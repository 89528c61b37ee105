package local

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

const leaked = "s3cr3t/Tok+en~v4lue"

// A step that leaves its secret in a place fails, says which, and leaves neither a
// layer nor a record.
func TestLeaks(t *testing.T) {
	file := func(name, content string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644) }
	}
	for name, c := range map[string]struct {
		write func(dir string) error
		want  string
	}{
		"file":   {file("f", "x"+leaked), "secret key was written to /f (offset 1)"},
		"chunks": {file("f", strings.Repeat("-", 256<<10-9)+leaked+strings.Repeat("-", 1<<20)), "secret key was written to /f (offset 262135)"},
		"end":    {file("f", strings.Repeat("-", 1<<20)+base64.StdEncoding.EncodeToString([]byte(leaked))), "secret key was written to /f (offset 1048576, in base64)"},
		"empty file": {
			file("a-"+base64.RawURLEncoding.EncodeToString([]byte(leaked)), ""),
			"secret key was written to the name of a file in / (offset 2, in base64)",
		},
		"folder": {
			func(dir string) error { return os.MkdirAll(filepath.Join(dir, "d", leaked, "sub"), 0o755) },
			"secret key was written to the name of a file in /d/s3cr3t (offset 2)",
		},
		"link": {
			func(dir string) error { return os.Symlink(leaked, filepath.Join(dir, "l")) },
			"secret key was written to the target of the link /l (offset 0)",
		},
		"attribute": {func(dir string) error {
			return errors.Join(file("f", "")(dir), unix.Setxattr(filepath.Join(dir, "f"), "user.note", []byte("key "+leaked), 0))
		}, "secret key was written to an attribute of /f (offset 4)"},
		"hard link": {func(dir string) error {
			return errors.Join(file("a", leaked)(dir), os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
		}, "secret key was written to /a (offset 0)"},
		"nothing": {file("f", leaked[:len(leaked)-1]), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.worker.build.Secrets = secrets{"key": leaked}
			runs := 0
			s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
				"leak": func(_ context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
					runs++
					return sandbox.Exit{}, c.write(spec.Root.Upper)
				},
			}
			st := runStep("leak", scratchStep(), dag.Mount{Type: dag.MountSecret, Input: -1, ID: "key", Dest: "/key"})
			for range 2 {
				_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: st}})
				if c.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				var leak *executor.LeakError
				if !errors.As(err, &leak) || err.Error() != c.want {
					t.Fatalf("got %v, want %s", err, c.want)
				}
			}
			if runs != 2 {
				t.Errorf("%d runs", runs)
			}
			nowhere(t, s.root)
		})
	}
}

// What does not look like a secret is told of, and does not hide what does: in the same
// file. Logs hide both.
func TestLeaksThatAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		scan     dag.SecretScan
		text     string
		fails    string
		warnings []string
		passing  bool
	}{
		"region":       {"", "in us-east-1", "", []string{"secret region was written to /f (offset 3): it does not look like a secret"}, false},
		"both":         {"", "us-east-1 " + leaked, "secret key was written to /f (offset 10)", nil, false},
		"error":        {dag.SecretScanError, "in us-east-1", "secret region was written to the log (offset 0)", nil, false},
		"warn":         {dag.SecretScanWarn, leaked, "", []string{"secret key was written to /f (offset 0): it is allowed, but not cached"}, true},
		"off":          {dag.SecretScanOff, leaked + " us-east-1", "", nil, true},
		"off, no leak": {dag.SecretScanOff, "us-east-1", "", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.worker.build.Secrets = secrets{"key": leaked, "region": "us-east-1"}
			s.worker.build.SecretScan = c.scan
			var warnings []string
			tell := s.options.Observer
			s.options.Observer = func(ev executor.Event) {
				if ev.Type == executor.EventWarning {
					warnings = append(warnings, string(ev.Data))
				}
				tell(ev)
			}
			runs := 0
			s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
				"leak": func(_ context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
					runs++
					fmt.Fprintln(spec.Stdout, "us-east-1")
					return sandbox.Exit{}, os.WriteFile(filepath.Join(spec.Root.Upper, "f"), []byte(c.text), 0o644)
				},
			}
			st := runStep("leak", scratchStep(),
				dag.Mount{Type: dag.MountSecret, Input: -1, ID: "key", Dest: "/key"}, dag.Mount{Type: dag.MountSecret, Input: -1, ID: "region", Dest: "/region"})
			for i := range 2 {
				_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: st}})
				if i == 0 && !slices.Equal(warnings, c.warnings) {
					t.Errorf("warnings %q, want %q", warnings, c.warnings)
				}
				if c.fails == "" && err != nil || c.fails != "" && (err == nil || err.Error() != c.fails) {
					t.Fatalf("got %v, want %q", err, c.fails)
				}
			}
			if again := c.fails != "" || c.passing; (runs == 2) != again || !strings.Contains(s.log["leak"], "****") {
				t.Errorf("%d runs, log %q", runs, s.log["leak"])
			}
		})
	}
}

// nowhere looks for the secret in all files below a folder and in their names.
func nowhere(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		b := []byte(p)
		if d.Type().IsRegular() {
			if b, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		for _, form := range []string{leaked, base64.StdEncoding.EncodeToString([]byte(leaked))} {
			if strings.Contains(string(b)+p, form) {
				t.Errorf("the secret is in %s", p)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The log on the disk and the observer's get the secret hidden, however it was
// written, and the step fails.
func TestLeakInLog(t *testing.T) {
	s := newSite(t)
	s.worker.build.Secrets = secrets{"key": leaked}
	code := 0
	s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
		"leak": func(_ context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
			for i, w := range []string{"a ", leaked[:5], leaked[5:], " b\n", base64.StdEncoding.EncodeToString([]byte(leaked)) + "\n", leaked[:4]} {
				out := spec.Stdout
				if i == 4 {
					out = spec.Stderr
				}
				fmt.Fprint(out, w)
			}
			return sandbox.Exit{Code: code}, nil
		},
	}
	op := &dag.Exec{Args: []string{"leak"}, Cwd: "/", Mounts: []dag.Mount{{Type: dag.MountBind, Dest: "/"}}, SecretEnv: []dag.SecretEnv{{ID: "key", Name: "KEY"}}}
	for _, want := range []string{"secret key was written to the log (offset 2)", `process "leak" did not complete successfully: exit code: 1`} {
		st := step("leak", op, scratchStep())
		_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: st}})
		var se *executor.StepError
		if !errors.As(err, &se) || err.Error() != want {
			t.Fatalf("got %v, want %s", err, want)
		}
		for _, text := range []string{s.log["leak"], string(se.LogTail)} {
			lines := strings.Split(text, "\n")
			slices.Sort(lines)
			if got := strings.Join(lines, "|"); !strings.Contains(text, "a **** b\n") || strings.Contains(got, "v4lue") || !strings.Contains(got, leaked[:4]) {
				t.Errorf("log %q", text)
			}
		}
		s.log["leak"], code = "", 1
	}
	nowhere(t, s.root)
}

// What was fetched with a secret is searched for it.
func TestLeakInFetched(t *testing.T) {
	s := newSite(t)
	ledger := executor.NewLedger(secrets{"GIT_AUTH_TOKEN": leaked, "other": "another-secret"})
	s.worker.build.Sent = ledger.Used
	s.write(t, "config", "url = https://x:"+leaked+"@git.example/\n")
	s.write(t, "other", "another-secret")
	if _, err := ledger.Secret(t.Context(), "GIT_AUTH_TOKEN"); err != nil {
		t.Fatal(err)
	}
	tree, err := s.worker.build.Contexts.Tree(t.Context(), &dag.LocalSource{Name: "context"})
	if err != nil {
		t.Fatal(err)
	}
	fetched := executor.Result{Remote: &executor.Remote{Files: func(context.Context) (snapshot.Tree, error) { return tree, nil }}}
	for source, want := range map[string]string{"config": "secret GIT_AUTH_TOKEN was written to /config (offset 16)", "other": ""} {
		op := &dag.File{Actions: []dag.Action{{Copy: &dag.Copy{Sources: []string{source}, Dest: "/" + source}}}}
		_, err := s.worker.Run(t.Context(), &executor.Job{Step: step("add", op), Inputs: []executor.Result{fetched}})
		if got := fmt.Sprint(err); err == nil && want != "" || err != nil && got != want {
			t.Errorf("%s: got %v, want %q", source, err, want)
		}
	}
}
