package cli

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"layered.build/builder/executor/binfmt"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
)

// buildFlags are the flags of build and plan as they were written.
type buildFlags struct {
	file          string
	tags          []string
	target        string
	buildArgs     []string
	labels        []string
	noCache       bool
	noCacheFilter []string
	iidfile       string
	metadataFile  string
	quiet         bool
	progress      string
	outputs       []string
	push          bool
	load          string
	platforms     []string
	annotations   []string
	addHosts      []string
	network       string
	allow         []string
	secrets       []string
	jobs          int
	verify        bool
	limits        limitFlags
	total         totalFlags
	contexts      contextFlags
	refused       refusedFlags
	lang          langFlags
}

func (f *buildFlags) register(fs *pflag.FlagSet) {
	fs.StringVarP(&f.file, "file", "f", "", "name of the Dockerfile (default PATH/Dockerfile; - is stdin)")
	arrayVar(fs, &f.tags, "tag", "t", "name of the image; may be repeated")
	fs.StringVar(&f.target, "target", "", "stage to build")
	arrayVar(fs, &f.buildArgs, "build-arg", "", "value of an ARG, NAME=VALUE; NAME alone takes it from the environment")
	arrayVar(fs, &f.labels, "label", "", "label of the image, NAME=VALUE")
	fs.BoolVar(&f.noCache, "no-cache", false, "run every step")
	sliceVar(fs, &f.noCacheFilter, "no-cache-filter", "", "run every step of these stages")
	fs.StringVar(&f.iidfile, "iidfile", "", "write the image's id to a file")
	fs.StringVar(&f.metadataFile, "metadata-file", "", "write digests and names as JSON to a file")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print the image's id only")
	fs.StringVar(&f.progress, "progress", "", "auto, tty, plain, quiet or json ($BUILDER_PROGRESS, $BUILDKIT_PROGRESS)")
	arrayVar(fs, &f.outputs, "output", "o", "type=image|registry|oci|docker|local|tar|cacheonly with options (docs/COMPATIBILITY.md); DIR: files; -: tar on stdout")
	arrayVar(fs, &f.annotations, "annotation", "", "annotation of the image, [TYPE[PLATFORM]:]KEY=VALUE")
	fs.BoolVar(&f.push, "push", false, "push the image to its registry")
	fs.StringVar(&f.load, "load", "", "keep the image in the store (the default), or with =docker, =containerd or =podman give it to that engine too, with =auto to the first of these that is there")
	fs.Lookup("load").NoOptDefVal = loadStore
	sliceVar(fs, &f.platforms, "platform", "", "platforms of the image (linux/arm64, local, …); a list or repeated")
	arrayVar(fs, &f.addHosts, "add-host", "", "line of /etc/hosts, NAME:IP")
	fs.StringVar(&f.network, "network", "default", "network of RUN: default, none, host or ns:PATH (a network namespace)")
	sliceVar(fs, &f.allow, "allow", "", "grant "+permissions())
	arrayVar(fs, &f.secrets, "secret", "", "secret for RUN --mount=type=secret, id=ID[,src=FILE|,env=NAME|,cmd=COMMAND]")
	fs.IntVar(&f.jobs, "jobs", 0, "how many RUN steps at once (default one for each CPU)")
	fs.BoolVar(&f.verify, "cache-verify", false, "run steps although they are cached and warn if they made something else")
	registerIsolation(fs)
	f.limits.register(fs)
	f.total.register(fs)
	f.lang.register(fs)
	f.contexts.register(fs)
	f.refused.register(fs)
}

