package fakeid

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func ids(r, e, s, fs uint32) IDs { return IDs{Real: r, Effective: e, Saved: s, FS: fs} }

func TestUserIDs(t *testing.T) {
	root, user, suid := All(0), All(1000), ids(1000, 0, 0, 0)
	dropped := ids(1000, 1000, 0, 1000) // seteuid(1000) of a set-user-ID program
	for _, c := range []struct {
		name string
		from IDs
		call func(Creds) (Creds, error)
		want IDs
		err  error
	}{
		{"setuid by root", root, setuid(42), All(42), nil},
		{"setuid(0) by root", root, setuid(0), root, nil},
		{"setuid(-1)", root, setuid(Keep), root, unix.EINVAL},
		{"setuid by a user", user, setuid(0), user, unix.EPERM},
		{"setuid to oneself", user, setuid(1000), user, nil},
		{"setuid of a set-user-ID program", suid, setuid(1000), user, nil},
		{"setuid back to the saved id", dropped, setuid(0), suid, nil},
		{"setuid(real) keeps the saved id of a user", ids(1000, 7, 7, 7), setuid(1000), ids(1000, 1000, 7, 1000), nil},

		{"seteuid", suid, setresuid(Keep, 1000, Keep), dropped, nil},
		{"seteuid back", dropped, setresuid(Keep, 0, Keep), suid, nil},
		{"setresuid for good", root, setresuid(7, 8, 9), ids(7, 8, 9, 8), nil},
		{"setresuid among one's own", ids(7, 8, 9, 8), setresuid(9, 7, 8), ids(9, 7, 8, 7), nil},
		{"setresuid to others", ids(7, 8, 9, 8), setresuid(Keep, Keep, 1), ids(7, 8, 9, 8), unix.EPERM},
		{"setresuid to the id for files only", ids(7, 8, 9, 5), setresuid(5, Keep, Keep), ids(7, 8, 9, 5), unix.EPERM},
		{"setresuid of nothing", ids(7, 8, 9, 7), setresuid(Keep, Keep, Keep), ids(7, 8, 9, 7), nil},

		{"setreuid by root", root, setreuid(5, 6), ids(5, 6, 6, 6), nil},
		{"setreuid swaps", ids(1000, 0, 0, 0), setreuid(0, 1000), ids(0, 1000, 1000, 1000), nil},
		{"setreuid of the effective id to the real one", dropped, setreuid(Keep, 1000), dropped, nil},
		{"setreuid of the effective id to another", ids(1000, 1000, 7, 1000), setreuid(Keep, 7), ids(1000, 7, 7, 7), nil},
		{"setreuid of the real id", ids(1000, 1000, 7, 1000), setreuid(1000, Keep), user, nil},
		{"setreuid of the real id to the saved one", ids(1000, 1000, 7, 1000), setreuid(7, Keep), ids(1000, 1000, 7, 1000), unix.EPERM},
		{"setreuid to others", user, setreuid(Keep, 0), user, unix.EPERM},

		{"setfsuid by root", root, setfsuid(1000, 0), ids(0, 0, 0, 1000), nil},
		{"setfsuid back", ids(0, 0, 0, 1000), setfsuid(0, 1000), root, nil},
		{"setfsuid to others", user, setfsuid(5, 1000), user, nil},
		{"setfsuid(-1) asks", dropped, setfsuid(Keep, 1000), dropped, nil},
		{"setfsuid to the saved id", dropped, setfsuid(0, 1000), ids(1000, 1000, 0, 0), nil},
		{"other calls reset it", ids(0, 0, 0, 1000), setresuid(Keep, 0, Keep), root, nil},
	} {
		got, err := c.call(Creds{UID: c.from, GID: All(3), Groups: []uint32{1}})
		if !errors.Is(err, c.err) || got.UID != c.want || got.GID != All(3) || len(got.Groups) != 1 {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got.UID, err, c.want, c.err)
		}
	}
}

func setuid(id uint32) func(Creds) (Creds, error) {
	return func(c Creds) (Creds, error) { return c.Setuid(id) }
}

func setreuid(r, e uint32) func(Creds) (Creds, error) {
	return func(c Creds) (Creds, error) { return c.Setreuid(r, e) }
}

func setresuid(r, e, s uint32) func(Creds) (Creds, error) {
	return func(c Creds) (Creds, error) { return c.Setresuid(r, e, s) }
}

func setfsuid(id, returns uint32) func(Creds) (Creds, error) {
	return func(c Creds) (Creds, error) {
		n, old := c.Setfsuid(id)
		if old != returns {
			return n, errors.New("another previous id")
		}
		return n, nil
	}
}

