package flags

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"layered.build/builder/cmd/build"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/registry"
)

// langFlags are the flags that say how the Dockerfile is read and what RUN
// instructions get; most are buildah's.
type langFlags struct {
	ssh   []string
	call  string
	check bool
	debug bool

	argFiles    []string
	env         []string
	unsetEnv    []string
	unsetLabels []string
	ignoreFile  string
	from        string
	allTargets  bool
	timestamp   string
	layers      bool
	squash      bool
	logFile     string
	pull        string
	retry       int
	retryDelay  string
	run         runOptionFlags
}

func (l *langFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&l.call, "call", "build", "what to do: build, check, outline or targets; with ,format=json")
	fs.BoolVar(&l.check, "check", false, "check the Dockerfile only; the same as --call=check")
	fs.BoolVarP(&l.debug, "debug", "D", false, "show every warning with its explanation and its lines")
	ArrayVar(fs, &l.ssh, "ssh", "", "ssh agent for RUN --mount=type=ssh: default, ID, or ID=SOCKET|KEY[,KEY...]")
	ArrayVar(fs, &l.argFiles, "build-arg-file", "", "file of build arguments, NAME=VALUE a line")
	ArrayVar(fs, &l.env, "env", "", "variable that every stage and the image begin with, NAME[=VALUE]; ENV overrides it")
	ArrayVar(fs, &l.unsetEnv, "unsetenv", "", "variable that the image does not get")
	ArrayVar(fs, &l.unsetLabels, "unsetlabel", "", "label that is not taken over from base images")
	fs.StringVar(&l.ignoreFile, "ignorefile", "", "file to read instead of .dockerignore")
	fs.StringVar(&l.from, "from", "", "image that replaces what the first FROM names")
	fs.BoolVar(&l.allTargets, "all-targets", false, "build every stage, not only those that the target needs")
	fs.StringVar(&l.timestamp, "timestamp", "", "seconds since 1970: SOURCE_DATE_EPOCH for this build")
	fs.StringVar(&l.timestamp, "source-date-epoch", "", "")
	fs.Lookup("source-date-epoch").Hidden = true
	fs.BoolVar(&l.layers, "layers", true, "accepted: every step has a layer and is cached")
	fs.BoolVar(&l.squash, "squash", false, "make one layer of all that the build adds to its base")
	fs.StringVar(&l.logFile, "logfile", "", "write progress and warnings to a file")
	fs.StringVar(&l.pull, "pull", "missing", "when to ask registries for base images: always, missing, never or newer")
	fs.Lookup("pull").NoOptDefVal = string(build.PullAlways)
	fs.IntVar(&l.retry, "retry", 0, "how often a transfer, also of ADD, that failed for a passing reason is tried again (default 4)")
	fs.StringVar(&l.retryDelay, "retry-delay", "", "pause before the second try; it doubles (default 250ms)")
	l.run.register(fs)
}

// when is --pull.
func (l *langFlags) when() (build.Pull, error) { return parsePull(l.pull) }

// parsePull reads a value of --pull.
func parsePull(value string) (build.Pull, error) {
	switch p := build.Pull(value); p {
	case "true":
		return build.PullAlways, nil
	case "false", "":
		return build.PullMissing, nil
	case build.PullAlways, build.PullMissing, build.PullNever, build.PullNewer:
		return p, nil
	}
	return "", mistake.New("--pull=%s is not supported", value).WithHint("use always, missing, never or newer")
}

// checkValues refuses values that mean nothing.
func (l *langFlags) checkValues() error {
	if _, err := l.when(); err != nil {
		return err
	}
	if !l.layers {
		return mistake.Unsupported("--layers=false", "every step has a layer; --squash makes one of them")
	}
	if l.retry < 0 {
		return mistake.New("--retry %d: want a positive number", l.retry)
	}
	_, err := l.retries()
	return err
}

// retries are --retry and --retry-delay.
func (l *langFlags) retries() (registry.Retry, error) {
	r := registry.Retry{}
	if l.retry > 0 {
		r.Attempts = l.retry + 1
	}
	if l.retryDelay != "" {
		d, err := time.ParseDuration(l.retryDelay)
		if err != nil || d <= 0 {
			return r, mistake.New("--retry-delay %q is not a duration", l.retryDelay).WithHint("write 500ms, 2s, 1m")
		}
		r.Wait, r.MaxWait = d, max(d, 8*time.Second)
	}
	return r, nil
}

// addArgFiles reads --build-arg-file: NAME=VALUE or NAME (from the environment) a
// line, # for comments.
func (l *langFlags) addArgFiles(args map[string]string, env func(string) (string, bool)) error {
	for _, path := range l.argFiles {
		f, err := os.Open(path)
		if err != nil {
			return mistake.New("--build-arg-file: %w", err)
		}
		err = addArgLines(bufio.NewScanner(f), path, args, env)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func addArgLines(lines *bufio.Scanner, path string, args map[string]string, env func(string) (string, bool)) error {
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if name == "" || strings.ContainsAny(name, " \t") {
			return mistake.New("%s:%d: %q is not a build argument", path, n, line).WithHint("write NAME=VALUE")
		}
		if !ok {
			if value, ok = env(name); !ok {
				continue
			}
		}
		args[name] = value
	}
	if err := lines.Err(); err != nil {
		return mistake.New("--build-arg-file %s: %w", path, err)
	}
	return nil
}

// options adds what the flags say to the planner's options. It also returns the seccomp
// profiles that these name.
func (l *langFlags) options(opts *planner.Options, env func(string) (string, bool)) (profiles map[digest.Digest][]byte, err error) {
	opts.From, opts.AllStages = l.from, l.allTargets
	opts.UnsetEnv, opts.UnsetLabels = l.unsetEnv, l.unsetLabels
	for _, v := range l.env {
		name, value, ok := strings.Cut(v, "=")
		if name == "" {
			return nil, mistake.New("--env %q: the name is missing", v)
		}
		if !ok {
			if value, ok = env(name); !ok {
				continue
			}
		}
		opts.Env = append(opts.Env, [2]string{name, value})
	}
	if l.timestamp != "" {
		if n, err := strconv.ParseInt(l.timestamp, 10, 64); err != nil || n < 0 {
			return nil, mistake.New("--timestamp %q: want seconds since 1970", l.timestamp)
		}
		opts.BuildArgs["SOURCE_DATE_EPOCH"] = l.timestamp
	}
	opts.Run, profiles, err = l.run.options()
	return profiles, err
}

// hostGateway is an address of this machine that a step's network reaches: what
// listens on all addresses of the machine can be connected to there.
func hostGateway() (netip.Addr, error) {
	// Nothing is sent: this asks the kernel which address it would send from.
	c, err := net.Dial("udp4", "192.0.2.1:9")
	if err == nil {
		defer c.Close()
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok && !a.IP.IsLoopback() {
			if addr, ok := netip.AddrFromSlice(a.IP); ok {
				return addr.Unmap(), nil
			}
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find an address of this machine: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			addr, _ := netip.AddrFromSlice(n.IP.To4())
			return addr, nil
		}
	}
	return netip.Addr{}, mistake.New("host-gateway: this machine has no address but its loopback, which steps cannot reach")
}
