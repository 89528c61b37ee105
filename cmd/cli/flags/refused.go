package flags

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"layered.build/builder/parser/mistake"
)

// refusedFlags are flags of docker build, buildx and buildah that are accepted only
// to be refused by name, or because they change nothing here.
type refusedFlags struct {
	fs     *pflag.FlagSet
	values map[string]*[]string
}

// refusal says why a flag is refused, or why it changes nothing.
type refusal struct {
	name     string
	isBool   bool     // no value means true
	hint     string   // why it is refused, or what to use instead
	harmless []string // values that ask for what is done anyway
	// off, unless nil, says of a value that it asks for nothing; it is accepted with a note.
	off  func(value string) bool
	noop string // the flag is accepted; this says why it changes nothing
}

// yes and no are the harmless values of flags with true and false.
var yes, no = []string{"true", "1"}, []string{"false", "0"}

func refusals() []refusal {
	return slices.Concat(dockerRefusals(), buildahRunRefusals(), buildahImageRefusals(), buildahRegistryRefusals())
}

// dockerRefusals are flags of docker build and buildx.
func dockerRefusals() []refusal {
	const attest = "no attestations are made"
	return []refusal{
		{name: "attest", hint: attest, off: noAttestation},
		{name: "builder", hint: "there is no daemon and no builder instance to choose"},
		{name: "compress", isBool: true, noop: "the context is read in place, not sent"},
		{name: "detach", isBool: true, hint: "there is no daemon that would go on", harmless: no},
		{name: "disable-content-trust", isBool: true, hint: "signatures are not checked", harmless: yes},
		{name: "force-rm", isBool: true, noop: "no intermediate containers are kept"},
		{name: "invoke", hint: "`builder run STEP` starts a process on what any step left"},
		{name: "no-load", isBool: true, hint: "-o type=cacheonly keeps no image", harmless: no},
		{name: "policy", hint: "no source policies are read"},
		{name: "print", hint: "use --call=outline or --call=targets"},
		{name: "provenance", isBool: true, hint: attest, off: noAttestation},
		{name: "ref", hint: "there is no history of builds to write to"},
		{name: "resource", hint: "use --memory, --memory-swap, --cpus, --cpu-shares, --cpuset-cpus or --pids-limit"},
		{name: "rm", isBool: true, noop: "no intermediate containers are kept"},
		{name: "sbom", isBool: true, hint: attest, off: noAttestation},
		{name: "server-config", hint: "there is no daemon"},
		{name: "stream", isBool: true, hint: "the context is read in place", harmless: no},
	}
}

// buildahRunRefusals are flags of buildah build about how RUN runs.
func buildahRunRefusals() []refusal {
	const (
		namespace = "every step has a namespace of its own"
		users     = "--isolation=subuid runs steps with the ranges of /etc/subuid"
	)
	own := []string{"private"}
	return []refusal{
		{name: "cgroupns", hint: "steps do not see the cgroups of this machine"},
		{name: "cni-config-dir", hint: "CNI is not used"},
		{name: "cni-plugin-path", hint: "CNI is not used"},
		{name: "compat-volumes", isBool: true, hint: "what RUN writes to a VOLUME stays, as in BuildKit", harmless: no},
		{name: "group-add", hint: "write USER user:group, or add the user to the group in a RUN"},
		{name: "hooks-dir", hint: "no hooks are run"},
		{name: "http-proxy", isBool: true, hint: "give the variables that RUN needs: --build-arg HTTP_PROXY", harmless: no},
		{name: "ipc", hint: namespace, harmless: own},
		{name: "mount", hint: "write RUN --mount=…, or use --volume"},
		{name: "no-hostname", isBool: true, hint: "/etc/hostname is not part of the image", harmless: no},
		{name: "no-hosts", isBool: true, hint: "/etc/hosts is not part of the image", harmless: no},
		{name: "pid", hint: namespace, harmless: own},
		{name: "runtime", hint: "steps run in containers of this program"},
		{name: "runtime-flag", hint: "steps run in containers of this program"},
		{name: "stdin", isBool: true, hint: "RUN reads nothing from outside, or builds could not be repeated; use COPY or a secret", harmless: no},
		{name: "userns-gid-map", hint: users},
		{name: "userns-gid-map-group", hint: users},
		{name: "userns-uid-map", hint: users},
		{name: "userns-uid-map-user", hint: users},
		{name: "uts", hint: namespace, harmless: own},
	}
}

