package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/progress"
	"layered.build/builder/executor/doctor"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc"
)

// outside is the annotation of commands that do not open the store.
func outside() map[string]string { return map[string]string{"store": "none"} }

// enter brings the process onto the rung of isolation that is wanted, before the
// command runs. For an ordinary user that executes the program anew, in a user
// namespace.
func (a *app) enter(cmd *cobra.Command, _ []string) error {
	var failed *rootless.EnterError
	if err := rootless.Init(); err != nil && !errors.As(err, &failed) {
		return err
	}
	if cmd.Annotations["store"] == "none" || !cmd.HasParent() || cmd.Parent().Name() == "completion" || cmd.Name() == "help" {
		return nil
	}
	if !rootless.Entered() {
		if err := runc.OwnFile(); err != nil {
			return err
		}
	}
	want, err := flags.Isolation(cmd.Flags(), os.Getenv)
	if err != nil {
		return err
	}
	if failed != nil {
		if want, err = afterFailure(want, failed); err != nil {
			return err
		}
	}
	var try rootless.Trial
	if rootless.Doubtful() {
		try = doctor.Trial(cmd.Context())
	}
	way, err := rootless.Choose(want, try)
	if err != nil && failed != nil && want != rootless.Chroot { // no rung but the last is left
		way, err = rootless.Choose(rootless.Chroot, nil)
	}
	if err != nil {
		if err = a.withoutSteps(err, failed); err != nil {
			return err
		}
		way.Isolation = rootless.Chroot
	}
	a.rung.Isolation = way.Isolation
	if a.rung.OwnUsers, err = flags.Userns(cmd.Flags(), os.Getenv); err != nil {
		return err
	}
	return way.Enter(false)
}

// withoutSteps keeps the last rung's lack for those who run steps: the rest of the
// program, and builds without RUN, need nothing that it lacks.
func (a *app) withoutSteps(err error, failed *rootless.EnterError) error {
	var lack *rootless.Lack
	if !errors.As(err, &lack) || lack.Rung != rootless.Chroot {
		return err
	}
	if failed != nil {
		lack.NoStronger(failed.Reason)
	}
	a.rung.Lack = lack
	return nil
}

// afterFailure is the next rung to try, where it may be any. That the kernel or the
// container refuses a user namespace is only known after it was tried.
func afterFailure(want rootless.Isolation, failed *rootless.EnterError) (rootless.Isolation, error) {
	switch {
	case want != rootless.Auto:
		return "", failed
	case failed.Rung == rootless.Subuid:
		return rootless.Single, nil
	}
	return rootless.Chroot, nil
}

// isolationNotes say what steps get less of than they believe, to people.
func (a *app) isolationNotes(mode progress.Mode) []string {
	if mode == progress.JSON {
		return nil
	}
	switch a.rung.Isolation {
	case rootless.Single:
		return []string{"this user namespace has a single id: the owners of files, changes of user and device nodes are emulated and recorded"}
	case rootless.Chroot:
		return []string{"isolation chroot: steps see no files but their own and signal no processes but their own; users, owners and devices are emulated and recorded; the network, /proc and the limits are this container's"}
	}
	return nil
}

// isolationHints say what would make a rung work.
func isolationHints(err error) []string {
	var lack *rootless.Lack
	var entering *rootless.EnterError
	switch {
	case errors.As(err, &lack) && lack.Remedy != "":
		return []string{fmt.Sprintf("this would lift it: %s", lack.Remedy)}
	case errors.As(err, &entering) && entering.Hint != "":
		return []string{entering.Hint}
	}
	return nil
}
