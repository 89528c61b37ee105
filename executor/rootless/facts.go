package rootless

import (
	"fmt"
	"os"
	"os/exec"
)

// IDs is what a user has to make a user namespace with.
type IDs struct {
	// Ranges says it for each file, Enough whether it is enough for an image.
	Ranges string
	Enough bool
	// Helpers are newuidmap and newgidmap, Missing those that are not there.
	Helpers string
	Missing bool
	// Remedy is the command that gives the user ranges.
	Remedy string
}

// UserIDs reads what this process's user has.
func UserIDs() IDs {
	uid := os.Getuid()
	uids, _ := readSubIDs("/etc/subuid", uid)
	gids, _ := readSubIDs("/etc/subgid", uid)
	ids := IDs{
		Ranges: fmt.Sprintf("%d user ids, %d group ids for %s", count(uids.own), count(gids.own), userName(uid)),
		Enough: count(uids.own) >= wantedIDs && count(gids.own) >= wantedIDs,
		Remedy: addRanges(uid),
	}
	u, err1 := findHelper("newuidmap")
	g, err2 := exec.LookPath("newgidmap")
	if err2 != nil {
		g, err2 = findHelper("newgidmap")
	}
	ids.Helpers, ids.Missing = u+" "+g, err1 != nil || err2 != nil
	if ids.Missing {
		ids.Helpers = "newuidmap or newgidmap is not installed"
	}
	return ids
}

// UserNamespaces says whether user namespaces can be made, as far as settings of
// the kernel tell, and what would allow them.
func UserNamespaces() (reason, remedy string) {
	if lack := namespaceLack(Subuid); lack != nil {
		return lack.Reason, lack.Remedy
	}
	if a := apparmor(); os.Geteuid() != 0 {
		if v, err := setting(a.path); err == nil && v == a.forbids {
			return a.reason, a.remedy
		}
	}
	return "", ""
}
