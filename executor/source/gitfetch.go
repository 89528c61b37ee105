package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"layered.build/builder/planner/dag"
)

// gitRepo is the bare repository that keeps what was fetched of a remote.
type gitRepo struct {
	*git
	dir    string
	src    *dag.GitSource
	format string // object format
}

// fetchGit makes sure that a commit is in the repository of its remote, and holds
// the repository until done is called.
func (r *Remote) fetchGit(ctx context.Context, src *dag.GitSource, c *gitCommit) (repo *gitRepo, done func(), err error) {
	g, err := r.git(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	format := "sha1"
	if len(c.Object) == 64 {
		format = "sha256"
	}
	h := sha256.Sum256([]byte(src.Remote + " " + format))
	dir := r.path(gitRepos, hex.EncodeToString(h[:])+".git")
	lock, err := lockPath(ctx, lockOf(dir))
	if err != nil {
		return nil, nil, err
	}
	repo = &gitRepo{git: g.at(dir, ""), dir: dir, src: src, format: format}
	if err := repo.fetch(ctx, c); err != nil {
		return nil, nil, errors.Join(err, lock.Release())
	}
	touch(dir)
	return repo, func() { lock.Release() }, nil
}

func (g *gitRepo) fetch(ctx context.Context, c *gitCommit) error {
	if err := g.init(ctx); err != nil {
		return err
	}
	if !g.has(ctx, c) {
		if err := g.get(ctx, c); err != nil {
			return err
		}
	}
	// The ref keeps the commit, and lets checkouts fetch it.
	if _, err := g.run(ctx, "update-ref", keepRef(c), c.Object); err != nil {
		return err
	}
	commit, err := g.run(ctx, "rev-parse", "--verify", "--quiet", c.Object+"^{commit}")
	if err != nil {
		return fmt.Errorf("%s of %s is no commit", c.Object, Redacted(g.src.Remote))
	}
	if commit = strings.TrimSpace(commit); c.Commit != "" && c.Commit != commit {
		return fmt.Errorf("%s of %s is %s, not %s as the server said", c.Object, Redacted(g.src.Remote), commit, c.Commit)
	}
	return nil
}

// init makes the repository. One that was left half made is made again.
func (g *gitRepo) init(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(g.dir, "builder-ready")); err == nil {
		return nil
	}
	if err := os.RemoveAll(g.dir); err != nil {
		return err
	}
	if err := os.Mkdir(g.dir, 0o700); err != nil {
		return err
	}
	if _, err := g.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+g.format); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(g.dir, "builder-ready"), nil, 0o600)
}

// has reports whether all of a commit is here.
func (g *gitRepo) has(ctx context.Context, c *gitCommit) bool {
	_, err := g.run(ctx, "rev-parse", "--verify", "--quiet", keepRef(c)+"^{commit}")
	return err == nil
}

func keepRef(c *gitCommit) string { return "refs/builder/" + c.Object }

// get fetches one commit: by its ref, for not every server gives commits by id,
// then by its id, and at last everything.
func (g *gitRepo) get(ctx context.Context, c *gitCommit) error {
	os.Remove(filepath.Join(g.dir, "shallow.lock")) // of a killed git; this process holds the repository
	var first error
	if c.Ref != "" && !g.src.FetchByCommit {
		_, first = g.run(ctx, "fetch", "--quiet", depthOne, "--no-tags", "--no-write-fetch-head", "--end-of-options",
			g.src.Remote, "+"+c.Ref+":"+keepRef(c))
		if first != nil && isFinal(ctx, first) {
			return first
		}
		if first == nil && g.exists(ctx, c) { // else the ref has moved since
			return nil
		}
	}
	_, err := g.run(ctx, "fetch", "--quiet", depthOne, "--no-tags", "--no-write-fetch-head", "--end-of-options", g.src.Remote, c.Object)
	if err == nil && g.exists(ctx, c) {
		return nil
	}
	if err != nil && isFinal(ctx, err) {
		return err
	}
	args := []string{"fetch", "--quiet", "--tags", "--no-write-fetch-head"}
	if _, err := os.Stat(filepath.Join(g.dir, "shallow")); err == nil {
		args = append(args, "--unshallow")
	}
	args = append(args, "--end-of-options", g.src.Remote, "+refs/heads/*:refs/remotes/origin/*")
	if _, err := g.run(ctx, args...); err != nil {
		return errors.Join(first, err)
	}
	if !g.exists(ctx, c) {
		return fmt.Errorf("repository %s does not contain commit %s", Redacted(g.src.Remote), c.Object)
	}
	return nil
}

// isFinal reports whether trying another way is of no use.
func isFinal(ctx context.Context, err error) bool {
	var ge *GitError
	return ctx.Err() != nil || !errors.As(err, &ge) || ge.Unauthorized()
}

func (g *gitRepo) exists(ctx context.Context, c *gitCommit) bool {
	_, err := g.run(ctx, "cat-file", "-e", c.Object+"^{commit}")
	return err == nil
}

// time is when a commit was made.
func (g *gitRepo) time(ctx context.Context, c *gitCommit) (time.Time, error) {
	out, err := g.run(ctx, "log", "-1", "--no-show-signature", "--format=%ct", c.Object+"^{commit}")
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("time of commit %s: %w", c.id(), err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
