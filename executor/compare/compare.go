// Package compare tells how two results of a step differ.
package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// Store has the entries of layers.
type Store interface {
	// Manifest returns a layer's entries. The caller closes it.
	Manifest(ctx context.Context, l snapshot.Layer) (*snapshot.Manifest, error)
}

// Differences says in words, a line each, what of the content of two stacks differs.
func Differences(ctx context.Context, s Store, was, is snapshot.Stack) ([]string, error) {
	for len(was) > 0 && len(is) > 0 && was[0].Content == is[0].Content {
		was, is = was[1:], is[1:]
	}
	before, err := entries(ctx, s, was)
	if err != nil {
		return nil, err
	}
	after, err := entries(ctx, s, is)
	if err != nil {
		return nil, err
	}
	paths := maps.Clone(before)
	maps.Copy(paths, after)
	var out []string
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		switch a, b := before[p], after[p]; {
		case a == nil:
			out = append(out, p+": not in the cached result")
		case b == nil:
			out = append(out, p+": only in the cached result")
		default:
			for _, d := range entryDifferences(a, b) {
				out = append(out, p+": "+d)
			}
		}
	}
	return out, nil
}

// entries are those of some layers by path; of several the highest counts.
func entries(ctx context.Context, s Store, layers snapshot.Stack) (map[string]*snapshot.Entry, error) {
	out := map[string]*snapshot.Entry{}
	for _, l := range layers {
		m, err := s.Manifest(ctx, l)
		if err != nil {
			return nil, err
		}
		for err == nil {
			var e *snapshot.Entry
			if e, err = m.Next(); err == nil {
				out[e.Path] = e
			}
		}
		if cerr := m.Close(); !errors.Is(err, io.EOF) || cerr != nil {
			return nil, errors.Join(err, cerr)
		}
	}
	return out, nil
}

// entryDifferences says what of an entry is not what it was, as far as that counts.
func entryDifferences(a, b *snapshot.Entry) []string {
	if a.Type != b.Type {
		return []string{fmt.Sprintf("type %c, now %c", a.Type, b.Type)}
	}
	var out []string
	differ := func(what string, was, is any) {
		if was != is {
			out = append(out, fmt.Sprintf("%s %v, now %v", what, was, is))
		}
	}
	differ("mode", fmt.Sprintf("%04o", a.Mode), fmt.Sprintf("%04o", b.Mode))
	differ("owner", fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID))
	differ("size", a.Size, b.Size)
	if a.Size == b.Size {
		differ("content", short(a.Digest), short(b.Digest))
	}
	differ("target", a.Linkname, b.Linkname)
	differ("hard link to", a.Hardlink, b.Hardlink)
	differ("device", fmt.Sprintf("%d:%d", a.DevMajor, a.DevMinor), fmt.Sprintf("%d:%d", b.DevMajor, b.DevMinor))
	if !maps.Equal(a.Xattrs, b.Xattrs) {
		out = append(out, "other extended attributes")
	}
	return out
}

// short is the beginning of a digest.
func short(d digest.Digest) string {
	s := string(d)
	return s[:min(len(s), len("sha256:")+12)]
}
