package planner

import (
	"errors"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// linux/arm means arm/v7, and an emulator lets its RUNs be planned.
func TestArm(t *testing.T) {
	src := "FROM --platform=$BUILDPLATFORM alpine AS build\nRUN fetch\nARG TARGETPLATFORM\nARG TARGETVARIANT\nRUN build $TARGETPLATFORM $TARGETVARIANT\n" +
		"FROM alpine\nRUN native\nCOPY --from=build /out /"
	var asked []string
	opts := Options{
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm"}},
		CanRun:    func(p ocispec.Platform) error { asked = append(asked, p.Architecture+p.Variant); return nil },
	}
	p := mustPlan(t, src, opts)
	text := p.Graph.String()
	if strings.Count(text, "RUN fetch\n") != 1 || strings.Count(text, "RUN build linux/arm/v7 v7\n") != 1 || strings.Count(text, "exec linux/arm/v7 ") != 1 {
		t.Errorf("graph:\n%s", text)
	}
	if got := strings.Join(asked, " "); got != "amd64 amd64 amd64 amd64 amd64 armv7" {
		t.Errorf("asked for %s", got)
	}
	opts.CanRun = func(p ocispec.Platform) error {
		if p.Architecture == "arm" {
			return errors.New("no emulator")
		}
		return nil
	}
	if _, err := plan(t, src, opts); err == nil || !strings.Contains(err.Error(), "Dockerfile:7: RUN for platform linux/arm/v7 on linux/amd64 (no emulator)") {
		t.Errorf("without an emulator: %v", err)
	}
}

func TestWindowsPaths(t *testing.T) {
	opts := Options{Platforms: []ocispec.Platform{{OS: "windows", Architecture: "amd64"}}}
	p := mustPlan(t, "# escape=`\nFROM scratch\nCOPY a b\\\nCOPY a C:\\", opts)
	if text := p.Graph.String(); !strings.Contains(text, `["a"] -> /b/`) || !strings.Contains(text, `["a"] -> / `) {
		t.Errorf("graph:\n%s", text)
	}
	if _, err := plan(t, "# escape=`\nFROM scratch\nWORKDIR D:\\x", opts); err == nil || !strings.Contains(err.Error(), "not on the drive C:") {
		t.Errorf("another drive: %v", err)
	}
}

// A stage from scratch with a platform of its own runs there; the image that is
// asked for is for its target all the same.
func TestScratchPlatform(t *testing.T) {
	p := mustPlan(t, "FROM --platform=$BUILDPLATFORM scratch AS b\nRUN [\"/x\"]\nFROM --platform=$BUILDPLATFORM scratch\nCOPY --from=b / /", Options{
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"}},
	})
	if n := strings.Count(p.Graph.String(), "exec linux/amd64 "); n != 1 {
		t.Errorf("%d steps run on the machine, want one for both platforms:\n%s", n, p.Graph)
	}
	for i, arch := range []string{"arm64", "amd64"} {
		if got := p.Targets[i]; got.Platform.Architecture != arch || got.Config.Architecture != arch {
			t.Errorf("target %d: %v, configuration %s", i, got.Platform, got.Config.Architecture)
		}
	}
}
