package cli

import (
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"layered.build/builder/executor/binfmt"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// platformFlag is the --platform of commands that work on one image.
type platformFlag struct{ value string }

func (f *platformFlag) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.value, "platform", "", "which image of a name that has several (default: this machine's)")
}

// platform is the one that was chosen, nil if none was.
func (f *platformFlag) platform() (*ocispec.Platform, error) {
	ps, err := parsePlatforms([]string{f.value})
	if err != nil || len(ps) == 0 {
		return nil, err
	}
	if len(ps) > 1 {
		return nil, mistake.New("--platform %s: one platform is wanted", f.value)
	}
	return &ps[0], nil
}

// find looks for an image in the store, for the platform that was chosen.
func (f *platformFlag) find(e *engine, ref string) (*registry.Image, error) {
	p, err := f.platform()
	if err != nil {
		return nil, err
	}
	if p == nil {
		return e.images.ResolveLocal(ref)
	}
	return e.images.ResolvePlatform(ref, *p)
}

// findAll looks for all images that a name means, or that of the platform that
// was chosen.
func (f *platformFlag) findAll(e *engine, ref string) (*registry.Index, error) {
	if f.value == "" {
		return e.images.ResolveIndex(ref)
	}
	img, err := f.find(e, ref)
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
	if err := (binfmt.Machine{Own: machine()}).CanRun(p); err != nil {
		return mistake.New("the image is for %s: %w", platforms.FormatAll(p), err).WithHint("install qemu-user-static and binfmt-support")
	}
	return nil
}

// machine is the platform that steps run on.
func machine() ocispec.Platform {
	p := platforms.DefaultSpec()
	p.OS = "linux"
	p.OSVersion, p.OSFeatures = "", nil
	return platforms.Normalize(p)
}

// parsePlatforms reads --platform: names or lists of them, "local" for this
// machine's. Each platform is returned once, in its normal form: linux/arm is
// linux/arm/v7.
func parsePlatforms(values []string) ([]ocispec.Platform, error) {
	var out []ocispec.Platform
	seen := map[string]bool{}
	for _, v := range strings.Split(strings.Join(values, ","), ",") {
		if v = strings.TrimSpace(v); v == "" {
			continue
		}
		p := machine()
		if v != "local" {
			var err error
			if p, err = platforms.Parse(v); err != nil {
				return nil, mistake.New("--platform %s: %w", v, err).WithHint("write OS/ARCH[/VARIANT], as linux/arm64")
			}
			p = platforms.Normalize(p)
		}
		if name := platforms.FormatAll(p); !seen[name] {
			seen[name] = true
			out = append(out, p)
		}
	}
	return out, nil
}
