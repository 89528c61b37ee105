package planner

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const emulationHint = "install qemu-user-static and binfmt-support, or run the stage on this machine with FROM --platform=$BUILDPLATFORM; COPY and ADD need neither"

// refuseForeign refuses a RUN that this machine can neither run nor emulate.
func (in *instruction) refuseForeign(cmd *instructions.RunCommand) error {
	p, own := in.st.platform, in.opts.BuildPlatform
	what := fmt.Sprintf("RUN for platform %s on %s", platforms.FormatAll(p), platforms.FormatAll(own))
	if p.OS != own.OS {
		return in.unsupported(cmd.Location(), what, "only COPY and ADD work there; FROM --platform=$BUILDPLATFORM runs a stage on this machine")
	}
	var why error
	switch {
	case in.opts.CanRun != nil:
		why = in.opts.CanRun(p)
	case !platforms.Only(own).Match(p):
		why = errors.New("it is another kind of processor")
	}
	if why == nil {
		return nil
	}
	return in.unsupported(cmd.Location(), fmt.Sprintf("%s (%s)", what, why), emulationHint)
}

func isWindows(p ocispec.Platform) bool { return p.OS == "windows" }

// defaultShell is the shell of shell-form commands where SHELL sets none.
func defaultShell(p ocispec.Platform) []string {
	if isWindows(p) {
		return []string{"cmd", "/S", "/C"}
	}
	return []string{"/bin/sh", "-c"}
}

// slashed turns a path of the stage's system into the form that steps have. For
// Windows that is without the drive, which must be the one that containers have.
func (st *stage) slashed(p string) (string, error) {
	if !isWindows(st.platform) {
		return p, nil
	}
	p = strings.ReplaceAll(p, `\`, "/")
	if len(p) < 2 || p[1] != ':' {
		return p, nil
	}
	if !strings.EqualFold(p[:2], "c:") {
		return "", fmt.Errorf("the path %s is not on the drive C: of the image", p)
	}
	if p = p[2:]; p == "" {
		p = "/"
	}
	return p, nil
}

// native turns a path of steps into the form that the stage's configuration has.
func (st *stage) native(p string) string {
	if isWindows(st.platform) {
		return strings.ReplaceAll(p, "/", `\`)
	}
	return p
}
