package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"layered.build/builder/cache/mounts/carry"
	"layered.build/builder/cache/shared"
	"layered.build/builder/executor/cachemount"
	"layered.build/builder/executor/local"
	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// newCarrier is what carries cache mounts; nil if no shared cache has any.
func (j *Job) newCarrier() *carry.Carrier {
	from := slices.ContainsFunc(j.in.Caches.From, func(s shared.Source) bool { return !s.Mounts.None() })
	to := slices.ContainsFunc(j.in.Caches.To, func(t shared.Target) bool { return !t.Mounts.None() })
	if !from && !to {
		return nil
	}
	o := j.e.Carrying()
	o.Find = func(ctx context.Context, name shared.MountName, key string) ([]*shared.FoundMount, error) {
		return j.shared.Mounts(ctx, name, key)
	}
	o.Task, o.Tell = j.task, j.tell
	return carry.New(o)
}

// carriedMounts are the cache mounts of one plan. It implements local.CacheMounts.
type carriedMounts struct {
	carrier *carry.Carrier
	key     string
}

// Restore implements local.CacheMounts.
func (c carriedMounts) Restore(ctx context.Context, m cachemount.Mount, dir string) (bool, error) {
	return c.carrier.Restore(ctx, c.name(m), dir)
}

// Used implements local.CacheMounts.
func (c carriedMounts) Used(m cachemount.Mount, ok bool) { c.carrier.Used(c.name(m), m.Dir, ok) }

func (c carriedMounts) name(m cachemount.Mount) carry.Name {
	return carry.Name{MountName: shared.MountName{ID: m.ID, Variant: m.Variant, Platform: m.Platform}, Key: c.key}
}

// cacheMounts are those of a plan; nil if they are this machine's alone.
func (j *Job) cacheMounts(p *Plan) local.CacheMounts {
	if j.carrier == nil {
		return nil
	}
	return carriedMounts{j.carrier, p.mountKey}
}

// keySetting is the Dockerfile's setting that names the files which cache mounts belong to.
const keySetting = "mount-key"

// mountKey stands for the files of the context that cache mounts belong to: those that are
// asked for, or else those that the Dockerfile names. It is "" if there are none, or they
// cannot be read, which is told.
func (j *Job) mountKey(ctx context.Context, p *Plan, excludes []string) string {
	names := j.req.MountKey
	if len(names) == 0 {
		names = keyFiles(p.File)
	}
	if j.carrier == nil || len(names) == 0 || !slices.ContainsFunc(p.Graph.Steps, mountsCache) {
		return ""
	}
	key, err := j.hashFiles(ctx, names, excludes)
	if err != nil {
		j.tell(fmt.Sprintf("the key of cache mounts: %v: the newest are used", err))
		return ""
	}
	return key
}

// keyFiles are the files that a Dockerfile names.
func keyFiles(f *parser.File) (names []string) {
	for _, s := range f.Settings {
		if s.Name == keySetting {
			names = append(names, strings.Split(s.Value, ",")...)
		}
	}
	return names
}

// mountsCache reports whether a step has a cache mount.
func mountsCache(s *dag.Step) bool {
	op, ok := s.Op.(*dag.Exec)
	return ok && slices.ContainsFunc(op.Mounts, func(m dag.Mount) bool { return m.Type == dag.MountCache })
}

// hashFiles is a hash of the names and contents of files of the context.
func (j *Job) hashFiles(ctx context.Context, names, excludes []string) (string, error) {
	if j.in.Contexts == nil {
		return "", errors.New("there is no build context")
	}
	tree, err := j.in.Contexts.Tree(ctx, &dag.LocalSource{Name: "context", Excludes: slices.Clone(excludes)})
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range names {
		real, err := snapshot.ResolvePath(tree, strings.TrimPrefix(path.Clean("/"+name), "/"), true)
		if err != nil {
			return "", err
		}
		r, err := tree.Open(real)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		one := sha256.New()
		_, err = io.Copy(one, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(sum, "%d %s %x\n", len(name), name, one.Sum(nil))
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}
