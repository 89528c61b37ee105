package rootless

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// wantedIDs is how many ids, beside the user's own, a user namespace must have:
// an image may use all up to "nobody", 65534.
const wantedIDs = 65535

// subIDs is one file of subordinate ids, /etc/subuid or /etc/subgid.
type subIDs struct {
	own  []idRange // the user's; only outside and size are set
	free uint32    // the first id that nobody has
}

// readSubIDs reads the ranges of a user, who is named by number or name.
func readSubIDs(path string, uid int) (subIDs, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return subIDs{free: firstFree}, nil
	}
	if err != nil {
		return subIDs{}, err
	}
	defer f.Close()
	return parseSubIDs(f, userNames(uid))
}

// firstFree is where useradd begins to give out ranges.
const firstFree = 100_000

func parseSubIDs(r io.Reader, names []string) (subIDs, error) {
	ids := subIDs{free: firstFree}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 {
			continue // a comment, or what newuidmap ignores as well
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		size, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || size == 0 || start+size > 1<<32-1 {
			continue
		}
		if end := uint32(start + size); end > ids.free {
			ids.free = end
		}
		for _, name := range names {
			if f[0] == name {
				ids.own = append(ids.own, idRange{outside: uint32(start), size: uint32(size)})
				break
			}
		}
	}
	return ids, lines.Err()
}

// userNames are what a user may be called in /etc/subuid.
func userNames(uid int) []string {
	names := []string{strconv.Itoa(uid)}
	if u, err := user.LookupId(names[0]); err == nil {
		return append(names, u.Username)
	}
	// Not in /etc/passwd: a directory service knows the user.
	if name := os.Getenv("USER"); name != "" && uid == os.Getuid() {
		names = append(names, name)
	}
	return names
}

// userName is the name for messages.
func userName(uid int) string {
	names := userNames(uid)
	return names[len(names)-1]
}

// mapping puts a user's own id at 0 and the ranges after it.
func mapping(own int, ranges []idRange) []idRange {
	out := []idRange{{inside: 0, outside: uint32(own), size: 1}}
	next := uint32(1)
	for _, r := range ranges {
		r.inside = next
		out = append(out, r)
		next += r.size
	}
	return out
}

// format writes a map as words or lines.
func format(ids []idRange, sep string) string {
	var b strings.Builder
	for i, r := range ids {
		if i > 0 {
			b.WriteString(sep)
		}
		fmt.Fprintf(&b, "%d %d %d", r.inside, r.outside, r.size)
	}
	return b.String()
}