// buildahImageRefusals are flags of buildah build about the image.
func buildahImageRefusals() []refusal {
	const (
		platform = "use --platform OS/ARCH[/VARIANT]"
		compress = "use -o type=image,compression=TYPE,compression-level=N"
		sbom     = "no attestations are made"
		labels   = "--label sets labels of the image"
	)
	return []refusal{
		{name: "all-platforms", isBool: true, hint: "name them with --platform", harmless: no},
		{name: "arch", hint: platform},
		{name: "compression-format", hint: compress},
		{name: "compression-level", hint: compress},
		{name: "cpp-flag", hint: "Dockerfiles are not preprocessed"},
		{name: "created-annotation", isBool: true, hint: "use --annotation org.opencontainers.image.created=TIME", harmless: no},
		{name: "cw", hint: "images for confidential workloads are not made"},
		{name: "disable-compression", isBool: true, hint: "use -o type=image,compression=uncompressed", harmless: no},
		{name: "force-compression", isBool: true, hint: "use -o type=image,force-compression=true", harmless: no},
		{name: "format", hint: "use -o type=image,oci-mediatypes=false for docker's media types; HEALTHCHECK, SHELL and ONBUILD are kept in both", harmless: []string{"oci"}},
		{name: "identity-label", isBool: true, hint: labels, harmless: no},
		{name: "iidfile-raw", hint: "use --iidfile; the id follows sha256:"},
		{name: "inherit-annotations", isBool: true, hint: "annotations belong to one image; give them with --annotation", harmless: no},
		{name: "inherit-labels", isBool: true, hint: "name the labels with --unsetlabel", harmless: yes},
		{name: "layer-label", hint: labels},
		{name: "logsplit", isBool: true, hint: "--logfile is one file", harmless: no},
		{name: "manifest", hint: "with a list of platforms -t names the index of all images"},
		{name: "omit-history", isBool: true, hint: "the history is always kept", harmless: no},
		{name: "os", hint: platform},
		{name: "os-feature", hint: "features are the base image's"},
		{name: "os-version", hint: "the version is the base image's"},
		{name: "rewrite-timestamp", isBool: true, hint: "no time is later than SOURCE_DATE_EPOCH, or --timestamp", harmless: yes},
		{name: "save-stages", isBool: true, hint: "name a stage with --target and -t; --all-targets builds all", harmless: no},
		{name: "sbom-image-output", hint: sbom},
		{name: "sbom-image-purl-output", hint: sbom},
		{name: "sbom-merge-strategy", hint: sbom},
		{name: "sbom-output", hint: sbom},
		{name: "sbom-purl-output", hint: sbom},
		{name: "sbom-scanner-command", hint: sbom},
		{name: "sbom-scanner-image", hint: sbom},
		{name: "sign-by", hint: "sign the pushed image"},
		{name: "skip-unused-stages", isBool: true, hint: "use --all-targets", harmless: yes},
		{name: "stage-labels", isBool: true, hint: labels, harmless: no},
		{name: "unsetannotation", noop: "annotations of base images are not taken over"},
		{name: "variant", hint: platform},
	}
}

// buildahRegistryRefusals are flags of buildah build about where things come from.
func buildahRegistryRefusals() []refusal {
	return []refusal{
		{name: "authfile", hint: "set REGISTRY_AUTH_FILE"},
		{name: "blob-cache", hint: "the store keeps blobs"},
		{name: "creds", hint: "use builder login"},
		{name: "decryption-key", hint: "encrypted images are not read"},
		{name: "log-rusage", isBool: true, hint: "--progress=json tells times", harmless: no},
		{name: "loglevel", hint: "use --progress and --debug"},
		{name: "pull-always", isBool: true, hint: "use --pull=always", harmless: no},
		{name: "pull-never", isBool: true, hint: "use --pull=never", harmless: no},
		{name: "rusage-logfile", hint: "--progress=json tells times"},
		{name: "signature-policy", hint: "signatures are not checked"},
		{name: "source-policy-file", hint: "no source policies are read"},
	}
}

// noAttestation reports whether a value of --attest, --provenance or --sbom asks that no
// attestation is made. What cannot be read asks for one.
func noAttestation(value string) bool {
	if b, err := strconv.ParseBool(value); err == nil {
		return !b
	}
	fields, err := splitCSV(value)
	return err == nil && slices.ContainsFunc(fields, func(f string) bool {
		v, ok := strings.CutPrefix(f, "disabled=")
		b, err := strconv.ParseBool(v)
		return ok && err == nil && b
	})
}

func (r *refusedFlags) register(fs *pflag.FlagSet) {
	r.fs, r.values = fs, map[string]*[]string{}
	for _, f := range refusals() {
		r.values[f.name] = fs.StringArray(f.name, nil, "")
		if f.isBool {
			fs.Lookup(f.name).NoOptDefVal = "true"
		}
		fs.Lookup(f.name).Hidden = true
	}
}

func (r *refusedFlags) check() error {
	for _, f := range refusals() {
		if f.noop != "" {
			continue
		}
		for _, v := range *r.values[f.name] {
			if slices.Contains(f.harmless, v) || f.off != nil && f.off(v) {
				continue
			}
			what := "--" + f.name
			if f.isBool && v != "true" {
				what += "=" + v
			}
			return mistake.Unsupported(what, f.hint)
		}
	}
	return nil
}

// notes says which of the given flags change nothing. What check refuses is not given.
func (r *refusedFlags) notes() []string {
	var out []string
	for _, f := range refusals() {
		given := *r.values[f.name]
		switch {
		case len(given) == 0:
		case f.noop != "":
			out = append(out, fmt.Sprintf("--%s changes nothing: %s", f.name, f.noop))
		case f.off != nil:
			out = append(out, fmt.Sprintf("--%s=%s changes nothing: %s", f.name, given[0], f.hint))
		}
	}
	return out
}
