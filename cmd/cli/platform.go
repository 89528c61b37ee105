package cli

import (
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
				return nil, usagef("--platform %s: %w", v, err).hint("write OS/ARCH[/VARIANT], as linux/arm64")
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
