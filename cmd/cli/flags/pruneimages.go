package flags

import (
	"strings"
	"time"

	"github.com/spf13/pflag"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/parser/mistake"
)

// PruneImages are the flags of image prune.
type PruneImages struct {
	// Force: the user is not asked.
	Force bool

	all     bool
	filters []string
}

// Register defines the flags.
func (f *PruneImages) Register(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.all, "all", "a", false, "also images with a name")
	fs.BoolVarP(&f.Force, "force", "f", false, "do not ask")
	ArrayVar(fs, &f.filters, "filter", "", "only what was not used for so long, or since: until=24h, until=2026-01-31")
}

// Parse returns what is to be removed, if it is now.
func (f *PruneImages) Parse(now time.Time) (collect.PruneOptions, error) {
	until := now
	for _, v := range f.filters {
		key, value, _ := strings.Cut(v, "=")
		if key != "until" {
			return collect.PruneOptions{}, mistake.New("--filter %q: images are chosen by until only", v)
		}
		t, err := pointInTime(value, now)
		if err != nil {
			return collect.PruneOptions{}, mistake.New("--filter %q: %w", v, err)
		}
		if t.Before(until) {
			until = t
		}
	}
	opts := collect.PruneOptions{Images: true, Match: func(it collect.Item) bool { return it.LastUsed.Before(until) }}
	if f.all {
		opts.Unused = until
	}
	return opts, nil
}

// Warning is what the user is told before.
func (f *PruneImages) Warning() string {
	if f.all {
		return "WARNING! This will remove all images, those with a name too, and their layers."
	}
	return "WARNING! This will remove all images without a name."
}
