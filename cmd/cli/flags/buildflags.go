package flags

import (
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"layered.build/builder/executor/binfmt"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
)

// Build are the flags of build and plan as they were written.
type Build struct {
	file         string
	tags         []string
	target       string
	buildArgs    []string
	labels       []string
	reuse        reuseFlags
	argScope     string
	iidfile      string
	metadataFile string
	quiet        bool
	progress     string
	outputs      []string
	push         bool
	load         string
	platforms    []string
	annotations  []string
	addHosts     []string
	network      string
	allow        []string
	secrets      []string
	secretScan   string
	jobs         int
	verify       bool
	contexts     []string
	cacheFrom    []string
	cacheTo      []string
	limits       limitFlags
	total        totalFlags
	refused      refusedFlags
	lang         langFlags
	registry     Registry
}

// Register defines the flags.
func (f *Build) Register(fs *pflag.FlagSet) {
	fs.StringVarP(&f.file, "file", "f", "", "name of the Dockerfile (default PATH/Dockerfile; - is stdin)")
	ArrayVar(fs, &f.tags, "tag", "t", "name of the image; may be repeated")
	fs.StringVar(&f.target, "target", "", "stage to build")
	ArrayVar(fs, &f.buildArgs, "build-arg", "", "value of an ARG, NAME=VALUE; NAME alone takes it from the environment")
	ArrayVar(fs, &f.labels, "label", "", "label of the image, NAME=VALUE")
	f.reuse.register(fs)
	fs.StringVar(&f.argScope, "arg-scope", "", "which RUNs an ARG reaches: all, or used: those that name it (default all; $BUILDER_ARG_SCOPE, config.toml)")
	fs.StringVar(&f.iidfile, "iidfile", "", "write the image's id to a file")
	fs.StringVar(&f.metadataFile, "metadata-file", "", "write digests and names as JSON to a file")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print the image's id only")
	fs.StringVar(&f.progress, "progress", "", "auto, tty, plain, quiet or json ($BUILDER_PROGRESS, $BUILDKIT_PROGRESS)")
	ArrayVar(fs, &f.outputs, "output", "o", "type=image|registry|oci|docker|local|tar|cacheonly with options (docs/COMPATIBILITY.md); DIR: files; -: tar on stdout")
	ArrayVar(fs, &f.annotations, "annotation", "", "annotation of the image, [TYPE[PLATFORM]:]KEY=VALUE")
	fs.BoolVar(&f.push, "push", false, "push the image to its registry")
	fs.StringVar(&f.load, "load", "", "keep the image in the store (the default), or with =docker, =containerd or =podman give it to that engine instead, with =auto to the first of these that is there")
	fs.Lookup("load").NoOptDefVal = loadStore
	SliceVar(fs, &f.platforms, "platform", "", "platforms of the image (linux/arm64, local, …); a list or repeated")
	ArrayVar(fs, &f.addHosts, "add-host", "", "line of /etc/hosts, NAME:IP")
	fs.StringVar(&f.network, "network", "default", "network of RUN: default, none, host or ns:PATH (a network namespace)")
	SliceVar(fs, &f.allow, "allow", "", "grant "+permissions())
	ArrayVar(fs, &f.secrets, "secret", "", "secret for RUN --mount=type=secret, id=ID[,src=FILE|,env=NAME|,cmd=COMMAND]")
	fs.StringVar(&f.secretScan, "secret-scan", "", "what happens if a RUN leaves a secret in its files or log: error, warn or off (default: error if it looks like a secret, else warn)")
	fs.IntVar(&f.jobs, "jobs", 0, "how many RUN steps at once (default one for each CPU)")
	fs.BoolVar(&f.verify, "cache-verify", false, "run steps although they are cached, and say what they made differently (exit code 1); the image is that of the cache")
	RegisterIsolation(fs)
	f.limits.register(fs)
	f.total.register(fs)
	f.lang.register(fs)
	ArrayVar(fs, &f.contexts, "build-context", "", "files or an image under a name, NAME=DIR|URL|docker-image://REF|oci-layout://DIR[:TAG]")
	ArrayVar(fs, &f.cacheFrom, "cache-from", "", "shared cache to read, type=KIND,KEY=VALUE,… or an image's name (docs/COMPATIBILITY.md; default $BUILDER_CACHE, config.toml; none: no cache)")
	ArrayVar(fs, &f.cacheTo, "cache-to", "", "shared cache to write, type=KIND,KEY=VALUE,… (default $BUILDER_CACHE, config.toml; none: no cache)")
	f.refused.register(fs)
	f.registry.Register(fs)
}

// planOptions turns the flags into the planner's options. It also returns the seccomp
// profiles that these name.
func (f *Build) planOptions(in Environment) (opts planner.Options, profiles map[digest.Digest][]byte, err error) {
	env := in.Lookup
	opts = planner.Options{
		Target:    f.target,
		BuildArgs: map[string]string{}, Labels: map[string]string{},
		BuildPlatform: binfmt.Local(), CanRun: binfmt.Machine{Own: binfmt.Local()}.CanRun,
	}
	if err := f.reuse.options(&opts); err != nil {
		return opts, nil, err
	}
	if opts.ArgScope, err = f.scope(in); err != nil {
		return opts, nil, err
	}
	if err := f.lang.addArgFiles(opts.BuildArgs, env); err != nil {
		return opts, nil, err
	}
	for _, a := range f.buildArgs {
		name, value, ok := strings.Cut(a, "=")
		if name == "" {
			return opts, nil, mistake.New("--build-arg %q: the name is missing", a)
		}
		if !ok {
			if value, ok = env(name); !ok {
				continue
			}
		}
		opts.BuildArgs[name] = value
	}
	for name, value := range in.Proxies {
		if _, ok := opts.BuildArgs[name]; !ok {
			opts.BuildArgs[name] = value
		}
	}
	if _, ok := opts.BuildArgs["SOURCE_DATE_EPOCH"]; !ok {
		if v, ok := env("SOURCE_DATE_EPOCH"); ok && v != "" {
			opts.BuildArgs["SOURCE_DATE_EPOCH"] = v
		}
	}
	for _, l := range f.labels {
		name, value, _ := strings.Cut(l, "=")
		if name == "" {
			return opts, nil, mistake.New("--label %q: the name is missing", l)
		}
		opts.Labels[name] = value
	}
	if opts.Platforms, err = PlatformsOrDefault(f.platforms, in.getenv); err != nil {
		return opts, nil, err
	}
	if opts.Hosts, err = parseHosts(f.addHosts); err != nil {
		return opts, nil, err
	}
	if opts.Network, err = f.parseNetwork(); err != nil {
		return opts, nil, err
	}
	if opts.Limits, err = f.limits.limits(); err != nil {
		return opts, nil, err
	}
	if opts.Ulimits, err = f.limits.ulimits(); err != nil {
		return opts, nil, err
	}
	if opts.ShmSize, err = f.limits.shm(); err != nil {
		return opts, nil, err
	}
	profiles, err = f.lang.options(&opts, env)
	return opts, profiles, err
}

func (f *Build) parseNetwork() (dag.Network, error) {
	grants := f.grants()
	net, err := parseNetwork(f.network)
	if err != nil {
		return "", err
	}
	if net == dag.NetHost && !grants.Has(dag.PermissionNetworkHost) {
		return "", mistake.New("--network=host needs the permission network.host").WithHint("add --allow network.host")
	}
	if _, ok := net.Namespace(); ok && !grants.Has(dag.PermissionNetworkNS) {
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

// grants are what --allow grants.
func (f *Build) grants() dag.Grants {
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
func (f *Build) check() error {
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
