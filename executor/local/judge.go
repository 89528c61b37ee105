package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// timed runs a process, for as long as it may.
func (w *Worker) timed(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
	if d := spec.Limits.Timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, &executor.TimeoutError{After: d, What: commandText(spec.Args)})
		defer cancel()
	}
	return w.machine.Sandbox.Run(ctx, spec)
}

func commandText(args []string) string { return fmt.Sprintf("process %q", strings.Join(args, " ")) }

func usageOf(e sandbox.Exit, wall time.Duration) *executor.Usage {
	u := &executor.Usage{
		CPU: time.Duration(e.CPUNanos), System: time.Duration(e.SystemNanos), Wall: wall, PeakMemory: e.PeakMemory,
		ReadBytes: e.ReadBytes, WriteBytes: e.WriteBytes, HostNetwork: e.Network == nil, Processes: e.Processes,
	}
	if e.Network != nil {
		u.RxBytes, u.TxBytes = e.Network.RxBytes, e.Network.TxBytes
	}
	return u
}

// judge says how a process failed, nil if it did not. An error is one that is not
// the process's.
func judge(op *dag.Exec, l dag.Limits, exit sandbox.Exit, err error) (*executor.StepError, error) {
	command := commandText(op.Args)
	var late *executor.TimeoutError
	switch {
	case errors.As(err, &late) && late.What == command:
		return &executor.StepError{Err: late}, nil
	case err != nil:
		return nil, err
	case exit.Code == 0:
		return nil, nil
	}
	msg := fmt.Sprintf("%s did not complete successfully: exit code: %d", command, exit.Code)
	for _, reason := range limitsHit(l, exit) {
		msg += ": " + reason
	}
	return &executor.StepError{Err: errors.New(msg), ExitCode: exit.Code, OOM: exit.OOM}, nil
}

// warnOfLimits tells of limits that a process hit although it ended well.
func warnOfLimits(job *executor.Job, l dag.Limits, exit sandbox.Exit) {
	for _, reason := range limitsHit(l, exit) {
		warn(job, reason)
	}
}

// limitsHit says which limits were reached, and what came of it.
func limitsHit(l dag.Limits, exit sandbox.Exit) []string {
	var out []string
	if exit.OOM {
		out = append(out, oomText(exit))
	}
	if exit.PidsHit > 0 {
		out = append(out, fmt.Sprintf("the limit of %d processes was reached", l.Pids))
	}
	return out
}

// maxVictims bounds how many processes are named.
const maxVictims = 3

// oomText is "out of memory: cc1 (process 7) was killed at the limit of 64 MiB; the
// peak was 64 MiB", or of several processes, in the order in which they were killed,
// "cc1 (process 7), then awk (process 9) were killed".
func oomText(exit sandbox.Exit) string {
	var victims []string
	limit := int64(0)
	for _, v := range exit.Victims {
		limit = max(limit, v.Limit)
		victims = append(victims, victimText(v))
	}
	if n := len(victims); n > maxVictims {
		victims = append(victims[:maxVictims], fmt.Sprintf("%d more", n-maxVictims))
	}
	who := "a process was"
	switch len(victims) {
	case 0:
	case 1:
		who = victims[0] + " was"
	default:
		who = strings.Join(victims, ", then ") + " were"
	}
	at := ""
	if limit != 0 {
		at = " at the limit of " + size(limit)
	}
	return fmt.Sprintf("out of memory: %s killed%s; the peak was %s", who, at, size(exit.PeakMemory))
}

// victimText is "cc1 (process 7)".
func victimText(v sandbox.Victim) string {
	name := cmp.Or(v.Name, "a process")
	if v.PID == 0 {
		return name
	}
	return fmt.Sprintf("%s (process %d)", name, v.PID)
}

func size(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
