package flags

import (
	"encoding/csv"
	"strings"

	"github.com/spf13/pflag"
)

// listFlag is a flag that may be repeated. It behaves as pflag's string arrays and
// slices do, which allocate a CSV writer of several KiB for each flag that is defined.
type listFlag struct {
	to *[]string
	// csv says that one value may be several, as a line of CSV.
	csv bool
}

// ArrayVar defines a flag whose every use is a value.
func ArrayVar(fs *pflag.FlagSet, to *[]string, name, short, usage string) {
	fs.VarP(&listFlag{to: to}, name, short, usage)
}

// SliceVar defines a flag whose every use is one or several values, separated by commas.
func SliceVar(fs *pflag.FlagSet, to *[]string, name, short, usage string) {
	fs.VarP(&listFlag{to: to, csv: true}, name, short, usage)
}

// String implements pflag.Value.
func (l *listFlag) String() string { return strings.Join(*l.to, ",") }

// Type implements pflag.Value.
func (l *listFlag) Type() string {
	if l.csv {
		return "stringSlice"
	}
	return "stringArray"
}

// Set implements pflag.Value.
func (l *listFlag) Set(s string) error {
	values := []string{s}
	if l.csv {
		values = nil
		if s != "" {
			var err error
			if values, err = csv.NewReader(strings.NewReader(s)).Read(); err != nil {
				return err
			}
		}
	}
	*l.to = append(*l.to, values...)
	return nil
}
