package cli

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// outputKind is where the result of a build goes.
type outputKind string

const (
	outImage     outputKind = "image"     // into the store, perhaps a registry
	outOCI       outputKind = "oci"       // an OCI image layout
	outDocker    outputKind = "docker"    // a docker archive
	outTar       outputKind = "tar"       // the file system as a tar
	outLocal     outputKind = "local"     // the file system in a directory
	outLoad      outputKind = "load"      // into another engine
	outCacheOnly outputKind = "cacheonly" // nowhere
)

// output is one --output.
type output struct {
	kind  outputKind
	dest  string // file or directory, "-" is stdout
	names []string
	push  bool
	// byDigest pushes without a tag, insecure to a registry without a certificate.
	byDigest, insecure bool
	// layout writes an OCI layout as a directory.
	layout bool
	// split puts each platform into a folder of its own; nil: if there are several.
	split *bool
	// remove makes a directory equal to the result.
	remove      bool
	compression registry.Compression
	dockerTypes bool
	annotations []annotation
	// foreign keeps layers that must not be distributed where they are.
	foreign bool
	naming  naming
	// unstored leaves the image out of the store; unpack fetches and unpacks all of
	// its layers.
	unstored, unpack bool
	// epoch takes the place of SOURCE_DATE_EPOCH.
	epoch *outputEpoch
	// engine is where the image is loaded; see loadOutput.
	engine  string
	context string // of docker

	ociTypes *bool // oci-mediatypes, if it was given
	compat   int   // compatibility-version, 0 if it was not given
	keepTime bool  // rewrite-timestamp=false
}

// naming says what else the image is called.
type naming struct {
	// dangling, if set, gives the name dangling@DIGEST; with onlyUnnamed only where
	// the image has no other name.
	dangling    string
	onlyUnnamed bool
	// canonical gives a name with the digest for each name.
	canonical bool
}

// outputEpoch is source-date-epoch: nil means that there is none.
type outputEpoch struct{ time *time.Time }

// holdsImage reports whether the output is an image with a manifest.
func (o *output) holdsImage() bool { return o.kind == outImage || o.kind == outOCI }

// usualForm reports whether layers and manifests are what they are without
// options.
func (o *output) usualForm() bool {
	return o.compression == (registry.Compression{}) && !o.dockerTypes && len(o.annotations) == 0 && !o.foreign
}

// outputs reads --output, --push and --load. Without any, the image goes into
// the store.
func (f *buildFlags) parseOutputs() ([]output, error) {
	var outs []output
	for _, v := range f.outputs {
		o, err := parseOutput(v)
		if err != nil {
			return nil, err
		}
		outs = append(outs, o)
	}
	if f.push {
		found := false
		for i := range outs {
			if outs[i].kind == outImage {
				outs[i].push, found = true, true
			}
		}
		if !found {
			outs = append(outs, output{kind: outImage, push: true})
		}
	}
	load, err := f.loadOutput()
	if err != nil {
		return nil, err
	}
	if load != nil && (load.kind != outImage || !hasImage(outs)) {
		outs = append(outs, *load)
	}
	if len(outs) == 0 {
		outs = append(outs, output{kind: outImage})
	}
	if err := f.annotate(outs); err != nil {
		return nil, err
	}
	return outs, f.checkOutputs(outs)
}

// annotate gives the outputs what --annotation asks for.
func (f *buildFlags) annotate(outs []output) error {
	notes, err := parseAnnotations(f.annotations)
	if err != nil || len(notes) == 0 {
		return err
	}
	any := false
	for i := range outs {
		if outs[i].holdsImage() {
			outs[i].annotations, any = append(outs[i].annotations, notes...), true
		}
	}
	if !any {
		return mistake.New("--annotation: no output holds an image that could have annotations").WithHint("use type=image or type=oci")
	}
	return nil
}

// checkOutputs refuses what does not go together.
func (f *buildFlags) checkOutputs(outs []output) error {
	stdout := 0
	for _, o := range outs {
		if o.dest == "-" {
			stdout++
		}
		if o.naming.dangling != "" && o.unstored || o.unpack && o.unstored {
			return mistake.New("store=false leaves nothing that could be named or unpacked")
		}
		if o.push && len(o.names) == 0 && len(f.tags) == 0 {
			return mistake.New("pushing needs a name for the image").WithHint("add -t NAME")
		}
		if o.engine == engineContainerd && len(o.names) == 0 && len(f.tags) == 0 {
			return mistake.New("containerd knows images by their names alone, and this one has none").WithHint("add -t NAME")
		}
		if o.byDigest && !o.push {
			return mistake.New("push-by-digest without push=true does nothing")
		}
		if o.dockerTypes && (len(o.annotations) > 0 || o.compression.NeedsOCI()) {
			return mistake.New("oci-mediatypes=false knows neither annotations nor zstd nor estargz")
		}
		if f.iidfile != "" && o.kind == outCacheOnly {
			return mistake.New("--iidfile and type=cacheonly cannot be combined: no image is made")
		}
	}
	if stdout > 1 || stdout == 1 && f.quiet {
		return mistake.New("stdout can take one thing only").WithHint("give the other outputs a dest, and write the id with --iidfile instead of --quiet")
	}
	return f.checkPlatforms(outs)
}

