package chroot

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limits are resource limits; hard ones that this process may not raise are cut to
// what it has.
func (l *layout) limits() ([]limit, error) {
	var out []limit
	for _, u := range l.spec.Ulimits {
		id, ok := rlimitNumbers()[u.Name]
		if !ok {
			return nil, fmt.Errorf("unknown ulimit %q", u.Name)
		}
		lim, err := clamp(id, uint64(u.Soft), uint64(u.Hard))
		if err != nil {
			return nil, fmt.Errorf("read limit %q: %w", u.Name, err)
		}
		out = append(out, lim)
	}
	return out, nil
}

func clamp(id int, soft, hard uint64) (limit, error) {
	var cur unix.Rlimit
	if err := unix.Getrlimit(id, &cur); err != nil {
		return limit{}, err
	}
	hard = min(hard, cur.Max)
	return limit{id, min(soft, hard), hard}, nil
}

func rlimitNumbers() map[string]int {
	return map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU,
		"data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS,
		"memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
		"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS,
		"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING,
		"stack": unix.RLIMIT_STACK,
	}
}

// limitMemory bounds the data of each process of a step (RLIMIT_DATA), which is the
// closest to a limit of their memory together.
func limitMemory(pid int, bytes int64) {
	lim, err := clamp(unix.RLIMIT_DATA, uint64(bytes), uint64(bytes))
	if err == nil {
		_ = unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: lim.Soft, Max: lim.Hard}, nil)
	}
}

// parseCPUs reads a list such as "0-2,4".
func parseCPUs(list string) (unix.CPUSet, error) {
	var set unix.CPUSet
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || b < a {
			return set, fmt.Errorf("bad list of processors %q", list)
		}
		for ; a <= b; a++ {
			set.Set(int(a))
		}
	}
	return set, nil
}
