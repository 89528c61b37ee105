package rootless

import (
	"errors"
	"os"
	"testing"
)

// A rung that fails when it is tried is passed over, or refused if it was asked for.
func TestTrial(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose own rung is tried")
	}
	here := Current()
	var tried []Isolation
	fails := func(w Way) error {
		tried = append(tried, w.Isolation)
		return errors.New("set host name: operation not permitted")
	}
	way, err := Choose(Auto, fails)
	if Entered() {
		if err != nil || way.Isolation != here || tried != nil {
			t.Errorf("in a user namespace that was entered: %+v, %v, tried %v", way, err, tried)
		}
		return
	}
	if err != nil || way.Isolation != Chroot || way.Lacks == nil || way.Lacks.Rung != here || len(tried) != 1 {
		t.Errorf("any rung: %+v, %v, tried %v", way, err, tried)
	}
	var lack *Lack
	if _, err := Choose(here, fails); !errors.As(err, &lack) || lack.Reason != "set host name: operation not permitted" || lack.Remedy == "" {
		t.Errorf("%s: %v", here, err)
	}
	if way, err := Choose(Auto, func(Way) error { return nil }); err != nil || way.Isolation != here {
		t.Errorf("what works: %+v, %v", way, err)
	}
}

func TestProcCovered(t *testing.T) {
	const plain = "24 30 0:22 / /proc rw,nosuid - proc proc rw\n31 24 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n32 30 8:1 / /procedures rw - ext4 /dev/vda rw\n"
	for text, want := range map[string]bool{
		plain: false,
		plain + "33 24 0:5 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw\n": true,
		plain + "34 24 0:22 /sys /proc/sys ro - proc proc rw\n":            true,
	} {
		if got := procCovered(text); got != want {
			t.Errorf("%v for\n%s", got, text)
		}
	}
}

func TestProfileForbids(t *testing.T) {
	for _, c := range []struct {
		current          string
		restricted, want bool
	}{
		{"", false, false},
		{"unconfined\n", false, false},
		{"unconfined\n", true, true},
		{"builder (unconfined)\n", true, false},
		{"containers-default-0.62.2 (enforce)\x00", false, true},
		{"builder (complain)", false, false},
		{"", true, true},
	} {
		if got := profileForbids(c.current, c.restricted); got != c.want {
			t.Errorf("%q, restricted %v: %v", c.current, c.restricted, got)
		}
	}
}
