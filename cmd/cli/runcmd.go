package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	image "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// runFlags are the flags of `builder run`.
type runFlags struct {
	interactive, tty bool
	remove, keep     bool
	readOnly         bool
	name             string
	env              []string
	envFiles         []string
	workdir, user    string
	hostname         string
	volumes          []string
	network          string
	entrypoint       string
	addHosts         []string
	pull             bool
	platform         platformFlag
	limits           limitFlags
}

func (a *app) runCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE|STEP [COMMAND] [ARG...]",
		Short: "Start a process on an image or on any step's result",
		Long: `Start a process in a container on an image, or on what any step of a build left
(by the id that "builder history" shows).

What the process changed is kept after it has ended, as docker does: "builder
ps -a" lists such runs, "builder commit" makes an image of one, "builder rm"
removes it. With --rm nothing is kept.`,
		Example: "  builder run --rm -it debian:trixie\n  builder run --name try app sh -c 'echo hi > /greeting'\n  builder commit -c 'CMD [\"cat\", \"/greeting\"]' try app:hi",
		Args:    minArgs(1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			entry := (*string)(nil)
			if cmd.Flags().Changed("entrypoint") {
				entry = &f.entrypoint
			}
			return asRunError(a.run(cmd.Context(), f, entry, args))
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false)
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "give the process stdin")
	fs.BoolVarP(&f.tty, "tty", "t", false, "give the process a terminal")
	fs.BoolVar(&f.remove, "rm", false, "keep nothing")
	fs.BoolVar(&f.keep, "keep", false, "keep what the process changed (the default)")
	fs.BoolVar(&f.readOnly, "read-only", false, "forbid writes to the root file system")
	fs.StringVar(&f.name, "name", "", "name of the run")
	arrayVar(fs, &f.env, "env", "e", "environment variable, NAME=VALUE; NAME alone takes it from here")
	arrayVar(fs, &f.envFiles, "env-file", "", "file of environment variables")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "working directory")
	fs.StringVarP(&f.user, "user", "u", "", "user[:group]")
	fs.StringVar(&f.hostname, "hostname", "", "host name")
	arrayVar(fs, &f.volumes, "volume", "v", "directory or file of this machine, HOST:CONTAINER[:ro]")
	fs.StringVar(&f.network, "network", "default", "default, none or host")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "replaces the image's entrypoint")
	arrayVar(fs, &f.addHosts, "add-host", "", "line of /etc/hosts, NAME:IP")
	fs.BoolVar(&f.pull, "pull", false, "ask the registry even if the store has the image")
	f.platform.register(cmd)
	registerIsolation(fs)
	f.limits.register(fs)
	a.reg.register(fs)
	for _, name := range []string{"detach", "publish", "privileged", "cap-add", "cap-drop", "device", "mount", "link", "restart", "security-opt"} {
		refuse(cmd, name)
	}
	return cmd
}

// refuse makes a flag of docker run an error that names it.
func refuse(cmd *cobra.Command, name string) {
	short := map[string]string{"detach": "d", "publish": "p"}[name]
	cmd.Flags().StringP(name, short, "", "")
	flag := cmd.Flags().Lookup(name)
	flag.Hidden = true
	if name == "detach" || name == "privileged" {
		flag.NoOptDefVal = "true"
	}
	prev := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if flag.Changed {
			return asRunError(mistake.Unsupported("--"+name, "see builder run --help for what is"))
		}
		if prev == nil {
			return nil
		}
		return prev(cmd, args)
	}
}

// asRunError gives errors of `builder run` docker's exit code; signals keep
// theirs.
func asRunError(err error) error {
	var exit *exitError
	var sig signalError
	if err == nil || errors.As(err, &exit) || errors.As(err, &sig) {
		return err
	}
	return &exitError{code: ExitRun, err: err}
}

func (a *app) run(ctx context.Context, f *runFlags, entrypoint *string, args []string) error {
	if f.remove && f.keep {
		return mistake.New("--rm and --keep cannot be combined")
	}
	spec, err := f.spec()
	if err != nil {
		return err
	}
	return a.withEngine(func(e *engine) error {
		img, err := a.imageToRun(ctx, e, args[0], f)
		if err == nil {
			err = runnable(img)
		}
		if err != nil {
			return err
		}
		cfg := img.Config
		if err := f.applyTo(&cfg.Config, entrypoint, args[1:]); err != nil {
			return err
		}
		rec := &runRecord{
			Name: f.name, Image: args[0], ImageID: img.ID.String(), Base: img.Stack, V1: img.V1, Config: cfg,
			Command: append(append([]string(nil), cfg.Config.Entrypoint...), cfg.Config.Cmd...),
		}
		if len(rec.Command) == 0 {
			return mistake.New("the image %s has no command", args[0]).WithHint("give one: builder run %s COMMAND", args[0])
		}
		return a.start(ctx, e, f, spec, rec)
	})
}