// checkPlatforms refuses outputs that hold one platform for several.
func (f *buildFlags) checkPlatforms(outs []output) error {
	ps, err := parsePlatforms(f.platforms)
	if err != nil {
		return err
	}
	for _, o := range outs {
		if o.kind == outLoad && o.engine != engineContainerd && len(ps) > 1 {
			return mistake.New("%s takes an image for one platform, not for %d", o.engine, len(ps)).WithHint("use --load=containerd or type=oci, or build for one platform")
		}
		if o.kind == outDocker && len(ps) > 1 {
			return mistake.New("--output type=docker holds an image for one platform, not for %d", len(ps)).WithHint("use type=oci, or build for one platform")
		}
		for _, n := range o.annotations {
			if len(ps) <= 1 && n.has("index") {
				return mistake.New("annotation %s: an image for one platform has no index", n.key)
			}
		}
	}
	return nil
}

func hasImage(outs []output) bool {
	for _, o := range outs {
		if o.kind == outImage {
			return true
		}
	}
	return false
}

func parseOutput(v string) (output, error) {
	if v == "-" {
		return output{kind: outTar, dest: "-"}, nil
	}
	if !strings.Contains(v, "=") {
		return output{kind: outLocal, dest: v}, nil
	}
	parts, err := splitCSV(v)
	if err != nil {
		return output{}, mistake.New("--output %q: %w", v, err)
	}
	var o output
	var given []string
	for _, p := range parts {
		key, value, _ := strings.Cut(p, "=")
		if key = strings.TrimSpace(key); !strings.HasPrefix(key, "annotation") {
			key = strings.ToLower(key)
		}
		given = append(given, key)
		if err := o.set(key, value); err != nil {
			return o, err
		}
	}
	if o.kind == "" {
		return o, mistake.New("--output %q: type is missing", v)
	}
	for _, key := range given {
		if !o.kind.knows(key) {
			return o, mistake.Unsupported("--output type="+string(o.kind)+","+key, "it knows "+strings.Join(o.kind.keys(), ", "))
		}
	}
	return o.complete(v)
}

// complete checks the destination.
func (o output) complete(v string) (output, error) {
	o.defaultTypes()
	switch {
	case o.context != "" && o.dest != "":
		return o, mistake.New("--output %q: context is where the image is loaded, so that there is no dest", v)
	case o.context != "":
		o.kind, o.engine = outLoad, engineDocker
	case o.kind == outDocker && o.layout && o.dest == "":
		return o, mistake.New("--output %q: dest is missing", v).WithHint("tar=false writes a directory")
	case o.kind == outDocker && o.dest == "": // into the engine, which is the store here
		o.kind = outImage
	case o.dest == "" && o.kind == outLocal:
		return o, mistake.New("--output %q: dest is missing", v).WithHint("write type=local,dest=DIR")
	case o.dest == "" && (o.kind == outOCI || o.kind == outTar):
		return o, mistake.New("--output %q: dest is missing", v).WithHint("write type=%s,dest=FILE; dest=- is stdout", o.kind)
	case o.dest == "-" && (o.kind == outLocal || o.layout):
		return o, mistake.New("--output %q: a directory cannot go to stdout", v)
	}
	if err := o.compression.Check(); err != nil {
		return o, mistake.New("--output %q: %w", v, err)
	}
	if o.remove {
		return o, safeToEmpty(o.dest)
	}
	return o, nil
}

// defaultTypes chooses the media types that were not asked for.
func (o *output) defaultTypes() {
	switch {
	case o.ociTypes != nil:
		o.dockerTypes = !*o.ociTypes
	case o.compat != 0 && o.compat < currentCompat && o.kind != outOCI:
		o.dockerTypes = true
	}
	o.ociTypes = nil
}

// safeToEmpty refuses mode=delete for directories that may hold more than an
// earlier result: those that are not below the working directory.
func safeToEmpty(dest string) error {
	cwd, err := os.Getwd()
	if err != nil {
		return mistake.New("--output mode=delete: %w", err)
	}
	cwd, abs := realPath(cwd), realPath(dest)
	if !within(cwd, abs) || abs == cwd {
		return mistake.New("--output mode=delete: %s is not below the working directory", dest).
			WithHint("what is there is removed, so dest must be a folder below %s; remove %s yourself and use mode=copy otherwise", cwd, dest)
	}
	return nil
}

// keepInputs refuses to empty directories that hold what the build reads.
func (j *job) keepInputs() error {
	for _, o := range j.outputs {
		if !o.remove {
			continue
		}
		for what, p := range map[string]string{"context": j.context.dir, "Dockerfile": j.flags.file, "store": j.engine.root} {
			if p != "" && within(realPath(o.dest), realPath(p)) {
				return mistake.New("--output mode=delete: the %s is in %s", what, o.dest)
			}
		}
	}
	return nil
}

// realPath is the absolute path without symbolic links, as far as it exists.
func realPath(p string) string {
	abs, err := filepath.Abs(p)
	if err != nil {
		return p
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	return abs
}

// within reports whether a path is a directory or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func splitCSV(s string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(s))
	return r.Read()
}
