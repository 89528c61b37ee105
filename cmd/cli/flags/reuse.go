package flags

import (
	"strconv"

	"github.com/spf13/pflag"

	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
)

// reuseFlags say which earlier results are used.
type reuseFlags struct {
	noCache noCacheFlag
	filter  []string
	ttl     string
}

func (r *reuseFlags) register(fs *pflag.FlagSet) {
	fs.Var(&r.noCache, "no-cache", "run every step, or with =STAGE,… every step of these stages")
	fs.Lookup("no-cache").NoOptDefVal = "true"
	SliceVar(fs, &r.filter, "no-cache-filter", "", "the same as --no-cache=STAGE")
	fs.StringVar(&r.ttl, "cache-ttl", "", "how old a result may be that is used again (12h, 7d, 2w; 0: run every step)")
}

// options sets what the flags say.
func (r *reuseFlags) options(o *planner.Options) error {
	o.NoCache = r.noCache.all
	o.NoCacheStages = append(r.noCache.stages, r.filter...)
	if o.NoCache && len(r.filter) > 0 {
		return mistake.New("--no-cache and --no-cache-filter cannot be combined")
	}
	if o.NoCache && len(o.NoCacheStages) > 0 {
		return mistake.New("--no-cache is for all stages, --no-cache=STAGE for some: they cannot be combined")
	}
	if r.ttl == "" {
		return nil
	}
	var err error
	if o.MaxAge, err = parser.ParseAge(r.ttl); err != nil {
		return mistake.New("--cache-ttl: %w", err).WithHint("write 90m, 12h, 1d, 2w or 1d12h; 0 is --no-cache")
	}
	o.NoCache = o.NoCache || o.MaxAge == 0
	return nil
}

// noCacheFlag is true or false, or names of stages.
type noCacheFlag struct {
	all    bool
	stages []string
}

// String implements pflag.Value.
func (n *noCacheFlag) String() string {
	if len(n.stages) > 0 {
		return (&listFlag{to: &n.stages}).String()
	}
	return strconv.FormatBool(n.all)
}

// Type implements pflag.Value.
func (n *noCacheFlag) Type() string { return "bool" }

// Set implements pflag.Value.
func (n *noCacheFlag) Set(s string) error {
	if all, err := strconv.ParseBool(s); err == nil {
		n.all = all
		return nil
	}
	return (&listFlag{to: &n.stages, csv: true}).Set(s)
}
