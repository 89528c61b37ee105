package cli

import (
	"encoding/csv"
	"strings"
)

// outputKind is where the result of a build goes.
type outputKind string

const (
	outImage     outputKind = "image"     // into the store, perhaps a registry
	outOCI       outputKind = "oci"       // a tar of an OCI image layout
	outDocker    outputKind = "docker"    // a docker archive
	outTar       outputKind = "tar"       // the file system as a tar
	outCacheOnly outputKind = "cacheonly" // nowhere
)

// output is one --output.
type output struct {
	kind  outputKind
	dest  string // file, "-" is stdout
	names []string
	push  bool
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
	if f.load && !hasImage(outs) || len(outs) == 0 {
		outs = append(outs, output{kind: outImage})
	}
	for _, o := range outs {
		if o.push && len(o.names) == 0 && len(f.tags) == 0 {
			return nil, usagef("pushing needs a name for the image").hint("add -t NAME")
		}
		if f.iidfile != "" && o.kind == outCacheOnly {
			return nil, usagef("--iidfile and type=cacheonly cannot be combined: no image is made")
		}
	}
	return outs, nil
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
		return output{}, unsupported("--output "+v+" (type=local)", "use type=tar,dest=FILE")
	}
	fields, err := parseCSV(v)
	if err != nil {
		return output{}, usagef("--output %q: %w", v, err)
	}
	var o output
	for _, f := range fields {
		if err := o.set(f); err != nil {
			return o, err
		}
	}
	switch o.kind {
	case "":
		return o, usagef("--output %q: type is missing", v)
	case outOCI, outDocker, outTar:
		if o.dest == "" {
			return o, usagef("--output %q: dest is missing", v).hint("write type=%s,dest=FILE; dest=- is stdout", o.kind)
		}
	}
	return o, nil
}

func (o *output) set(f field) error {
	switch f.key {
	case "type":
		switch k := outputKind(f.value); k {
		case outImage, outOCI, outDocker, outTar, outCacheOnly:
			o.kind = k
		case "registry":
			o.kind, o.push = outImage, true
		default:
			return unsupported("--output type="+f.value, "use image, oci, docker, tar or cacheonly")
		}
	case "dest":
		o.dest = f.value
	case "name":
		o.names = append(o.names, strings.Split(f.value, ",")...)
	case "push":
		switch f.value {
		case "true", "":
			o.push = true
		case "false":
		default:
			return usagef("--output push=%s: want true or false", f.value)
		}
	case "oci-mediatypes":
		if f.value != "true" {
			return unsupported("--output oci-mediatypes="+f.value, "images get OCI media types; type=docker makes Docker's")
		}
	default:
		return unsupported("--output "+f.key+"=", "use type, dest, name and push")
	}
	return nil
}

func splitCSV(s string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(s))
	return r.Read()
}
