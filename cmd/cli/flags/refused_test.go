package flags

import (
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"layered.build/builder/parser/mistake"
)

// buildxFlags are the flags of docker build and docker buildx build, hidden and
// experimental ones too.
const buildxFlags = `add-host allow annotation attest build-arg build-context builder
	cache-from cache-to call cgroup-parent check compress cpu-period cpu-quota
	cpu-shares cpuset-cpus cpuset-mems debug detach disable-content-trust file force-rm
	help iidfile invoke isolation label load memory memory-swap metadata-file network
	no-cache no-cache-filter no-load output platform policy print progress provenance
	pull push quiet ref resource rm sbom secret security-opt server-config shm-size
	squash ssh stream tag target ulimit`

// buildahFlags are those of buildah build and podman build, of all versions.
const buildahFlags = `add-host all-platforms annotation arch authfile blob-cache build-arg
	build-arg-file build-context cache-from cache-to cache-ttl cap-add cap-drop cert-dir
	cgroup-parent cgroupns cni-config-dir cni-plugin-path compat-volumes compress
	compression-format compression-level cpp-flag cpu-period cpu-quota cpu-shares
	cpuset-cpus cpuset-mems created-annotation creds cw decryption-key device
	disable-compression disable-content-trust dns dns-option dns-search env file
	force-compression force-rm format from group-add help hooks-dir http-proxy
	identity-label ignorefile iidfile iidfile-raw inherit-annotations inherit-labels ipc
	isolation jobs label layer-label layers log-rusage logfile loglevel logsplit manifest
	memory memory-swap metadata-file mount network no-cache no-hostname no-hosts
	omit-history os os-feature os-version output pid platform pull pull-always pull-never
	quiet retry retry-delay rewrite-timestamp rm runtime runtime-flag rusage-logfile
	save-stages sbom sbom-image-output sbom-image-purl-output sbom-merge-strategy
	sbom-output sbom-purl-output sbom-scanner-command sbom-scanner-image secret
	security-opt shm-size sign-by signature-policy skip-unused-stages source-date-epoch
	source-policy-file squash ssh stage-labels stdin tag target timestamp tls-verify
	ulimit unsetannotation unsetenv unsetlabel userns userns-gid-map userns-gid-map-group
	userns-uid-map userns-uid-map-user uts variant volume`

// TestKnownFlags checks that each flag of the other builders is supported, changes
// nothing and says so, or is refused by name with a reason.
func TestKnownFlags(t *testing.T) {
	names := strings.Fields(buildxFlags + " " + buildahFlags)
	if out, err := exec.Command("buildah", "build", "--help").Output(); err != nil {
		t.Logf("the flags of buildah as installed are not compared: %v", err)
	} else {
		for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(string(out), -1) {
			names = append(names, m[1])
		}
	}
	refused := map[string]refusal{}
	for _, r := range refusals() {
		if _, twice := refused[r.name]; twice || (r.hint == "") == (r.noop == "") {
			t.Errorf("--%s is refused twice, or without one reason", r.name)
		}
		refused[r.name] = r
	}
	set := pflag.NewFlagSet("build", pflag.ContinueOnError)
	(&Build{}).Register(set)
	set.Bool("help", false, "") // cobra's
	for _, name := range names {
		f := set.Lookup(name)
		if f == nil {
			t.Errorf("--%s is an unknown flag", name)
			continue
		}
		r, isRefused := refused[name]
		if f.Hidden != isRefused && name != "source-date-epoch" {
			t.Errorf("--%s: hidden %v, refused %v", name, f.Hidden, isRefused)
		}
		if isRefused {
			checkRefusal(t, r)
		}
	}
}

// checkRefusal gives a flag a value that is not harmless, and each harmless one.
func checkRefusal(t *testing.T, r refusal) {
	t.Helper()
	bad := "something"
	if r.isBool {
		bad = "true"
		if len(r.harmless) > 0 && r.harmless[0] == "true" {
			bad = "false"
		}
	}
	for _, v := range append([]string{bad}, r.harmless...) {
		f := &refusedFlags{}
		set := pflag.NewFlagSet("build", pflag.ContinueOnError)
		f.register(set)
		if err := set.Parse([]string{"--" + r.name + "=" + v}); err != nil {
			t.Errorf("--%s=%s: %v", r.name, v, err)
			continue
		}
		err := f.check()
		if v != bad || r.noop != "" {
			if err != nil || (len(f.notes()) == 1) != (r.noop != "") {
				t.Errorf("--%s=%s: %v, notes %q", r.name, v, err, f.notes())
			}
			continue
		}
		var u *mistake.Error
		if !errors.As(err, &u) || !strings.Contains(err.Error(), "--"+r.name) || u.Hint == "" {
			t.Errorf("--%s=%s: %v, want a refusal with a hint", r.name, v, err)
		}
	}
}

// TestOptionValues checks what may stand in flags that have a language of their own:
// it is taken, or refused by its name.
func TestOptionValues(t *testing.T) {
	for _, c := range []struct{ args, err string }{
		{"--add-host a:10.0.0.1 --add-host b=10.0.0.2 --add-host c:::1 --add-host d=[::1] --add-host e;f:10.0.0.3", ""},
		{"--add-host a", "want NAME:IP"},
		{"--add-host :10.0.0.1", "is not a host's name"},
		{"--add-host a;:10.0.0.1", "is not a host's name"},
		{"--add-host a:host", "is not an IP address"},
		{"--network private", "--network=private"},
		{"--network bridge", "--network=bridge"},
		{"--network container:x", "--network=container:x"},
		{"--network ns:relative", "must be absolute"},
		{"--network ns:/proc/1/ns/net", "network.ns"},
		{"--network host", "network.host"},
		{"--ulimit core=0 --ulimit cpu=1 --ulimit data=1 --ulimit fsize=1 --ulimit locks=1 --ulimit memlock=1 --ulimit msgqueue=1", ""},
		{"--ulimit nice=1 --ulimit nofile=1:2 --ulimit nproc=1 --ulimit rss=1 --ulimit rtprio=1 --ulimit rttime=1 --ulimit sigpending=1 --ulimit stack=-1:-1", ""},
		{"--ulimit files=1", "files"},
		{"--ulimit host", "host"},
		{"--ulimit nofile=2:1", "nofile"},
		{"--shm-size 1.5g --memory 1g --memory-swap -1", ""},
		{"--shm-size x", "--shm-size"},
		{"--dns none", "--dns"},
		{"--dns-option ndots:2 --dns-search example.org --dns 10.0.0.1 --dns ::1", ""},
		{"--device /dev/null:/dev/x:rw", ""},
		{"--device /dev/null:x", "--device"},
		{"--device /dev/null:/dev/x:rwx", "--device"},
		{"--cap-add nothing", "--cap-add"},
		{"--volume name:/x", "--volume name:/x"},
		{"--volume /tmp:/x:z", "option z"},
		{"--allow device=vendor.com/x", "--allow device=vendor.com/x"},
		{"--timestamp -1", "--timestamp"},
		{"--source-date-epoch 5", ""},
		{"--retry -1", "--retry"},
		{"--pull=sometimes", "--pull=sometimes"},
		{"--platform all", "--platform"},
	} {
		f := parseFlags(t, strings.Fields(c.args)...)
		err := f.check()
		if err == nil {
			_, _, err = f.planOptions(Environment{Lookup: noEnv})
		}
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", c.args, err)
		case c.err != "" && (!isMistake(err) || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: got %v, want %q", c.args, err, c.err)
		}
	}
}
