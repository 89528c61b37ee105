package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"layered.build/builder/executor/doctor"
	"layered.build/builder/executor/rootless/rootlesstest"
	"layered.build/builder/executor/runc"
	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot/owner"
)

func TestMain(m *testing.M) {
	runc.Init()
	doctor.Probe()
	rootlesstest.Enter()
	testscript.Main(m, map[string]func(){
		"builder":   func() { os.Exit(run()) },
		"du-equals": program(duEquals),
		"damage":    program(damage),
		"churn":     program(churn),
		"fresh":     program(fresh),
		"under":     program(under),
	})
}

// TestScripts runs testdata/script/*.txtar: the program as its users call it,
// with a store, a registry and a busybox of its own. In every script $REGISTRY is
// the registry's host:port, $MARK a number of seconds for processes that sleep, which
// no other script has, $SHORT a folder with a short path, and the folder base has a
// Dockerfile that makes an image of busybox.
func TestScripts(t *testing.T) {
	fixtures.HeedSignals(t)
	fixtures.NeedOverlay(t)
	fixtures.NeedProgram(t, "busybox", "skopeo", "umoci")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	registry := fixtures.StartRegistry(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		// [realroot]: root outside of user namespaces. [limits]: resources can be limited.
		// [single]: a user namespace with one id.
		Condition: func(name string) (bool, error) {
			switch name {
			case "realroot", "limits":
				return fixtures.RealRoot(), nil
			case "single":
				return owner.Emulated(), nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("BUILDER_ROOT", filepath.Join(env.WorkDir, "store"))
			env.Setenv("BUILDER_PROGRESS", "plain")
			env.Setenv("REGISTRY", registry.Host)
			env.Setenv("MARK", fmt.Sprint(1_000_000_000+rand.Int64N(1_000_000_000)))
			env.Setenv("HOME", env.WorkDir)
			short, err := os.MkdirTemp("/tmp", "bt") // see fixtures.ShortDir
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(short) })
			env.Setenv("SHORT", short)
			// Without it skopeo, as root of a user namespace, looks where root's logins are.
			runtime := filepath.Join(env.WorkDir, ".run")
			if err := os.Mkdir(runtime, 0o700); err != nil {
				return err
			}
			env.Setenv("XDG_RUNTIME_DIR", runtime)
			// skopeo's folder of signatures, which root's may not be writable.
			registries := filepath.Join(env.WorkDir, ".config", "containers", "registries.d")
			if err := os.MkdirAll(registries, 0o755); err != nil {
				return err
			}
			lookaside := "default-docker: {lookaside: file://" + env.WorkDir + "/sigstore}\n"
			if err := os.WriteFile(filepath.Join(registries, "default.yaml"), []byte(lookaside), 0o644); err != nil {
				return err
			}
			base := filepath.Join(env.WorkDir, "base")
			if err := os.MkdirAll(base, 0o755); err != nil {
				return err
			}
			data, err := os.ReadFile(busybox)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(base, "busybox"), data, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(base, "Dockerfile"), []byte(baseDockerfile), 0o644)
		},
	})
}

const baseDockerfile = `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin && /bin/busybox mkdir -p /tmp /etc"]
CMD ["sh"]
`

// TestScriptsOfAnyone runs testdata/anyone/*.txtar, which need neither root nor
// other programs.
func TestScriptsOfAnyone(t *testing.T) {
	fixtures.HeedSignals(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/anyone",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BUILDER_ROOT", filepath.Join(env.WorkDir, "store"))
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}
