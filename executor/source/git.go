package source

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// The folders of git: one bare repository for each remote, and checkouts by
// commit.
const (
	gitRepos     = "git/repos"
	gitCheckouts = "git/checkouts"
)

// gitCommit is what a ref of a repository means.
type gitCommit struct {
	Ref    string // the full ref, "" where only the commit is known
	Object string // what the ref points to: a commit or an annotated tag
	Commit string // the commit; "" if it is not known yet whether Object is one
}

// id is the best known name of the commit.
func (c *gitCommit) id() string {
	if c.Commit != "" {
		return c.Commit
	}
	return c.Object
}

// openGit finds out which commit is meant. Nothing is fetched.
func (r *Remote) openGit(ctx context.Context, src *dag.GitSource) (*executor.Remote, error) {
	c, err := r.resolveGit(ctx, src)
	if err != nil {
		return nil, err
	}
	name := checkoutName(src, c)
	return &executor.Remote{
		Name:    digest.FromString("git " + name + " " + strconv.Quote(src.Subdir)),
		Details: []cache.Part{{Name: Redacted(src.Remote), Value: name}, {Name: "subdir", Value: src.Subdir}},
		Files: func(ctx context.Context) (snapshot.Tree, error) {
			dir, err := r.checkout(ctx, src, c)
			if err != nil {
				return nil, err
			}
			return r.gitTree(dir, src.Subdir)
		},
	}, nil
}

// CheckoutGit fetches a commit and returns the directory with its files. It stays
// until the Remote is closed; it must not be changed.
func (r *Remote) CheckoutGit(ctx context.Context, src *dag.GitSource) (string, error) {
	c, err := r.resolveGit(ctx, src)
	if err != nil {
		return "", err
	}
	dir, err := r.checkout(ctx, src, c)
	if err != nil {
		return "", err
	}
	return subdirOf(dir, src.Subdir)
}

// GitTime returns when the commit of a source was made (the committer's time).
func (r *Remote) GitTime(ctx context.Context, src *dag.GitSource) (time.Time, error) {
	c, err := r.resolveGit(ctx, src)
	if err != nil {
		return time.Time{}, err
	}
	g, done, err := r.fetchGit(ctx, src, c)
	if err != nil {
		return time.Time{}, err
	}
	defer done()
	return g.time(ctx, c)
}

// checkoutName names the files of a checkout, subdirectories aside. The ref and
// the repository only show in .git.
func checkoutName(src *dag.GitSource, c *gitCommit) string {
	name := c.id()
	if keepsGitDir(src) {
		name = fmt.Sprintf("%s .git %s %s", c.Object, c.Ref, Redacted(src.Remote))
	}
	if !src.Submodules {
		name += " without submodules"
	}
	if src.CommitTimes {
		name += " with the commit's time"
	}
	return name
}

// keepsGitDir reports whether .git is kept: like BuildKit, only if all of the
// repository is taken.
func keepsGitDir(src *dag.GitSource) bool { return src.KeepGitDir && src.Subdir == "" }

// resolveGit asks a repository for its refs, once.
func (r *Remote) resolveGit(ctx context.Context, src *dag.GitSource) (*gitCommit, error) {
	a := r.ask(fmt.Sprintf("git %s %s %s %t", src.Remote, src.Ref, src.Checksum, src.FetchByCommit))
	defer a.mu.Unlock()
	if a.done {
		return a.git, nil
	}
	c, err := r.findCommit(ctx, src)
	if err != nil {
		return nil, err
	}
	a.git, a.done = c, true
	return c, nil
}

// findCommit finds out what a ref means now.
func (r *Remote) findCommit(ctx context.Context, src *dag.GitSource) (*gitCommit, error) {
	sum := strings.ToLower(src.Checksum)
	if isCommitID(src.Ref) {
		id := strings.ToLower(src.Ref)
		if !strings.HasPrefix(id, sum) {
			return nil, &GitChecksumError{Want: src.Checksum, Got: src.Ref}
		}
		return &gitCommit{Object: id}, nil
	}
	if src.FetchByCommit {
		if !isCommitID(sum) {
			return nil, fmt.Errorf("fetch-by-commit requires a full commit SHA checksum, got %q", src.Checksum)
		}
		c := &gitCommit{Object: sum}
		if src.Ref != "" {
			c.Ref = src.Ref
			if !strings.HasPrefix(c.Ref, "refs/") {
				c.Ref = "refs/heads/" + c.Ref
			}
		}
		return c, nil
	}
	refs, head, err := r.listRefs(ctx, src)
	if err != nil {
		return nil, err
	}
	c, err := pickRef(src, refs, head)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(c.Object, sum) && (c.Commit == "" || !strings.HasPrefix(c.Commit, sum)) {
		return nil, &GitChecksumError{Want: src.Checksum, Got: c.id()}
	}
	return c, nil
}

