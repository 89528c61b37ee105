package cli

import (
	"slices"
	"strconv"
	"strings"
)

// keys are the options of a kind of output.
func (k outputKind) keys() []string {
	image := []string{"name", "oci-mediatypes", "compression", "compression-level", "force-compression", "annotation"}
	switch k {
	case outImage:
		return append(image, "push", "push-by-digest", "registry.insecure")
	case outOCI:
		return append(image, "dest", "tar")
	case outDocker:
		return []string{"dest", "name"}
	case outLocal:
		return []string{"dest", "mode", "platform-split"}
	case outTar:
		return []string{"dest", "platform-split"}
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
	case "oci-mediatypes":
		o.dockerTypes, err = flagValue(key, value)
		o.dockerTypes = !o.dockerTypes
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
			return usagef("--output mode=%s: want copy or delete", value)
		}
	case "compression":
		o.compression.Type = value
	case "compression-level":
		level, err := strconv.Atoi(value)
		if err != nil {
			return usagef("--output compression-level=%s: want a number", value)
		}
		o.compression.Level = &level
	case "force-compression":
		o.compression.Force, err = flagValue(key, value)
	default:
		return o.setAnnotation(key, value)
	}
	return err
}

func (o *output) setKind(value string) error {
	switch k := outputKind(value); k {
	case outImage, outOCI, outDocker, outTar, outLocal, outCacheOnly:
		o.kind = k
	case "registry":
		o.kind, o.push = outImage, true
	default:
		return unsupported("--output type="+value, "use image, registry, oci, docker, local, tar or cacheonly")
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
		return unsupported("--output "+key, "`builder build --help` tells what it knows")
	}
	a, err := newAnnotation(strings.TrimPrefix(where, "-"), name, value)
	if err != nil {
		return usagef("--output %s: %w", key, err)
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
		return false, usagef("--output %s=%s: want true or false", key, value)
	}
	return b, nil
}
