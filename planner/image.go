package planner

import (
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/planner/settings"
)

const (
	scratchName    = "scratch"
	defaultPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	historyComment = "builder.dockerfile.v0"
)

// emptyImage is the configuration that a stage from scratch starts with.
func emptyImage(p ocispec.Platform) ImageConfig {
	var img ImageConfig
	img.Platform = clonePlatform(p)
	img.Config.WorkingDir = "/"
	if isWindows(p) { // it has its own default for PATH
		img.Config.WorkingDir = `\`
		return img
	}
	img.Config.Env = []string{"PATH=" + defaultPath}
	return img
}

// fromBase is the configuration that a stage on an image starts with: the
// image's own, without what belongs to its layers and its making.
func fromBase(base *BaseImage) ImageConfig {
	img := settings.Clone(base.Config)
	img.Created = nil
	img.History = nil
	img.RootFS = ocispec.RootFS{}
	return img
}

func clonePlatform(p ocispec.Platform) ocispec.Platform {
	p.OSFeatures = slices.Clone(p.OSFeatures)
	return p
}

// withShell makes the arguments of a shell-form command.
func withShell(img *ImageConfig, args []string) []string {
	shell := defaultShell(img.Platform)
	if len(img.Config.Shell) > 0 {
		shell = slices.Clone(img.Config.Shell)
	}
	return append(shell, strings.Join(args, " "))
}
