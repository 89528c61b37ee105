package local

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/executor"
	"layered.build/builder/executor/compare"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/contenthash"
)

// InputDigest implements executor.Worker.
func (w *Worker) InputDigest(ctx context.Context, step *dag.Step, input int, res executor.Result) (digest.Digest, []cache.Part, error) {
	_, selective := step.Selector(input)
	if !selective {
		if res.Tree != nil || res.Remote != nil {
			return "", nil, fmt.Errorf("input %d is a tree of files without layers and cannot be a root file system", input)
		}
		return res.Stack.Content(), nil, nil
	}
	if r := res.Remote; r != nil && r.Exact {
		return r.Name, r.Details, nil
	}
	if res.Tree == nil && res.Remote == nil && wholeMount(step, input) {
		return res.Stack.Content(), nil, nil
	}
	tree, err := w.outline(ctx, res)
	if err != nil {
		return "", nil, err
	}
	s := &selection{tree: tree, reads: res.Reads, sum: digest.SHA256.Digester()}
	switch op := step.Op.(type) {
	case *dag.File:
		err = s.copies(ctx, op, input)
	case *dag.Exec:
		err = s.mounts(ctx, op, input)
	}
	if err != nil {
		return "", nil, err
	}
	if files := s.files.String(); files != "" {
		s.parts = append(s.parts, cache.Part{Name: cache.FilesPart, Value: files})
	}
	return s.sum.Digest(), s.parts, nil
}

// Differences implements executor.Comparer.
func (w *Worker) Differences(ctx context.Context, was, is snapshot.Stack) ([]string, error) {
	return compare.Differences(ctx, w.machine.Store, was, is)
}

// wholeMount reports whether a process mounts all of an input.
func wholeMount(step *dag.Step, input int) bool {
	paths, ok := step.Selector(input)
	_, exec := step.Op.(*dag.Exec)
	return ok && exec && len(paths) == 1 && paths[0] == "."
}

// selection hashes what a step reads of a tree.
type selection struct {
	tree  snapshot.Tree
	reads []string // as executor.Result
	sum   digest.Digester
	parts []cache.Part
	files cache.Listing
}

// maxParts bounds how many paths of one input are told apart in explanations.
const maxParts = 1000

// preload lets a tree look at what is going to be hashed with all CPUs.
func (s *selection) preload(ctx context.Context, paths []string) error {
	if t, ok := s.tree.(interface {
		Preload(context.Context, []string) error
	}); ok {
		return t.Preload(ctx, paths)
	}
	return nil
}

// copies hashes what the Copies of a File read of the input.
func (s *selection) copies(ctx context.Context, op *dag.File, input int) error {
	for _, a := range op.Actions {
		if a.Copy == nil || a.Copy.Input != input {
			continue
		}
		ms, err := newFinder(a.Copy, s.tree, s.reads).matches()
		if err != nil {
			return err
		}
		paths := make([]string, len(ms))
		for i, m := range ms {
			paths[i] = m.real
		}
		if err := s.preload(ctx, paths); err != nil {
			return err
		}
		cp := &copier{Copy: a.Copy, from: s.tree}
		if err := cp.compileExcludes(); err != nil {
			return err
		}
		mode, err := parseMode(a.Copy.Mode)
		if err != nil {
			return err
		}
		for _, m := range ms {
			opts := contenthash.Options{
				IgnoreOwner: a.Copy.Owner != nil,
				IgnoreMode:  mode != nil && mode.octal,
			}
			if cp.exclude != nil && !cp.exclude.Exclusions() {
				opts.Skip = func(e *snapshot.Entry) bool {
					hit, err := cp.excluded(m, e.Path)
					return err == nil && hit
				}
			}
			if err := s.match(ctx, m, opts); err != nil {
				return err
			}
		}
	}
	return nil
}

// match hashes one object that is copied. Its name counts, for the copy may be
// called like it. Of a directory only what is in it is copied.
func (s *selection) match(ctx context.Context, m match, opts contenthash.Options) error {
	e, err := s.tree.Lstat(m.real)
	if err != nil {
		return err
	}
	name := path.Base(m.name)
	if m.rel != "" {
		name = m.rel
		if err := s.parents(m); err != nil {
			return err
		}
	}
	if e.Type != snapshot.TypeDir || m.rel != "" {
		return s.add(ctx, "file "+name, m.real, opts)
	}
	io.WriteString(s.sum.Hash(), "directory\n")
	return s.children(ctx, m.real, opts)
}

// children hashes the content of a directory child by child, so that it can be told
// where something changed.
func (s *selection) children(ctx context.Context, dir string, opts contenthash.Options) error {
	entries, err := s.tree.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if opts.Skip != nil && opts.Skip(e) {
			continue
		}
		opts.Each = nil
		if e.Type == snapshot.TypeDir { // the files in it can be told apart, too
			s.files.Begin()
			opts.Each = s.files.Add
		}
		if err := s.add(ctx, "file "+path.Base(e.Path), e.Path, opts); err != nil {
			return err
		}
		if opts.Each != nil {
			s.files.End()
		}
	}
	return nil
}

// parents hashes the directories above a match of COPY --parents.
func (s *selection) parents(m match) error {
	rel := path.Dir(m.rel)
	if rel == "." {
		return nil
	}
	at := m.root
	for name := range strings.SplitSeq(rel, "/") {
		at = path.Join(at, name)
		e, err := s.tree.Lstat(at)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.sum.Hash(), "parent %q %o %d %d\n", name, e.Mode, e.UID, e.GID)
	}
	return nil
}

// add hashes a path and all below it.
func (s *selection) add(ctx context.Context, label, p string, opts contenthash.Options) error {
	d, err := contenthash.Paths(ctx, s.tree, []string{p}, opts)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.sum.Hash(), "%q %s\n", label, d)
	if len(s.parts) < maxParts {
		s.parts = append(s.parts, cache.Part{Name: p, Value: string(d)})
	}
	return nil
}

func (s *selection) mounts(ctx context.Context, op *dag.Exec, input int) error {
	for _, m := range op.Mounts {
		if m.Input != input {
			continue
		}
		name := strings.TrimPrefix(path.Clean("/"+m.Selector), "/")
		if name == "" {
			name = "."
		}
		real, err := snapshot.ResolvePath(s.tree, name, true)
		if err != nil {
			return err
		}
		e, err := s.tree.Lstat(real)
		if err != nil {
			return missing(s.tree, name, real, err)
		}
		if err := s.preload(ctx, []string{real}); err != nil {
			return err
		}
		if e.Type != snapshot.TypeDir {
			if err := s.add(ctx, "mounted file", real, contenthash.Options{}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(s.sum.Hash(), "mounted directory %o %d %d\n", e.Mode, e.UID, e.GID)
		if err := s.children(ctx, real, contenthash.Options{}); err != nil {
			return err
		}
	}
	return nil
}
