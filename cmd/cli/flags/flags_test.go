package flags

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"layered.build/builder/cmd/build/inputs"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry/export"
)

func parseFlags(t *testing.T, args ...string) *Build {
	t.Helper()
	f := &Build{}
	set := pflag.NewFlagSet("build", pflag.ContinueOnError)
	f.Register(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

func isMistake(err error) bool {
	var m *mistake.Error
	return errors.As(err, &m)
}

func noEnv(string) (string, bool) { return "", false }

func TestPlanOptions(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"FROM_ENV": "yes", "SOURCE_DATE_EPOCH": "7"}[name]
		return v, ok
	}
	f := parseFlags(t, "--build-arg", "A=b=c", "--build-arg", "FROM_ENV", "--build-arg", "UNSET", "--build-arg", "EMPTY=",
		"--label", "l=v", "--label", "alone", "--add-host", "a:10.0.0.1", "--add-host", "b=::1",
		"--memory", "512m", "--cpus", "1.5", "--ulimit", "nofile=10:20", "--shm-size", "1g", "--network", "none")
	opts, _, err := f.planOptions(Environment{Lookup: env})
	if err != nil {
		t.Fatal(err)
	}
	wantArgs := map[string]string{"A": "b=c", "FROM_ENV": "yes", "EMPTY": "", "SOURCE_DATE_EPOCH": "7"}
	if !reflect.DeepEqual(opts.BuildArgs, wantArgs) {
		t.Errorf("build args %v, want %v", opts.BuildArgs, wantArgs)
	}
	if want := map[string]string{"l": "v", "alone": ""}; !reflect.DeepEqual(opts.Labels, want) {
		t.Errorf("labels %v, want %v", opts.Labels, want)
	}
	if want := []dag.HostAlias{{Host: "a", IP: "10.0.0.1"}, {Host: "b", IP: "::1"}}; !reflect.DeepEqual(opts.Hosts, want) {
		t.Errorf("hosts %v, want %v", opts.Hosts, want)
	}
	if want := (dag.Limits{Memory: 512 << 20, CPUs: 1.5}); opts.Limits != want {
		t.Errorf("limits %+v, want %+v", opts.Limits, want)
	}
	if want := []dag.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}}; !reflect.DeepEqual(opts.Ulimits, want) {
		t.Errorf("ulimits %v, want %v", opts.Ulimits, want)
	}
	if opts.ShmSize != 1<<30 || opts.Network != dag.NetNone {
		t.Errorf("shm %d, network %q", opts.ShmSize, opts.Network)
	}
}

// TestCheckedStages proves that a check looks at all stages unless one is named, and what
// builds does not.
func TestCheckedStages(t *testing.T) {
	for args, want := range map[string]bool{
		"--check": true, "--call=check": true, "--check --target=x": false, "--call=outline": false, "--progress=plain": false,
	} {
		inv, err := parseFlags(t, strings.Fields(args)...).Parse(".", Environment{Lookup: noEnv})
		if err != nil || inv.Request.Plan.AllStages != want {
			t.Errorf("%s: %v, want %t", args, err, want)
		}
	}
}

// TestRefused checks that what is not supported is refused by name.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--sbom", "--sbom"},
		{"--provenance=mode=max", "--provenance"},
		{"--provenance", "--provenance"},
		{"--sbom=true", "--sbom"},
		{"--provenance=false --provenance=true", "--provenance"},
		{"--attest type=sbom", "--attest"},
		{"--attest type=provenance,disabled=true --attest type=sbom,disabled=false", "--attest"},
		{"--platform bogus/x/y/z", "--platform"},
		{"--network host", "--network=host"},
		{"--network bridge", "--network=bridge"},
		{"--add-host a:nonsense", "--add-host"},
		{"--allow everything", "--allow everything"},
		{"--memory lots", "--memory"},
		{"--memory-swap 1g", "--memory-swap"},
		{"--memory 2g --memory-swap 1g", "--memory-swap"},
		{"--cpus 1 --cpu-quota 5", "--cpus"},
		{"--cpu-shares -1", "--cpu-shares"},
		{"--ulimit nofile", "--ulimit"},
		{"--memory 1g --memory-reservation 2g", "--memory-reservation"},
		{"--timeout -1s", "--timeout"},
		{"--blkio-weight 5", "--blkio-weight"},
		{"--device-read-bps /dev/null:1mb", "no block device"},
		{"--device-write-bps 1mb", "PATH:RATE"},
		{"--device-read-iops /dev/none:0", "no rate"},
		{"--device-write-iops /dev/none:10", "/dev/none"},
		{"--build-arg =x", "--build-arg"},
		{"--no-cache --no-cache-filter a", "--no-cache"},
		{"--no-cache --no-cache=a", "--no-cache"},
		{"--cache-ttl=soon", "--cache-ttl"},
		{"--jobs -1", "--jobs"},
	} {
		f := parseFlags(t, strings.Fields(c.args)...)
		err := f.check()
		if err == nil {
			_, _, err = f.planOptions(Environment{Lookup: noEnv})
		}
		if !isMistake(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %#v, want a refusal that names %s", c.args, err, c.want)
		}
	}
	f := parseFlags(t, "--provenance=false", "--sbom=0",
		"--attest", "type=provenance,disabled=true", "--attest", "type=sbom,disabled=1", "--rm", "--compress", "--load", "--network", "host", "--allow", "network.host")
	if err := f.check(); err != nil {
		t.Errorf("harmless flags are refused: %v", err)
	}
	if _, _, err := f.planOptions(Environment{Lookup: noEnv}); err != nil {
		t.Errorf("allowed network: %v", err)
	}
	want := []string{"--attest=type=provenance,disabled=true", "--compress", "--provenance=false", "--rm", "--sbom=0"}
	notes := f.refused.notes()
	if !slices.EqualFunc(notes, want, func(n, flag string) bool { return strings.HasPrefix(n, flag+" changes nothing: ") }) {
		t.Errorf("notes %q, want one for each of %v", notes, want)
	}
}

