package local

import (
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

// oomText is "out of memory: cc1 (process 7) was killed at the limit of 64 MiB; the
// peak was 64 MiB".
func oomText(exit sandbox.Exit) string {
	victim, limit := "a process", int64(0)
	if v := exit.Victim; v != nil {
		limit = v.Limit
		if v.Name != "" {
			victim = v.Name
		}
		if v.PID != 0 {
			victim += fmt.Sprintf(" (process %d)", v.PID)
		}
	}
	at := ""
	if limit != 0 {
		at = " at the limit of " + size(limit)
	}
	return fmt.Sprintf("out of memory: %s was killed%s; the peak was %s", victim, at, size(exit.PeakMemory))
}

func size(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
