package export

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// Request is what exporters are checked against.
type Request struct {
	// Names are what all exporters call the image.
	Names []string
	// Platforms is how many the build is for.
	Platforms int
	// Quiet: the image's id goes to stdout.
	Quiet bool
	// IDFile: the image's id goes into a file.
	IDFile bool
}

// Check refuses what does not go together: in an exporter, between several, and with the
// rest of the request. Errors are mistakes.
func Check(all []Exporter, of Request) error {
	stdout := 0
	for _, e := range all {
		if err := e.Check(of); err != nil {
			return err
		}
		n := e.Needs()
		if n.Dest == "-" {
			stdout++
		}
		if err := CheckNames(slices.Concat(of.Names, n.Names)...); err != nil {
			return err
		}
	}
	if stdout > 1 || stdout == 1 && of.Quiet {
		return mistake.New("stdout can take one thing only").WithHint("give the other outputs a dest, and write the id with --iidfile instead of --quiet")
	}
	return nil
}

// CheckEpochs refuses not to limit times under the build's epoch or an exporter's own.
func CheckEpochs(all []Exporter, build *time.Time) error {
	for _, e := range all {
		if e.Needs().KeepTimes && EpochOf(e, build) != nil {
			return mistake.Unsupported("--output rewrite-timestamp=false under an epoch", "the times of new layers are always limited to SOURCE_DATE_EPOCH; source-date-epoch= with no value takes it away")
		}
	}
	return nil
}

// CheckNames refuses names that are no references, or that a new image cannot have.
func CheckNames(names ...string) error {
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return mistake.New("%w", err)
		}
		if ref.Digest != "" {
			return mistake.New("the name %q has a digest, which a new image cannot promise", n)
		}
	}
	return nil
}

// CheckEmptied refuses to empty folders of this machine that may hold more than an earlier
// result: those that are not below the working directory.
func CheckEmptied(all []Exporter) error {
	for _, e := range all {
		n := e.Needs()
		if !n.Empties {
			continue
		}
		cwd, err := os.Getwd()
		if err != nil {
			return mistake.New("--output mode=delete: %w", err)
		}
		cwd, abs := realPath(cwd), realPath(n.Dest)
		if !isBelow(cwd, abs) || abs == cwd {
			return mistake.New("--output mode=delete: %s is not below the working directory", n.Dest).
				WithHint("what is there is removed, so dest must be a folder below %s; remove %s yourself and use mode=copy otherwise", cwd, n.Dest)
		}
	}
	return nil
}

// KeepInputs refuses to empty folders of this machine that hold what the build reads: the
// paths of inputs by what they are for people, "" for none.
func KeepInputs(all []Exporter, inputs map[string]string) error {
	for _, e := range all {
		n := e.Needs()
		if !n.Empties {
			continue
		}
		for what, p := range inputs {
			if p != "" && isBelow(realPath(n.Dest), realPath(p)) {
				return mistake.New("--output mode=delete: the %s is in %s", what, n.Dest)
			}
		}
	}
	return nil
}

// realPath is the absolute path without symbolic links, as far as it exists.
func realPath(p string) string {
	abs, err := filepath.Abs(p)
	if err != nil {
		return p
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	return abs
}

// isBelow reports whether a path is a directory or below it.
func isBelow(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// normalised are names in full, each once. Those that are none are left out; Check has
// refused them.
func normalised(lists ...[]string) []string {
	var out []string
	for _, n := range slices.Concat(lists...) {
		ref, err := registry.ParseReference(n)
		if err != nil {
			continue
		}
		if s := ref.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