// TestOutputs compares what flags mean with what an exporter's text or an engine's name
// does.
func TestOutputs(t *testing.T) {
	for _, c := range []struct {
		args string
		want []string
		err  string
	}{
		{args: "", want: []string{"type=image"}},
		{args: "--load", want: []string{"type=image"}},
		{args: "-t a --push", want: []string{"type=image,push=true"}},
		{args: "--push", err: "needs a name"},
		{args: "-o type=docker,dest=- --load", want: []string{"type=docker,dest=-", "type=image"}},
		{args: "--load=docker", want: []string{"docker"}},
		{args: "--load=podman -o type=image", want: []string{"type=image", "podman"}},
		{args: "--load=containerd", err: "by their names alone"},
		{args: "--load=containerd -t a", want: []string{"containerd"}},
		{args: "--platform linux/amd64,linux/arm64 --load=containerd -t a", want: []string{"containerd"}},
		{args: "--load=other", err: "--load=other"},
		{args: "--load=false", want: []string{"type=image"}},
		{args: "--platform linux/amd64,linux/arm64 --load=docker", err: "an image for one platform"},
		{args: "-o type=tar,dest=x --annotation a=b", err: "--annotation"},
		{args: "--annotation nothing", err: "--annotation"},
		{args: "--annotation index[linux/amd64]:a=b", err: "cannot be chosen"},
		{args: "--platform linux/amd64,linux/arm64 -o type=docker,dest=x", err: "type=docker holds an image for one platform"},
		{args: "-o - -o type=oci,dest=-", err: "stdout can take one thing only"},
		{args: "-q -o -", err: "stdout can take one thing only"},
		{args: "-o type=cacheonly --iidfile x", err: "--iidfile"},
		{args: "-o type=image --annotation a=b", want: []string{"type=image,annotation.a=b"}},
		{args: "-o type=oci,dest=x --annotation manifest-descriptor:a=b", want: []string{"type=oci,dest=x,annotation-manifest-descriptor.a=b"}},
		{args: "-t a -o type=docker --push", want: []string{"type=registry"}},
	} {
		var want []export.Exporter
		for _, text := range c.want {
			want = append(want, exporterOf(t, text))
		}
		got, err := parseFlags(t, strings.Fields(c.args)...).parseOutputs()
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.args, err, c.err)
			}
		case err != nil || !reflect.DeepEqual(got, want):
			t.Errorf("%q: got %+v, %v, want %+v", c.args, got, err, want)
		}
	}
}

func exporterOf(t *testing.T, text string) export.Exporter {
	t.Helper()
	if !strings.Contains(text, "=") {
		return export.ToEngine(text)
	}
	s, err := export.ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	e, err := export.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BUILDER_TEST_SECRET", "from env")
	s, err := parseSecrets([]string{"id=a,src=" + file, "id=b,env=BUILDER_TEST_SECRET", "id=BUILDER_TEST_SECRET", "src=" + file})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"a": "s3cret", "b": "from env", "BUILDER_TEST_SECRET": "from env", "token": "s3cret"} {
		got, err := s.Secret(t.Context(), id)
		if err != nil || string(got) != want {
			t.Errorf("secret %s = %q, %v, want %q", id, got, err, want)
		}
	}
	if _, err := s.Secret(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown secret: %v", err)
	}
	for _, bad := range []string{"id=x,src=/does/not/exist", "src=,env=", "id=x,foo=bar", "id=x,src=a,env=b", "id=x,type=pipe"} {
		if _, err := parseSecrets([]string{bad}); err == nil {
			t.Errorf("--secret %s is accepted", bad)
		}
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, inputs.MaxSecret+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = parseSecrets([]string{"id=big,src=" + big}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Secret(t.Context(), "big"); err == nil {
		t.Error("a secret beyond the bound is read")
	}
}

func TestVolumes(t *testing.T) {
	dir := t.TempDir()
	m, err := parseVolume(dir + ":/data:ro")
	if err != nil || m.HostPath != dir || m.Dest != "/data" || !m.ReadOnly {
		t.Errorf("%+v %v", m, err)
	}
	for _, bad := range []string{"name:/data", dir, dir + ":data", dir + ":/data:shared", "/does/not/exist:/x"} {
		if _, err := parseVolume(bad); err == nil {
			t.Errorf("-v %s is accepted", bad)
		}
	}
}
