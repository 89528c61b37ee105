package cli

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
)

// keys are the options of a kind of output.
func (k outputKind) keys() []string {
	image := []string{
		"name", "oci-mediatypes", "compression", "compression-level", "force-compression", "annotation",
		"prefer-nondist-layers", "rewrite-timestamp", "source-date-epoch", "compatibility-version",
	}
	switch k {
	case outImage:
		return append(image, "push", "push-by-digest", "registry.insecure", "store", "unpack",
			"dangling-name-prefix", "danging-name-empty-only", "name-canonical")
	case outOCI:
		return append(image, "dest", "tar")
	case outDocker:
		return append(image, "dest", "tar", "context")
	case outLocal:
		return []string{"dest", "mode", "platform-split", "source-date-epoch"}
	case outTar:
		return []string{"dest", "platform-split", "source-date-epoch"}
	}
	return nil
}

// knows reports whether an option means something to a kind of output.
func (k outputKind) knows(key string) bool {
	if strings.HasPrefix(key, "annotation") {
		key = "annotation"
	}
	return key == "type" || slices.Contains(k.keys(), key)
}

// set reads one option.
func (o *output) set(key, value string) (err error) {
	switch key {
	case "type":
		return o.setKind(value)
	case "dest":
		o.dest = value
	case "name":
		o.names = append(o.names, strings.Split(value, ",")...)
	case "push":
		o.push, err = flagValue(key, value)
	case "push-by-digest":
		o.byDigest, err = flagValue(key, value)
	case "registry.insecure":
		o.insecure, err = flagValue(key, value)
	case "context":
		o.context = value
	case "tar":
		o.layout, err = flagValue(key, value)
		o.layout = !o.layout
	case "platform-split":
		split := false
		split, err = flagValue(key, value)
		o.split = &split
	case "mode":
		switch value {
		case "copy", "":
		case "delete":
			o.remove = true
		default:
			return mistake.New("--output mode=%s: want copy or delete", value)
		}
	case "source-date-epoch":
		return o.setEpoch(value)
	default:
		return o.setForm(key, value)
	}
	return err
}

// setForm reads an option that says what an image looks like.
func (o *output) setForm(key, value string) (err error) {
	switch key {
	case "oci-mediatypes":
		oci, err := flagValue(key, value)
		o.ociTypes = &oci
		return err
	case "compatibility-version":
		return o.setCompat(value)
	case "prefer-nondist-layers":
		o.foreign, err = flagValue(key, value)
	case "rewrite-timestamp":
		o.keepTime, err = flagValue(key, value)
		o.keepTime = !o.keepTime
	case "compression":
		o.compression.Type = value
	case "compression-level":
		level, err := strconv.Atoi(value)
		if err != nil {
			return mistake.New("--output compression-level=%s: want a number", value)
		}
		o.compression.Level = &level
	case "force-compression":
		o.compression.Force, err = flagValue(key, value)
	default:
		return o.setNaming(key, value)
	}
	return err
}

// setNaming reads an option that says what an image is called, or where it stays.
func (o *output) setNaming(key, value string) (err error) {
	switch key {
	case "store":
		o.unstored, err = flagValue(key, value)
		o.unstored = !o.unstored
	case "unpack":
		o.unpack, err = flagValue(key, value)
	case "dangling-name-prefix":
		o.naming.dangling = value
	case "danging-name-empty-only": // BuildKit's spelling
		o.naming.onlyUnnamed, err = flagValue(key, value)
	case "name-canonical":
		o.naming.canonical, err = flagValue(key, value)
	case "oci-artifact", "attestation-inline", "attestation-prefix":
		return refuseAttestation(key, value)
	default:
		return o.setAnnotation(key, value)
	}
	return err
}

// refuseAttestation refuses what says how attestations are written: none are made.
func refuseAttestation(key, value string) error {
	if off, err := flagValue(key, value); err == nil && !off {
		return mistake.New("--output %s: no attestations are made", key).WithHint("leave %s out", key)
	}
	return mistake.Unsupported("--output "+key, "it is about attestations, and none are made")
}

// setEpoch reads source-date-epoch: seconds, or nothing for no epoch.
func (o *output) setEpoch(value string) error {
	o.epoch = &outputEpoch{}
	if value == "" {
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return mistake.New("--output source-date-epoch=%s: want seconds since 1970", value)
	}
	t := time.Unix(n, 0).UTC()
	o.epoch.time = &t
	return nil
}

// currentCompat is the compatibility version whose defaults are the program's.
const currentCompat = 30

// setCompat reads compatibility-version, BuildKit's name for a set of defaults. Of
// what they say, the media types of images are the only ones that exist here.
func (o *output) setCompat(value string) error {
	switch value {
	case "10", "20", "30":
		o.compat, _ = strconv.Atoi(value)
		return nil
	}
	return mistake.New("--output compatibility-version=%s: want 10, 20 or 30", value)
}

func (o *output) setKind(value string) error {
	switch k := outputKind(value); k {
	case outImage, outOCI, outDocker, outTar, outLocal, outCacheOnly:
		o.kind = k
	case "registry":
		o.kind, o.push = outImage, true
	default:
		return mistake.Unsupported("--output type="+value, "use image, registry, oci, docker, local, tar or cacheonly")
	}
	return nil
}

// setAnnotation reads annotation[-TYPE][[PLATFORM]].KEY=VALUE.
func (o *output) setAnnotation(key, value string) error {
	rest, ok := strings.CutPrefix(key, "annotation")
	where, name, dot := strings.Cut(rest, ".")
	if i := strings.IndexByte(rest, '['); ok && i >= 0 { // a platform may have dots
		if j := strings.Index(rest[i:], "]."); j >= 0 {
			where, name, dot = rest[:i+j+1], rest[i+j+2:], true
		}
	}
	if !ok || !dot || where != "" && where[0] != '-' && where[0] != '[' {
		return mistake.Unsupported("--output "+key, "`builder build --help` tells what it knows")
	}
	a, err := newAnnotation(strings.TrimPrefix(where, "-"), name, value)
	if err != nil {
		return mistake.New("--output %s: %w", key, err)
	}
	o.annotations = append(o.annotations, a)
	return nil
}

// flagValue reads true or false; nothing means true.
func flagValue(key, value string) (bool, error) {
	if value == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, mistake.New("--output %s=%s: want true or false", key, value)
	}
	return b, nil
}
