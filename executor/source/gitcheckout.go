package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/files"
)

// checkout returns the directory with the files of a commit. It is made once and
// used by all later builds.
func (r *Remote) checkout(ctx context.Context, src *dag.GitSource, c *gitCommit) (string, error) {
	h := sha256.Sum256([]byte(checkoutName(src, c)))
	dir := r.path(gitCheckouts, hex.EncodeToString(h[:]))
	a := r.ask("checkout " + dir)
	defer a.mu.Unlock()
	tree := filepath.Join(dir, "tree")
	if a.done {
		return tree, nil
	}
	for {
		held, err := r.hold(ctx, dir)
		if held {
			a.done = true
			return tree, nil
		}
		if err == nil {
			err = r.makeCheckout(ctx, src, c, dir)
		}
		if err != nil {
			return "", err
		}
	}
}

// hold keeps a checkout from being removed. It is false if there is none.
func (r *Remote) hold(ctx context.Context, dir string) (bool, error) {
	lock, err := files.LockExisting(ctx, dir, files.Shared)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	touch(dir)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holding = append(r.holding, lock)
	return true, nil
}

// makeCheckout makes a checkout beside its place and moves it there.
func (r *Remote) makeCheckout(ctx context.Context, src *dag.GitSource, c *gitCommit, dir string) (err error) {
	repo, done, err := r.fetchGit(ctx, src, c)
	if err != nil {
		return err
	}
	defer done()
	tmp, err := files.NewScratch(r.path(gitCheckouts), "tmp-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tmp.Remove()) }()
	w := &worktree{gitRepo: repo, tree: tmp.Path("tree"), gitDir: tmp.Path("git"), commit: c}
	if keepsGitDir(src) {
		w.gitDir = filepath.Join(w.tree, ".git")
	}
	if err := w.fill(ctx); err != nil {
		return err
	}
	place := tmp.Path("done")
	if err := os.Mkdir(place, 0o700); err != nil {
		return err
	}
	if err := os.Rename(w.tree, filepath.Join(place, "tree")); err != nil {
		return err
	}
	if err := os.Rename(place, dir); !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil // another process made the same
}

// worktree is a checkout that is being made.
type worktree struct {
	*gitRepo
	tree, gitDir string
	commit       *gitCommit
}

func (w *worktree) fill(ctx context.Context) error {
	if err := os.MkdirAll(w.tree, 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(w.gitDir, 0o755); err != nil {
		return err
	}
	g := w.at(w.gitDir, w.tree)
	if _, err := g.run(ctx, "init", "--quiet", "--template=", "--object-format="+w.format); err != nil {
		return err
	}
	attach := w.borrow
	if keepsGitDir(w.src) {
		attach = w.clone
	}
	if err := attach(ctx, g); err != nil {
		return err
	}
	// Submodules with relative URLs are found from here.
	if _, err := g.run(ctx, "config", "remote.origin.url", w.src.Remote); err != nil {
		return err
	}
	if _, err := g.run(ctx, "checkout", "--quiet", "--force", "--detach", w.commit.Object+"^{commit}"); err != nil {
		return err
	}
	if err := w.submodules(ctx, g); err != nil {
		return err
	}
	if keepsGitDir(w.src) {
		if err := w.tidy(ctx, g); err != nil {
			return err
		}
	}
	var at time.Time
	if w.src.CommitTimes {
		var err error
		if at, err = w.time(ctx, w.commit); err != nil {
			return err
		}
	}
	return settleTree(w.tree, keepsGitDir(w.src), at)
}

// borrow reads the objects where they are: .git is not kept.
func (w *worktree) borrow(_ context.Context, _ *git) error {
	info := filepath.Join(w.gitDir, "objects", "info")
	if err := os.MkdirAll(info, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(info, "alternates"), []byte(filepath.Join(w.dir, "objects")+"\n"), 0o644); err != nil {
		return err
	}
	shallow, err := os.ReadFile(filepath.Join(w.dir, "shallow"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.gitDir, "shallow"), shallow, 0o644)
}

// clone copies the objects of the commit through git's own protocol, so that
// nothing else of the repository gets into .git.
func (w *worktree) clone(ctx context.Context, g *git) error {
	spec := keepRef(w.commit)
	if w.commit.Ref != "" && w.commit.Ref != "HEAD" {
		spec += ":" + w.commit.Ref
	}
	_, err := g.allow("file").run(ctx, "fetch", "--quiet", "--update-head-ok", depthOne, "--no-tags", "file://"+w.dir, spec)
	return err
}

// submodules fetches the submodules' commits. Repositories of this machine are
// not used, whatever .gitmodules says.
func (w *worktree) submodules(ctx context.Context, g *git) error {
	if !w.src.Submodules {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(w.tree, ".gitmodules")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := g.allow("http", "https", "git", "ssh").run(ctx, "submodule", "--quiet", "update", "--init", "--recursive", depthOne)
	if err != nil {
		return fmt.Errorf("update submodules: %w", err)
	}
	return nil
}

// tidy leaves nothing in a .git that is kept that tells of this machine or of a
// password.
func (w *worktree) tidy(ctx context.Context, g *git) error {
	if _, err := g.run(ctx, "config", "remote.origin.url", Redacted(w.src.Remote)); err != nil {
		return err
	}
	if _, err := g.run(ctx, "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"); err != nil {
		return err
	}
	// --work-tree was given by the environment and must not stay.
	if _, err := g.run(ctx, "config", "--unset-all", "core.worktree"); err != nil && !isExit(err, 5) {
		return err
	}
	if err := os.Remove(filepath.Join(w.gitDir, "FETCH_HEAD")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(filepath.Join(w.gitDir, "logs"))
}

func isExit(err error, code int) bool {
	var exit interface{ ExitCode() int }
	return errors.As(err, &exit) && exit.ExitCode() == code
}

// settleTree gives files the modes 644 and 755 and directories 755, whatever the
// umask is, and times if there is one. Without keep, what points to a git
// directory that is gone is removed (.git of submodules).
func settleTree(tree string, keep bool, at time.Time) error {
	var all []string
	err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !keep && d.Name() == ".git" {
			if err := os.RemoveAll(p); err != nil {
				return err
			}
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		all = append(all, p)
		if d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644) // what the owner may, everybody may but writing
		switch {
		case d.IsDir() || fi.Mode()&0o100 != 0:
			mode = 0o755
		case fi.Mode()&0o200 == 0: // objects of .git
			mode = 0o444
		}
		if mode == fi.Mode().Perm() {
			return nil
		}
		return os.Chmod(p, mode)
	})
	if err != nil || at.IsZero() {
		return err
	}
	ts := unix.NsecToTimespec(at.UnixNano())
	for _, p := range slices.Backward(all) { // directories after what is in them
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set the time of %s: %w", p, err)
		}
	}
	return nil
}
