package cli

import (
	"fmt"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/containers"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// find looks for an image in the store, for the platform that was chosen.
func find(e *engine.Engine, platform *flags.Platform, ref string) (*registry.Image, error) {
	p, err := platform.Parse()
	if err != nil {
		return nil, err
	}
	return containers.FindImage(e, ref, p)
}

// findAll looks for all images that a name means, or that of the platform that
// was chosen.
func findAll(e *engine.Engine, platform *flags.Platform, ref string) (*registry.Index, error) {
	p, err := platform.Parse()
	if err == nil && p == nil {
		return e.Images.ResolveIndex(ref)
	}
	if err != nil {
		return nil, err
	}
	img, err := containers.FindImage(e, ref, p)
	if err != nil {
		return nil, err
	}
	return &registry.Index{Images: []*registry.Image{img}}, nil
}

// runnable refuses images whose processes this machine cannot run.
func runnable(img *registry.Image) error {
	p := platforms.Normalize(img.Config.Platform)
	if p.OS == "" || p.Architecture == "" {
		return nil
	}
	if err := (binfmt.Machine{Own: binfmt.Local()}).CanRun(p); err != nil {
		return mistake.New("the image is for %s: %w", platforms.FormatAll(p), err).WithHint("install qemu-user-static and binfmt-support")
	}
	return nil
}

// warnPlatform tells, as docker does, of an image that is not made for the platform that
// was chosen, or if none was (nil), for this machine: an image that is in no index is
// taken whatever it is for.
func (a *app) warnPlatform(img *registry.Image, chosen *ocispec.Platform) {
	want, of, more := binfmt.Local(), "detected host", " and no specific platform was requested"
	if chosen != nil {
		want, of, more = *chosen, "specified", ""
	}
	have := platforms.Normalize(img.Config.Platform)
	if have.OS == "" || have.Architecture == "" || platforms.Only(platforms.Normalize(want)).Match(have) {
		return
	}
	a.warn(a.std.Err, fmt.Sprintf("The requested image's platform (%s) does not match the %s platform (%s)%s",
		platforms.FormatAll(have), of, platforms.FormatAll(want), more))
}
