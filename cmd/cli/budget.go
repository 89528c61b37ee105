package cli

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	units "github.com/docker/go-units"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// The default budget is BuildKit's: of the disk, or at most so many bytes.
const (
	defaultReserved, maxReserved = 0.1, 10e9
	defaultMaxUsed, maxMaxUsed   = 0.8, 100e9
	defaultMinFree               = 0.2
)

// budget reads how large the store may become: from the environment, then from the
// configuration. The store is collected by itself if on is true; it must not become
// larger if hard is true, since somebody has said how large it may be.
func (e *engine) budget() (b collect.Budget, on, hard bool, err error) {
	disk, _, err := collect.Disk(e.root)
	if err != nil {
		return b, false, false, err
	}
	b = collect.Budget{
		Reserved: int64(min(defaultReserved*float64(disk), maxReserved)),
		MaxUsed:  int64(min(defaultMaxUsed*float64(disk), maxMaxUsed)),
		MinFree:  int64(defaultMinFree * float64(disk)),
	}
	settings, err := registry.ReadGC()
	if err != nil {
		return b, false, false, err
	}
	on = true
	for _, s := range []struct {
		env, name string
		to        *int64
	}{
		{"BUILDER_GC", "enabled", nil},
		{"BUILDER_RESERVED_SPACE", "reserved-space", &b.Reserved},
		{"BUILDER_MAX_USED_SPACE", "max-used-space", &b.MaxUsed},
		{"BUILDER_MIN_FREE_SPACE", "min-free-space", &b.MinFree},
	} {
		value, name := os.Getenv(s.env), s.env
		if value == "" {
			value, name = settings[s.name], "config.toml: gc."+s.name
		}
		if value == "" {
			continue
		}
		if s.to == nil {
			if on, err = strconv.ParseBool(value); err != nil {
				return b, false, false, mistake.New("%s: %q is neither true nor false", name, value)
			}
		} else if *s.to, err = parseSpace(value, disk); err != nil {
			return b, false, false, mistake.New("%s: %w", name, err)
		}
		hard = hard || s.name == "max-used-space"
	}
	return b, on && b != (collect.Budget{}), hard, nil
}

// parseSpace reads a size, or a share of the disk such as 20%.
func parseSpace(s string, disk int64) (int64, error) {
	if share, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(share, 64)
		if err != nil || math.IsNaN(f) || f < 0 || f > 100 {
			return 0, fmt.Errorf("%q is not a share of the disk, such as 20%%", s)
		}
		return int64(f / 100 * float64(disk)), nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size, such as 20g or 10%%", s)
	}
	return n, nil
}

// autoCollect keeps the store within its budget. A failure is told: the work is
// done by then.
func (a *app) autoCollect(ctx context.Context, e *engine) {
	if ctx.Err() != nil {
		return
	}
	b, on, _, err := e.budget()
	if err == nil && on {
		_, err = e.collector().Auto(ctx, b)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(a.std.Err, "WARN: keep the store within its budget: %v\n", err)
	}
}
