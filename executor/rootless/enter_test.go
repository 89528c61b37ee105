package rootless

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets this program be executed anew, to enter a user namespace: then it
// prints where it is instead of testing.
func TestMain(m *testing.M) {
	if err := Init(); err != nil {
		os.Stdout.WriteString("failed: " + err.Error() + "\n")
		os.Exit(0)
	}
	if want := os.Getenv("ROOTLESS_TEST_ENTER"); want != "" {
		way, err := Choose(Isolation(want), nil)
		if err == nil {
			err = way.Enter(true)
		}
		if err != nil {
			os.Stdout.WriteString("refused: " + err.Error() + "\n")
			os.Exit(0)
		}
		ids, _ := os.ReadFile("/proc/self/uid_map")
		left := ""
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "_BUILDER") {
				left += v
			}
		}
		os.Stdout.WriteString(strings.Join(append([]string{string(Current()), left}, strings.Fields(string(ids))...), " ") + "\n")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// enterAs runs this program as another user and returns what it says.
func enterAs(t *testing.T, uid uint32, want Isolation) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"ROOTLESS_TEST_ENTER=" + string(want), "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func TestEnterSingle(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	if lack := namespaceLack(Single); lack != nil {
		t.Skip(lack)
	}
	const nobody = 65534
	if got, want := enterAs(t, nobody, Single), "single  0 65534 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRefusals(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	const nobody = 4242 // has no ranges
	for want, part := range map[Isolation]string{
		Subuid: "/etc/subuid has no range for 4242",
		Root:   "the user is not root",
	} {
		if got := enterAs(t, nobody, want); !strings.Contains(got, part) {
			t.Errorf("%s: got %q, want something about %q", want, got, part)
		}
	}
	if got := enterAs(t, nobody, Auto); !strings.HasPrefix(got, "single ") {
		t.Errorf("auto: got %q", got)
	}
}
