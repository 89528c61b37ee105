package runc

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"layered.build/builder/executor/runc/network"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// report tells the user in the process's own error stream why it did not start.
func report(spec *sandbox.Spec, msg string) error {
	w := spec.Stderr
	if w == nil {
		w = spec.Stdout
	}
	if w == nil {
		return nil
	}
	_, err := fmt.Fprintln(w, spec.Complaint+msg)
	return err
}

// userMistake finds in an error of the container's first process what the user can mend
// and returns the exit code that docker gives for it.
func userMistake(text string) (string, int) {
	i := strings.Index(text, "exec: ") // looked for
	if i < 0 && strings.HasPrefix(text, "exec ") {
		i = 0 // tried
	}
	if i < 0 {
		if i = strings.Index(text, "chdir to cwd"); i >= 0 {
			return text[i:], 126
		}
		return "", 0
	}
	msg := text[i:]
	switch {
	case strings.Contains(msg, "executable file not found"), strings.Contains(msg, "no such file or directory"):
		return msg, 127
	case i == 0, strings.Contains(msg, "permission denied"), strings.Contains(msg, "is a directory"), strings.Contains(msg, "exec format error"):
		return msg, 126
	}
	return "", 0
}

// exit says how the process ended.
func (r *run) exit(state *os.ProcessState) sandbox.Exit {
	e := sandbox.Exit{Code: state.ExitCode(), Usage: r.watch.Usage(r.before, state)}
	if r.spec.Network != dag.NetHost {
		e.Network = network.Usage()
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Code = 128 + int(ws.Signal())
	}
	r.cgroup.Account(&e)
	switch {
	case len(r.watch.Victims) > 0:
		e.OOM, e.Victims = true, r.watch.Victims
	case e.OOM:
		e.Victims = r.cgroup.Victims(r.spec.Limits.Memory, r.s.opts.Total.Memory, r.watch.Inner)
	}
	if r.watch.PidsHit {
		e.PidsHit++
	}
	return e
}
