package flags

import (
	"io"
	"strconv"
	"strings"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/build/inputs"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor/source"
	"layered.build/builder/executor/sshagent"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/config"
)

// Invocation is a command line of build or plan, parsed: what is asked for, and how it is
// shown.
type Invocation struct {
	Request build.Request
	Inputs  inputs.Spec
	Access  engine.Access
	Caches  inputs.Caches
	// Processes is how many processes this program runs at once; 0: one for each CPU.
	Processes int

	Call Call
	// Progress is a mode of package progress.
	Progress string
	// IDFile and MetadataFile are written when the build is done, LogFile while it goes
	// on; "" is none.
	IDFile, MetadataFile, LogFile string
	// Quiet prints nothing but the image's id.
	Quiet bool
	// Debug explains warnings, Stats prints what processes used.
	Debug, Stats bool
	// Notes name flags that change nothing.
	Notes []string
}

// Environment is what a command line is read in.
type Environment struct {
	// Lookup looks up a variable.
	Lookup func(name string) (string, bool)
	Stdin  io.Reader
	// Version is the program's.
	Version string
	// Proxies are variables (HTTP_PROXY, http_proxy, …) that RUN gets unless build
	// arguments say otherwise.
	Proxies map[string]string
	// Config reads the configuration files; nil: there are none.
	Config func() (*config.Config, error)
}

func (e Environment) getenv(name string) string {
	v, _ := e.Lookup(name)
	return v
}

// Parse reads the flags and the argument, which names the context. Files that values
// name are read, and keys for ssh agents; the context is not. Errors of values are
// mistakes.
func (f *Build) Parse(context string, env Environment) (*Invocation, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	inv := &Invocation{
		IDFile: f.iidfile, MetadataFile: f.metadataFile, LogFile: f.lang.logFile, Progress: f.progressMode(env.getenv),
		Quiet: f.quiet, Debug: f.lang.debug, Stats: f.total.stats, Notes: f.refused.notes(),
		Access: f.registry.Access(), Processes: f.jobs,
	}
	var err error
	if inv.Call, err = f.lang.parseCall(); err != nil {
		return nil, err
	}
	if inv.Request, err = f.request(env); err != nil {
		return nil, err
	}
	if inv.Call.What == CallCheck && inv.Request.Plan.Target == "" { // as BuildKit
		inv.Request.Plan.AllStages = true
	}
	args := inv.Request.Plan.BuildArgs
	if inv.Inputs, err = f.inputs(context, env, args); err != nil {
		return nil, err
	}
	inline, err := strconv.ParseBool(args["BUILDKIT_INLINE_CACHE"]) // another value is none, as in BuildKit
	if inv.Caches, err = f.caches(env, inline && err == nil); err != nil {
		return nil, err
	}
	inv.Access.Retry, err = f.lang.retries()
	inv.Inputs.Retry = source.Retry(inv.Access.Retry)
	return inv, err
}

// request is what is asked for.
func (f *Build) request(env Environment) (r build.Request, err error) {
	if r.Exporters, err = f.parseOutputs(); err != nil {
		return r, err
	}
	if r.Plan, r.SeccompProfiles, err = f.planOptions(env); err != nil {
		return r, err
	}
	if r.Total, err = f.total.limits(); err != nil {
		return r, err
	}
	if r.Pull, err = f.lang.when(); err != nil {
		return r, err
	}
	if v := r.Plan.BuildArgs["BUILDKIT_MULTI_PLATFORM"]; v != "" {
		if r.MultiPlatform, err = strconv.ParseBool(v); err != nil {
			return r, mistake.New("--build-arg BUILDKIT_MULTI_PLATFORM=%s: want true or false", v)
		}
		if n := len(r.Plan.Platforms); n > 1 && !r.MultiPlatform {
			return r, mistake.New("--build-arg BUILDKIT_MULTI_PLATFORM=%s: the build is for %d platforms", v, n)
		}
	}
	if r.SecretScan, err = parseSecretScan(f.secretScan); err != nil {
		return r, err
	}
	if v := env.getenv("BUILDER_CACHE_MOUNT_KEY"); v != "" {
		r.MountKey = strings.Split(v, ",")
	}
	r.Total.Parent = f.limits.cgroupParent
	r.Timeout = f.total.timeout
	r.Names, r.Grants, r.Verify, r.Squash, r.AllTargets = f.tags, f.grants(), f.verify, f.lang.squash, f.lang.allTargets
	r.Describe = f.quiet || f.iidfile != "" || f.metadataFile != ""
	return r, nil
}

// inputs are what the build reads.
func (f *Build) inputs(context string, env Environment, args map[string]string) (s inputs.Spec, err error) {
	s = inputs.Spec{
		Context: context, Dockerfile: f.file, IgnoreFile: f.lang.ignoreFile, Stdin: env.Stdin,
		CommitTimes: args["SOURCE_DATE_EPOCH"] != "", Version: env.Version, AgentSocket: env.getenv("SSH_AUTH_SOCK"),
	}
	if keep, err := strconv.ParseBool(args["BUILDKIT_CONTEXT_KEEP_GIT_DIR"]); err == nil {
		s.KeepGitDir = keep
	}
	if s.Named, err = inputs.ParseNamed(f.contexts); err != nil {
		return s, err
	}
	if s.Secrets, err = parseSecrets(f.secrets); err != nil {
		return s, err
	}
	s.Agents, err = f.agents(env)
	return s, err
}

// agents opens the ssh agents.
func (f *Build) agents(env Environment) (sshagent.Agents, error) {
	out := sshagent.Agents{}
	for _, v := range f.lang.ssh {
		id, src, err := sshagent.Parse(v)
		if err != nil {
			return nil, mistake.New("--ssh %q: %w", v, err)
		}
		if out[id] != nil {
			return nil, mistake.New("--ssh %q: the id %s is given twice", v, id)
		}
		if out[id], err = sshagent.Open(src, env.getenv); err != nil {
			return nil, mistake.New("--ssh %q: %w", v, err)
		}
	}
	return out, nil
}

// progressMode is --progress or the environment's.
func (f *Build) progressMode(getenv func(string) string) string {
	if f.quiet {
		return "quiet"
	}
	if f.progress != "" {
		return f.progress
	}
	return ProgressMode(getenv)
}

// ProgressMode is how progress is shown where no flag says it.
func ProgressMode(getenv func(string) string) string {
	for _, name := range []string{"BUILDER_PROGRESS", "BUILDKIT_PROGRESS"} {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return "auto"
}
