package engine

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	units "github.com/docker/go-units"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/config"
)

// The default budget is BuildKit's: of the disk, or at most so many bytes.
const (
	defaultReserved, maxReserved = 0.1, 10e9
	defaultMaxUsed, maxMaxUsed   = 0.8, 100e9
	defaultMinFree               = 0.2
)

// Budget is how large the store may become.
type Budget struct {
	collect.Budget
	// On: the store is collected by itself.
	On bool
	// Hard: it must not become larger, since somebody has said how large it may be.
	Hard bool
}

// CheckBudget refuses a budget that cannot be read, a *mistake.Error where a value is wrong.
func (h *Host) CheckBudget() error {
	_, err := h.budget()
	return err
}

// readBudget reads the budget from the environment, then from the configuration.
func (h *Host) readBudget() (Budget, error) {
	disk, _, err := collect.Disk(h.opts.Root)
	if err != nil {
		return Budget{}, err
	}
	b := Budget{On: true, Budget: collect.Budget{
		Reserved: int64(min(defaultReserved*float64(disk), maxReserved)),
		MaxUsed:  int64(min(defaultMaxUsed*float64(disk), maxMaxUsed)),
		MinFree:  int64(defaultMinFree * float64(disk)),
	}}
	conf, err := config.SystemFiles().Read()
	if err != nil {
		return Budget{}, err
	}
	if value := h.opts.Getenv("BUILDER_GC"); value != "" {
		if b.On, err = strconv.ParseBool(value); err != nil {
			return Budget{}, mistake.New("BUILDER_GC: %q is neither true nor false", value)
		}
	} else if conf.GC.Enabled != nil {
		b.On = *conf.GC.Enabled
	}
	reserved := false
	for _, s := range []struct {
		env, name, value string
		to               *int64
	}{
		{"BUILDER_RESERVED_SPACE", "reserved-space", conf.GC.Reserved, &b.Reserved},
		{"BUILDER_MAX_USED_SPACE", "max-used-space", conf.GC.MaxUsed, &b.MaxUsed},
		{"BUILDER_MIN_FREE_SPACE", "min-free-space", conf.GC.MinFree, &b.MinFree},
	} {
		name := "config.toml: gc." + s.name
		if value := h.opts.Getenv(s.env); value != "" {
			name, s.value = s.env, value
		}
		if s.value == "" {
			continue
		}
		if *s.to, err = parseSpace(s.value, disk); err != nil {
			return Budget{}, mistake.New("%s: %w", name, err)
		}
		b.Hard = b.Hard || s.to == &b.MaxUsed
		reserved = reserved || s.to == &b.Reserved
	}
	if b.MaxUsed > 0 && !reserved { // the default does not allow what somebody forbids
		b.Reserved = min(b.Reserved, b.MaxUsed)
	}
	b.On = b.On && (b.Reserved != 0 || b.MaxUsed != 0 || b.MinFree != 0)
	unused, name := conf.GC.UnusedImages, "config.toml: gc.unused-images"
	if value := h.opts.Getenv("BUILDER_UNUSED_IMAGES"); value != "" {
		unused, name = value, "BUILDER_UNUSED_IMAGES"
	}
	if unused != "" {
		if b.UnusedImages, err = time.ParseDuration(unused); err != nil || b.UnusedImages <= 0 {
			return Budget{}, mistake.New("%s: %q is not a time, such as 720h", name, unused)
		}
	}
	return b, nil
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