// Group ids follow the same rules; what counts is the effective user.
func TestGroupIDs(t *testing.T) {
	root, user := New(0, 0, nil), New(1000, 1000, []uint32{4})
	rootsGroup := Creds{UID: All(1000), GID: All(0)}
	userOfGroup := Creds{UID: All(0), GID: All(1000)}
	for _, c := range []struct {
		name string
		from Creds
		call func(Creds) (Creds, error)
		want IDs
		err  error
	}{
		{"setgid by root", root, func(c Creds) (Creds, error) { return c.Setgid(42) }, All(42), nil},
		{"setgid by root in another group", userOfGroup, func(c Creds) (Creds, error) { return c.Setgid(5) }, All(5), nil},
		{"setgid by a user of root's group", rootsGroup, func(c Creds) (Creds, error) { return c.Setgid(5) }, All(0), unix.EPERM},
		{"setgid to a supplementary group", user, func(c Creds) (Creds, error) { return c.Setgid(4) }, All(1000), unix.EPERM},
		{"setregid", root, func(c Creds) (Creds, error) { return c.Setregid(5, 6) }, ids(5, 6, 6, 6), nil},
		{"setresgid", root, func(c Creds) (Creds, error) { return c.Setresgid(5, 6, 7) }, ids(5, 6, 7, 6), nil},
		{"setresgid by a user", user, func(c Creds) (Creds, error) { return c.Setresgid(Keep, 0, Keep) }, All(1000), unix.EPERM},
		{"setfsgid", root, func(c Creds) (Creds, error) { n, _ := c.Setfsgid(9); return n, nil }, ids(0, 0, 0, 9), nil},
	} {
		got, err := c.call(c.from)
		if !errors.Is(err, c.err) || got.GID != c.want || got.UID != c.from.UID {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got.GID, err, c.want, c.err)
		}
	}
}

func TestGroups(t *testing.T) {
	if c := New(7, 7, []uint32{9, 5}); !c.Equal(New(7, 7, []uint32{5, 9})) {
		t.Errorf("%+v is not sorted", c)
	}
	root := New(0, 0, []uint32{1})
	given := []uint32{9, 5}
	c, err := root.Setgroups(given)
	if err != nil || len(c.Groups) != 2 || c.Groups[0] != 5 || given[0] != 9 || len(root.Groups) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if !c.In(5) || !c.In(0) || c.In(1) {
		t.Error("membership")
	}
	if _, err := c.Setgroups([]uint32{Keep}); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
	if _, err := c.Setgroups(make([]uint32, 65537)); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
	if none, err := c.Setgroups(nil); err != nil || len(none.Groups) != 0 || none.Equal(c) || !none.Equal(New(0, 0, nil)) {
		t.Errorf("%+v, %v", none, err)
	}
	user, _ := c.Setuid(7)
	if _, err := user.Setgroups(nil); !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
}

// setpriv(1) changes the user first and the group after that.
func TestKeptCapabilities(t *testing.T) {
	c := New(0, 0, nil)
	c.KeepCaps = true
	c, err := c.Setresuid(7, 7, 7)
	if err != nil || !c.IsRoot() || !c.Kept {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err = c.Setresgid(8, 8, 8); err != nil {
		t.Fatal(err)
	}
	if c, err = c.Setgroups(nil); err != nil {
		t.Fatal(err)
	}
	if c = c.Exec(0o755, 0, 0); c.IsRoot() || c.KeepCaps || c.UID != All(7) || c.GID != All(8) {
		t.Errorf("%+v", c)
	}
	user := New(7, 8, nil)
	user.KeepCaps = true // to no avail: there is nothing to keep
	if n, err := user.Setuid(7); err != nil || n.IsRoot() {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestExec(t *testing.T) {
	user := New(1000, 1000, []uint32{4})
	for _, c := range []struct {
		name     string
		from     Creds
		mode     uint32
		uid, gid uint32
		want     Creds
	}{
		{"plain", user, 0o755, 0, 0, user},
		{"set-user-ID", user, 0o4755, 0, 0, Creds{UID: ids(1000, 0, 0, 0), GID: All(1000)}},
		{"set-group-ID", user, 0o2755, 0, 42, Creds{UID: All(1000), GID: ids(1000, 42, 42, 42)}},
		{"mandatory locking", user, 0o2644, 0, 42, user},
		{"saved ids are reset", Creds{UID: ids(1000, 1000, 0, 0), GID: All(5)}, 0o755, 0, 0, Creds{UID: All(1000), GID: All(5)}},
	} {
		if got := c.from.Exec(c.mode, c.uid, c.gid); got.UID != c.want.UID || got.GID != c.want.GID {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestChown(t *testing.T) {
	root, user := New(0, 0, nil), New(1000, 1000, []uint32{4})
	for _, c := range []struct {
		name                 string
		who                  Creds
		fuid, fgid, uid, gid uint32
		wantUID, wantGID     uint32
		err                  error
	}{
		{"root", root, 1, 2, 3, 4, 3, 4, nil},
		{"root keeps the group", root, 1, 2, 3, Keep, 3, 2, nil},
		{"root keeps all", root, 1, 2, Keep, Keep, 1, 2, nil},
		{"own file to own group", user, 1000, 1000, Keep, 4, 1000, 4, nil},
		{"own file to oneself", user, 1000, 1000, 1000, 1000, 1000, 1000, nil},
		{"own file to a foreign group", user, 1000, 1000, Keep, 5, 0, 0, unix.EPERM},
		{"own file away", user, 1000, 1000, 0, Keep, 0, 0, unix.EPERM},
		{"foreign file", user, 0, 0, 1000, 1000, 0, 0, unix.EPERM},
		{"foreign file, nothing", user, 0, 0, Keep, Keep, 0, 0, nil},
	} {
		uid, gid, err := c.who.Chown(c.fuid, c.fgid, c.uid, c.gid)
		if !errors.Is(err, c.err) || err == nil && (uid != c.wantUID || gid != c.wantGID) {
			t.Errorf("%s: %d:%d, %v", c.name, uid, gid, err)
		}
	}
}
