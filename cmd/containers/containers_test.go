package containers_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"layered.build/builder/cmd/containers"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc"
	"layered.build/builder/fixtures"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

func TestMain(m *testing.M) {
	runc.Init()
	goleak.VerifyTestMain(m)
}

// newEngine opens a store of its own, with an image of busybox named "base".
func newEngine(t *testing.T) *engine.Engine {
	t.Helper()
	fixtures.NeedOverlay(t)
	fixtures.NeedRealRoot(t, "it runs containers")
	fixtures.NeedProgram(t, "busybox")
	h, err := engine.NewHost(engine.Options{Root: filepath.Join(t.TempDir(), "store"), Rung: engine.Rung{Isolation: rootless.Root}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Open(t.Context(), engine.Access{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	config := registry.ImageConfig{}
	config.Platform = binfmt.Local()
	config, err = containers.ChangeConfig(t.Context(), config, []string{`ENTRYPOINT ["/bin/busybox", "sh", "-c"]`, "ENV A=1", "USER 7"})
	if err != nil {
		t.Fatal(err)
	}
	img, err := containers.Import(t.Context(), e, busyboxTar(t), config, "imported by a test")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Images.Put(t.Context(), img, "base"); err != nil {
		t.Fatal(err)
	}
	return e
}

func busyboxTar(t *testing.T) *bytes.Buffer {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := tw.Write(program); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func request(t *testing.T, e *engine.Engine, name string, cmd ...string) containers.Request {
	t.Helper()
	img, err := containers.FindImage(e, "base", nil)
	if err != nil {
		t.Fatal(err)
	}
	req := containers.Request{Name: name, Ref: "base", Image: img, Config: img.Config}
	req.Config.Config.Cmd = cmd
	return req
}

// TestLife starts a process on an image, keeps what it changed, and makes an image of it.
func TestLife(t *testing.T) {
	e := newEngine(t)
	c, err := containers.Create(t.Context(), e, request(t, e, "r", "echo $A $(/bin/busybox id -u); echo changed > /tmp/f; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	exit, err := c.Start(t.Context(), containers.Streams{Out: &out, Err: &errs})
	if err != nil || exit.Code != 3 || out.String() != "1 7\n" {
		t.Errorf("exit %d, %v, output %q %q", exit.Code, err, out.String(), errs.String())
	}
	if err := errors.Join(c.Keep(t.Context(), exit), c.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := e.Runs().Find("r")
	if err != nil || r.Running() || r.Record.ExitCode != 3 {
		t.Fatalf("the record is %+v, %v", r, err)
	}
	img, err := containers.Commit(t.Context(), e, r.Record, containers.CommitOptions{Message: "m", Changes: []string{"ENV B=2"}, Names: []string{"made"}})
	if err != nil {
		t.Fatal(err)
	}
	if env := strings.Join(img.Config.Config.Env, " "); !strings.Contains(env, "A=1") || !strings.Contains(env, "B=2") {
		t.Errorf("the image has %s", env)
	}
	for _, name := range []string{"r", "made"} {
		stack, err := containers.FileSystem(e, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		files, err := e.Store.Tree(t.Context(), stack)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := files.Lstat("tmp/f"); err != nil || f.UID != 7 || f.Size != 8 {
			t.Errorf("%s: /tmp/f is %+v, %v", name, f, err)
		}
	}
}

// TestNothingStays proves that a process that is not kept, that takes too long or that
// cannot begin leaves neither a record nor files.
func TestNothingStays(t *testing.T) {
	e := newEngine(t)
	short := request(t, e, "", "while :; do :; done")
	short.Spec.Limits.Timeout = 50 * time.Millisecond
	c, err := containers.Create(t.Context(), e, short)
	if err != nil {
		t.Fatal(err)
	}
	var late *executor.TimeoutError
	if _, err := c.Start(t.Context(), containers.Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}); !errors.As(err, &late) {
		t.Errorf("a process that does not end: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	list, err := e.Runs().List()
	if err != nil || len(list) != 0 {
		t.Errorf("records are left: %v, %v", list, err)
	}
	if left, err := os.ReadDir(filepath.Join(e.Root(), "active")); err != nil || len(left) != 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

func TestRefusals(t *testing.T) {
	e := newEngine(t)
	var m *mistake.Error
	empty := request(t, e, "")
	empty.Config.Config.Entrypoint = nil
	if _, err := containers.Create(t.Context(), e, empty); !errors.As(err, &m) {
		t.Errorf("no command: %v", err)
	}
	ghost := request(t, e, "", "true")
	ghost.Config.Config.User = "ghost"
	if _, err := containers.Create(t.Context(), e, ghost); !errors.As(err, &m) {
		t.Errorf("an unknown user: %v", err)
	}
	if list, err := e.Runs().List(); err != nil || len(list) != 0 {
		t.Errorf("records are left: %v, %v", list, err)
	}
	for _, change := range []string{"RUN true", "COPY a b", "FROM x"} {
		if _, err := containers.ChangeConfig(t.Context(), registry.ImageConfig{}, []string{change}); !errors.As(err, &m) {
			t.Errorf("--change %s: %v", change, err)
		}
	}
}