// imageToRun finds an image or a step in the store, or pulls the image.
func (a *app) imageToRun(ctx context.Context, e *engine, ref string, f *runFlags) (*registry.Image, error) {
	if !f.pull {
		img, err := f.platform.find(e, ref)
		if err == nil {
			return img, e.completeStack(img)
		}
		if !errors.Is(err, registry.ErrNotFound) {
			return nil, err
		}
	}
	name, err := registry.ParseReference(ref)
	if err != nil {
		return nil, mistake.New("%w", err)
	}
	platform := machine()
	if chosen, err := f.platform.platform(); err != nil {
		return nil, err
	} else if chosen != nil {
		platform = *chosen
	}
	var img *registry.Image
	err = a.shown(quietMode(false), "pulling "+name.String(), func(t *task) error {
		var err error
		img, err = e.client.Pull(registry.WithProgress(ctx, t.transfer), name.String(), platform)
		return err
	})
	return img, err
}

// spec turns the flags that need no image into a sandbox specification.
func (f *runFlags) spec() (*sandbox.Spec, error) {
	spec := &sandbox.Spec{Hostname: f.hostname, ReadOnlyRoot: f.readOnly, TTY: f.tty}
	var err error
	if spec.Network, err = parseNetwork(f.network); err != nil {
		return nil, err
	}
	if spec.Limits, err = f.limits.limits(); err != nil {
		return nil, err
	}
	if spec.Ulimits, err = f.limits.ulimits(); err != nil {
		return nil, err
	}
	if spec.ShmSize, err = f.limits.shm(); err != nil {
		return nil, err
	}
	if spec.Hosts, err = parseHosts(f.addHosts); err != nil {
		return nil, err
	}
	for _, v := range f.volumes {
		m, err := parseVolume(v)
		if err != nil {
			return nil, err
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	return spec, nil
}

// parseVolume reads HOST:CONTAINER[:ro|rw].
func parseVolume(v string) (sandbox.Mount, error) {
	parts := strings.Split(v, ":")
	m := sandbox.Mount{}
	switch len(parts) {
	case 2:
	case 3:
		switch parts[2] {
		case "ro":
			m.ReadOnly = true
		case "rw", "z", "Z":
		default:
			return m, mistake.Unsupported("--volume option "+parts[2], "use ro or rw")
		}
	default:
		return m, mistake.New("--volume %q: want HOST:CONTAINER[:ro]", v).WithHint("volumes without a directory of this machine are not supported")
	}
	if !filepath.IsAbs(parts[1]) {
		return m, mistake.New("--volume %q: the path in the container must be absolute", v)
	}
	if !strings.HasPrefix(parts[0], "/") && !strings.HasPrefix(parts[0], ".") {
		return m, mistake.Unsupported("the named volume "+parts[0], "give a path: ./"+parts[0]+" or an absolute one")
	}
	host, err := filepath.Abs(parts[0])
	if err != nil {
		return m, err
	}
	if _, err := os.Stat(host); err != nil {
		return m, mistake.New("--volume %q: %w", v, err)
	}
	m.HostPath, m.Dest = host, parts[1]
	return m, nil
}

// applyTo changes an image's configuration as the flags say, the way docker run
// does: a new entrypoint drops the image's command, arguments replace it.
func (f *runFlags) applyTo(c *image.DockerOCIImageConfig, entrypoint *string, args []string) error {
	if entrypoint != nil {
		c.Entrypoint, c.Cmd = nil, nil
		if *entrypoint != "" {
			c.Entrypoint = []string{*entrypoint}
		}
	}
	if len(args) > 0 {
		c.Cmd = args
	}
	if f.workdir != "" {
		c.WorkingDir = f.workdir
	}
	if f.user != "" {
		c.User = f.user
	}
	c.Env = append([]string(nil), c.Env...)
	for _, path := range f.envFiles {
		lines, err := readEnvFile(path)
		if err != nil {
			return err
		}
		for _, l := range lines {
			c.Env = setEnv(c.Env, l)
		}
	}
	for _, e := range f.env {
		c.Env = setEnv(c.Env, e)
	}
	return nil
}

func readEnvFile(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, mistake.New("--env-file: %w", err)
	}
	var out []string
	for _, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out, nil
}

// setEnv sets NAME=VALUE; a NAME alone takes this process's value, or unsets.
func setEnv(env []string, assignment string) []string {
	name, _, hasValue := strings.Cut(assignment, "=")
	if !hasValue {
		v, ok := os.LookupEnv(name)
		if !ok {
			return env
		}
		assignment = name + "=" + v
	}
	for i, e := range env {
		if strings.HasPrefix(e, name+"=") {
			env[i] = assignment
			return env
		}
	}
	return append(env, assignment)
}