// listRefs returns the refs that a name may mean, and what HEAD points to.
func (r *Remote) listRefs(ctx context.Context, src *dag.GitSource) (refs map[string]string, head string, err error) {
	g, err := r.git(ctx, src)
	if err != nil {
		return nil, "", err
	}
	args := []string{"ls-remote", "--symref", "--", src.Remote, "HEAD"}
	if src.Ref != "" {
		args = append(args[:4], src.Ref, src.Ref+"^{}")
	}
	out, err := g.run(ctx, args...)
	if err != nil {
		return nil, "", err
	}
	refs = map[string]string{}
	for line := range strings.Lines(out) {
		value, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if target, ok := strings.CutPrefix(value, "ref: "); ok {
			if name == "HEAD" {
				head = target
			}
			continue
		}
		refs[name] = value
	}
	return refs, head, nil
}

// pickRef chooses as git checkout does: branches before tags.
func pickRef(src *dag.GitSource, refs map[string]string, head string) (*gitCommit, error) {
	ref := src.Ref
	names := []string{
		"refs/" + strings.TrimPrefix(ref, "refs/"), "refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"),
		"refs/tags/" + strings.TrimPrefix(ref, "refs/tags/"),
	}
	if ref == "" || ref == "HEAD" {
		names = []string{"HEAD"}
	}
	for _, name := range names {
		id, ok := refs[name]
		if !ok {
			continue
		}
		if !isCommitID(id) {
			return nil, fmt.Errorf("repository %s: invalid commit id %q", Redacted(src.Remote), id)
		}
		c := &gitCommit{Ref: name, Object: id, Commit: refs[name+"^{}"]}
		if name == "HEAD" && head != "" {
			c.Ref = head
		}
		return c, nil
	}
	if ref == "" {
		return nil, fmt.Errorf("repository %s has no default branch", Redacted(src.Remote))
	}
	return nil, &NoRefError{Remote: Redacted(src.Remote), Ref: ref}
}

// NoRefError says that a repository has no branch or tag of a name.
type NoRefError struct{ Remote, Ref string }

// Error implements error.
func (e *NoRefError) Error() string {
	return fmt.Sprintf("repository does not contain ref %s: %s", e.Ref, e.Remote)
}

// GitChecksumError says that a ref is another commit than promised.
type GitChecksumError struct{ Want, Got string }

// Error implements error.
func (e *GitChecksumError) Error() string {
	return fmt.Sprintf("expected checksum to match %s, got %s", e.Want, e.Got)
}

// isCommitID reports whether a text is a whole object id, SHA-1 or SHA-256.
func isCommitID(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	return strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}

// gitTree opens the files of a checkout.
func (r *Remote) gitTree(dir, subdir string) (snapshot.Tree, error) {
	dir, err := subdirOf(dir, subdir)
	if err != nil {
		return nil, err
	}
	a := r.ask("tree " + dir)
	defer a.mu.Unlock()
	if a.done {
		return a.tree, nil
	}
	t, err := Open(dir, nil, "")
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trees = append(r.trees, t)
	a.tree, a.done = t, true
	return t, nil
}

// subdirOf returns a directory inside a checkout. No part of its path may be a
// symlink: it could lead anywhere.
func subdirOf(dir, subdir string) (string, error) {
	if subdir == "" {
		return dir, nil
	}
	root, err := openRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := openBeneath(root, subdir, openDirFlags)
	if err != nil {
		return "", &SubdirError{Subdir: subdir, Err: err}
	}
	return filepath.Join(dir, filepath.FromSlash(subdir)), f.Close()
}

// SubdirError says that a repository has no directory of a name.
type SubdirError struct {
	Subdir string
	Err    error
}

// Error implements error.
func (e *SubdirError) Error() string {
	err := e.Err
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return fmt.Sprintf("invalid subdir %s: it is no directory of the repository, or a symlink leads there: %v", e.Subdir, err)
}

// Unwrap returns the cause.
func (e *SubdirError) Unwrap() error { return e.Err }
