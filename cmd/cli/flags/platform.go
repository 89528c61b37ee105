package flags

import (
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"layered.build/builder/executor/binfmt"
	"layered.build/builder/parser/mistake"
)

// Platform is the --platform of commands that work on one image.
type Platform struct{ value string }

// Register defines the flag.
func (f *Platform) Register(fs *pflag.FlagSet, usage string) {
	fs.StringVar(&f.value, "platform", "", usage)
}

// WhichPlatform is the usual usage of Platform.
const WhichPlatform = "which image of a name that has several (default: this machine's)"

// Parse returns the platform that was chosen, nil if none was.
func (f *Platform) Parse() (*ocispec.Platform, error) {
	ps, err := Platforms([]string{f.value})
	if err != nil || len(ps) == 0 {
		return nil, err
	}
	if len(ps) > 1 {
		return nil, mistake.New("--platform %s: one platform is wanted", f.value)
	}
	return &ps[0], nil
}

// defaultPlatform is docker's variable with the --platform where none is given.
const defaultPlatform = "DOCKER_DEFAULT_PLATFORM"

// PlatformsOrDefault is Platforms, or what $DOCKER_DEFAULT_PLATFORM says if there are no
// values.
func PlatformsOrDefault(values []string, getenv func(string) string) ([]ocispec.Platform, error) {
	env := getenv(defaultPlatform)
	if env == "" || len(values) > 0 {
		return Platforms(values)
	}
	ps, err := Platforms([]string{env})
	if err != nil {
		return nil, fmt.Errorf("$%s: %w", defaultPlatform, err)
	}
	return ps, nil
}

// Default takes $DOCKER_DEFAULT_PLATFORM if no platform was chosen.
func (f *Platform) Default(getenv func(string) string) {
	if f.value == "" {
		f.value = getenv(defaultPlatform)
	}
}

// Platforms reads --platform: names or lists of them, "local" for this
// machine's. Each platform is returned once, in its normal form: linux/arm is
// linux/arm/v7.
func Platforms(values []string) ([]ocispec.Platform, error) {
	var out []ocispec.Platform
	seen := map[string]bool{}
	for _, v := range strings.Split(strings.Join(values, ","), ",") {
		if v = strings.TrimSpace(v); v == "" {
			continue
		}
		p := binfmt.Local()
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