// planOptions turns the flags into the planner's options.
func (f *buildFlags) planOptions(env func(string) (string, bool)) (planner.Options, error) {
	opts := planner.Options{
		Target: f.target, NoCache: f.noCache, NoCacheStages: f.noCacheFilter,
		BuildArgs: map[string]string{}, Labels: map[string]string{},
		BuildPlatform: machine(), CanRun: binfmt.Machine{Own: machine()}.CanRun,
	}
	if f.noCache && len(f.noCacheFilter) > 0 {
		return opts, mistake.New("--no-cache and --no-cache-filter cannot be combined")
	}
	if err := f.lang.addArgFiles(opts.BuildArgs, env); err != nil {
		return opts, err
	}
	for _, a := range f.buildArgs {
		name, value, ok := strings.Cut(a, "=")
		if name == "" {
			return opts, mistake.New("--build-arg %q: the name is missing", a)
		}
		if !ok {
			if value, ok = env(name); !ok {
				continue
			}
		}
		opts.BuildArgs[name] = value
	}
	if _, ok := opts.BuildArgs["SOURCE_DATE_EPOCH"]; !ok {
		if v, ok := env("SOURCE_DATE_EPOCH"); ok && v != "" {
			opts.BuildArgs["SOURCE_DATE_EPOCH"] = v
		}
	}
	for _, l := range f.labels {
		name, value, _ := strings.Cut(l, "=")
		if name == "" {
			return opts, mistake.New("--label %q: the name is missing", l)
		}
		opts.Labels[name] = value
	}
	var err error
	if opts.Platforms, err = parsePlatforms(f.platforms); err != nil {
		return opts, err
	}
	if opts.Hosts, err = parseHosts(f.addHosts); err != nil {
		return opts, err
	}
	if opts.Network, err = f.parseNetwork(); err != nil {
		return opts, err
	}
	if opts.Limits, err = f.limits.limits(); err != nil {
		return opts, err
	}
	if opts.Ulimits, err = f.limits.ulimits(); err != nil {
		return opts, err
	}
	if opts.ShmSize, err = f.limits.shm(); err != nil {
		return opts, err
	}
	return opts, f.lang.options(&opts, env)
}

func (f *buildFlags) parseNetwork() (dag.Network, error) {
	net, err := parseNetwork(f.network)
	if err != nil {
		return "", err
	}
	if net == dag.NetHost && !f.allowed("network.host") {
		return "", mistake.New("--network=host needs the permission network.host").WithHint("add --allow network.host")
	}
	if _, ok := net.Namespace(); ok && !f.allowed("network.ns") {
		return "", mistake.New("--network=%s needs the permission network.ns", net).WithHint("add --allow network.ns")
	}
	return net, nil
}

// parseNetwork reads --network.
func parseNetwork(s string) (dag.Network, error) {
	switch s {
	case "", "default":
		return dag.NetDefault, nil
	case "none":
		return dag.NetNone, nil
	case "host":
		return dag.NetHost, nil
	}
	net := dag.Network(s)
	if _, ok := net.Namespace(); !ok {
		return "", mistake.New("--network=%s is not supported", s).WithHint("use default, none, host or ns:PATH")
	}
	if !net.Valid() {
		return "", mistake.New("--network=%s: the path of the namespace must be absolute", s)
	}
	return net, nil
}

func (f *buildFlags) allowed(what dag.Permission) bool { return f.grants().Has(what) }

// grants are what --allow grants.
func (f *buildFlags) grants() dag.Grants {
	var list []dag.Permission
	for _, a := range f.allow {
		list = append(list, dag.Permission(a))
	}
	return dag.Grant(list...)
}

// permissions are what --allow can grant.
func permissions() string {
	var names []string
	for _, p := range dag.Permissions() {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// check refuses what cannot be done before anything is done.
func (f *buildFlags) check() error {
	for _, a := range f.allow {
		if !slices.Contains(dag.Permissions(), dag.Permission(a)) {
			return mistake.Unsupported("--allow "+a, "these can be allowed: "+permissions())
		}
	}
	if f.jobs < 0 {
		return mistake.New("--jobs %d: want a positive number", f.jobs)
	}
	if err := f.lang.checkValues(); err != nil {
		return err
	}
	return f.refused.check()
}

// progressMode is --progress or the environment's.
func (f *buildFlags) progressMode() string {
	if f.quiet {
		return "quiet"
	}
	for _, v := range []string{f.progress, os.Getenv("BUILDER_PROGRESS"), os.Getenv("BUILDKIT_PROGRESS")} {
		if v != "" {
			return v
		}
	}
	return "auto"
}
