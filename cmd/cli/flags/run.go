package flags

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	image "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"layered.build/builder/cmd/build"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/parser/mistake"
)

// Run are the flags of `builder run`.
type Run struct {
	// Interactive gives the process stdin, TTY a terminal.
	Interactive, TTY bool
	// Remove keeps nothing; Keep says that the rest is to be kept.
	Remove, Keep bool
	Platform     Platform
	Registry     Registry

	Name          string // of the run
	pull          string
	readOnly      bool
	env           []string
	envFiles      []string
	workdir, user string
	hostname      string
	volumes       []string
	network       string
	entrypoint    string
	addHosts      []string
	limits        limitFlags
	fs            *pflag.FlagSet
}

// Register defines the flags.
func (f *Run) Register(fs *pflag.FlagSet) {
	fs.SetInterspersed(false)
	f.fs = fs
	fs.BoolVarP(&f.Interactive, "interactive", "i", false, "give the process stdin")
	fs.BoolVarP(&f.TTY, "tty", "t", false, "give the process a terminal")
	fs.BoolVar(&f.Remove, "rm", false, "keep nothing")
	fs.BoolVar(&f.Keep, "keep", false, "keep what the process changed (the default)")
	fs.BoolVar(&f.readOnly, "read-only", false, "forbid writes to the root file system")
	fs.StringVar(&f.Name, "name", "", "name of the run")
	ArrayVar(fs, &f.env, "env", "e", "environment variable, NAME=VALUE; NAME alone takes it from here")
	ArrayVar(fs, &f.envFiles, "env-file", "", "file of environment variables")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "working directory")
	fs.StringVarP(&f.user, "user", "u", "", "user[:group]")
	fs.StringVarP(&f.hostname, "hostname", "h", "", "host name")
	fs.Bool("help", false, "help for run") // whose letter is the host name's
	ArrayVar(fs, &f.volumes, "volume", "v", "directory or file of this machine, HOST:CONTAINER[:ro]")
	fs.StringVar(&f.network, "network", "default", "default, none, host or ns:PATH (a network namespace)")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "replaces the image's entrypoint")
	ArrayVar(fs, &f.addHosts, "add-host", "", "line of /etc/hosts, NAME:IP")
	fs.StringVar(&f.pull, "pull", string(build.PullMissing), "when to ask the registry for the image: always, missing, never or newer")
	f.Platform.Register(fs, WhichPlatform)
	RegisterIsolation(fs)
	f.limits.register(fs)
	f.Registry.Register(fs)
}

// Spec turns the flags that need no image into a sandbox specification.
func (f *Run) Spec() (sandbox.Spec, error) {
	spec := sandbox.Spec{Hostname: f.hostname, ReadOnlyRoot: f.readOnly, TTY: f.TTY}
	var err error
	if spec.Network, err = parseNetwork(f.network); err != nil {
		return spec, err
	}
	if spec.Limits, err = f.limits.limits(); err != nil {
		return spec, err
	}
	if spec.Ulimits, err = f.limits.ulimits(); err != nil {
		return spec, err
	}
	if spec.ShmSize, err = f.limits.shm(); err != nil {
		return spec, err
	}
	if spec.Hosts, err = parseHosts(f.addHosts); err != nil {
		return spec, err
	}
	for _, v := range f.volumes {
		m, err := parseVolume(v)
		if err != nil {
			return spec, err
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	return spec, nil
}

// Pull is when the registry is asked for the image.
func (f *Run) Pull() (build.Pull, error) { return parsePull(f.pull) }

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

// Apply changes an image's configuration as the flags say, the way docker run
// does: a new entrypoint drops the image's command, arguments replace it.
func (f *Run) Apply(c *image.DockerOCIImageConfig, args []string) error {
	if f.fs.Changed("entrypoint") {
		c.Entrypoint, c.Cmd = nil, nil
		if f.entrypoint != "" {
			c.Entrypoint = []string{f.entrypoint}
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

// Unset leaves out the variables that the flags set.
func (f *Run) Unset(variables map[string]string) ([]string, error) {
	given := slices.Clone(f.env)
	for _, path := range f.envFiles {
		lines, err := readEnvFile(path)
		if err != nil {
			return nil, err
		}
		given = append(given, lines...)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if !slices.ContainsFunc(given, func(g string) bool { return g == name || strings.HasPrefix(g, name+"=") }) {
			out = append(out, name+"="+variables[name])
		}
	}
	return out, nil
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
