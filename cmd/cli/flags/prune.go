package flags

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/parser/mistake"
)

// Prune are the flags of prune.
type Prune struct {
	// Force: the user is not asked.
	Force bool

	all                              bool
	filters                          []string
	keep, reserved, maxUsed, minFree string
}

// Register defines the flags.
func (f *Prune) Register(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.all, "all", "a", false, "also the cache of images with a name, stat indexes and logs")
	fs.BoolVarP(&f.Force, "force", "f", false, "do not ask")
	ArrayVar(fs, &f.filters, "filter", "", "only what matches: until=24h, id=, type=, inuse, mutable, immutable, shared, private, description=")
	fs.StringVar(&f.reserved, "reserved-space", "", "how much is always kept")
	fs.StringVar(&f.keep, "keep-storage", "", "the same as --reserved-space")
	fs.StringVar(&f.maxUsed, "max-used-space", "", "how large the store may be")
	fs.StringVar(&f.minFree, "min-free-space", "", "how much of the disk is to be free")
}

// Parse returns what is to be removed.
func (f *Prune) Parse() (collect.PruneOptions, error) {
	opts := collect.PruneOptions{All: f.all}
	if f.keep != "" && f.reserved != "" {
		return opts, mistake.New("--keep-storage and --reserved-space are the same; give one")
	}
	var err error
	for _, s := range []struct {
		flag, value string
		to          *int64
	}{
		{"--keep-storage", f.keep, &opts.Budget.Reserved}, {"--reserved-space", f.reserved, &opts.Budget.Reserved},
		{"--max-used-space", f.maxUsed, &opts.Budget.MaxUsed}, {"--min-free-space", f.minFree, &opts.Budget.MinFree},
	} {
		if s.value == "" {
			continue
		}
		if *s.to, err = bytesFlag(s.flag, s.value); err != nil {
			return opts, err
		}
	}
	if len(f.filters) > 0 {
		opts.Match, err = ItemFilters(f.filters)
	}
	return opts, err
}

// Warning is what the user is told before.
func (f *Prune) Warning() string {
	if f.all {
		return "WARNING! This will remove all build cache and all images without a name."
	}
	return "WARNING! This will remove build cache that no image with a name uses, and all images without a name."
}

// itemFilter is one --filter.
type itemFilter struct{ key, op, value string }

// ItemFilters reads --filter values: KEY=VALUE, KEY!=VALUE, KEY~=PART. Those of
// one key are alternatives, those of several keys must all hold.
func ItemFilters(values []string) (func(collect.Item) bool, error) {
	byKey := map[string][]func(collect.Item) bool{}
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			f := splitFilter(part)
			match, err := f.match()
			if err != nil {
				return nil, mistake.New("--filter %q: %w", part, err)
			}
			byKey[f.key] = append(byKey[f.key], match)
		}
	}
	return func(it collect.Item) bool {
		for _, alternatives := range byKey {
			ok := false
			for _, match := range alternatives {
				ok = ok || match(it)
			}
			if !ok {
				return false
			}
		}
		return true
	}, nil
}

func splitFilter(s string) itemFilter {
	for _, op := range []string{"!=", "~=", "="} {
		if key, value, ok := strings.Cut(s, op); ok {
			return itemFilter{key, op, value}
		}
	}
	return itemFilter{key: s}
}

// flag is a filter that is true or false; nothing means true.
func (f itemFilter) flag(field func(collect.Item) bool) (func(collect.Item) bool, error) {
	want := true
	if f.value != "" {
		var err error
		if want, err = strconv.ParseBool(f.value); err != nil || f.op == "~=" {
			return nil, fmt.Errorf("%s is true or false", f.key)
		}
	}
	if f.op == "!=" {
		want = !want
	}
	return func(it collect.Item) bool { return field(it) == want }, nil
}

// pointInTime reads a duration before now, a date, a time (RFC 3339), or seconds since
// 1970, as docker does.
func pointInTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", s)
}

func (f itemFilter) match() (func(collect.Item) bool, error) {
	var field func(collect.Item) string
	switch f.key {
	case "until", "unused-for":
		before, err := pointInTime(f.value, time.Now())
		if err != nil || f.op != "=" {
			return nil, fmt.Errorf("%s needs a duration or a time, such as until=24h or until=2026-01-31", f.key)
		}
		return func(it collect.Item) bool { return it.LastUsed.Before(before) }, nil
	case "inuse":
		return f.flag(func(it collect.Item) bool { return it.InUse })
	case "mutable":
		return f.flag(collect.Item.Mutable)
	case "immutable":
		return f.flag(func(it collect.Item) bool { return !it.Mutable() })
	case "shared":
		return f.flag(collect.Item.Shared)
	case "private":
		return f.flag(func(it collect.Item) bool { return !it.Shared() })
	case "parents", "label":
		return nil, fmt.Errorf("%s is not supported: what the store holds has no such field (use until, id, type, inuse, mutable, shared or description)", f.key)
	case "id":
		field = func(it collect.Item) string { return it.ID }
	case "type":
		field = func(it collect.Item) string { return it.Kind }
	case "description":
		field = func(it collect.Item) string { return it.Description }
	default:
		return nil, fmt.Errorf("unknown filter %q (use until, id, type, inuse, mutable, immutable, shared, private or description)", f.key)
	}
	switch f.op {
	case "=":
		if f.key == "id" { // the beginning of one is enough
			return func(it collect.Item) bool {
				return f.value != "" && strings.HasPrefix(strings.TrimPrefix(it.ID, "sha256:"), strings.TrimPrefix(f.value, "sha256:"))
			}, nil
		}
		return func(it collect.Item) bool { return field(it) == f.value }, nil
	case "!=":
		return func(it collect.Item) bool { return field(it) != f.value }, nil
	case "~=":
		return func(it collect.Item) bool { return strings.Contains(field(it), f.value) }, nil
	}
	return nil, fmt.Errorf("%s needs a value", f.key)
}
