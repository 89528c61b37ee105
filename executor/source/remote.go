package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/files"
)

// RemoteOptions configure a Remote.
type RemoteOptions struct {
	// Dir keeps what was downloaded, for later builds. Required. Several processes
	// may use it at once.
	Dir string
	// Secrets authenticate: HTTP_AUTH_TOKEN_<host>, HTTP_AUTH_HEADER_<host>,
	// GIT_AUTH_TOKEN[.<host>], GIT_AUTH_HEADER[.<host>]. Nil has none.
	Secrets executor.Secrets
	// Version of this program, for the User-Agent.
	Version string
	// Transport makes HTTP requests; nil is one with time limits.
	Transport http.RoundTripper
	// Retry says how often servers are asked.
	Retry Retry
	// SSHAuthSock is the socket of the ssh agent for git over ssh; "" uses none.
	SSHAuthSock string
	// LocalGit lets git read repositories of this machine (file://). It is for
	// what the user names on the command line; a Dockerfile must not.
	LocalGit bool
}

// Remote opens sources of other machines. What it fetched is kept in a folder and
// validated again when it is used. It is for one build: each source is asked for
// once. It implements executor.RemoteSource and is safe for concurrent use.
type Remote struct {
	o      RemoteOptions
	client *http.Client

	mu      sync.Mutex        // guards what follows
	asked   map[string]*asked // by the name of what was asked for
	trees   []*Tree           // to close
	holding []*files.Lock     // shared locks on checkouts
}

// asked is the answer of one server, got once.
type asked struct {
	mu   sync.Mutex // guards what follows; held while asking
	done bool
	http *httpEntry
	git  *gitCommit
	tree *Tree
}

// keepUnused is how long a download that nobody uses is kept.
const keepUnused = 14 * 24 * time.Hour

// NewRemote makes a Remote, and removes downloads that nobody has used for long.
func NewRemote(o RemoteOptions) (*Remote, error) {
	for _, f := range remoteFolders {
		if err := os.MkdirAll(filepath.Join(o.Dir, f.name), 0o700); err != nil {
			return nil, fmt.Errorf("open sources: %w", err)
		}
	}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	r := &Remote{o: o, client: &http.Client{Transport: o.Transport}, asked: map[string]*asked{}}
	r.expire(time.Now().Add(-keepUnused))
	return r, nil
}

// Open implements executor.RemoteSource.
func (r *Remote) Open(ctx context.Context, src *dag.Source) (*executor.Remote, error) {
	switch {
	case src.HTTP != nil:
		return r.openHTTP(ctx, src.HTTP)
	case src.Git != nil:
		return r.openGit(ctx, src.Git)
	}
	return nil, errors.New("not a remote source")
}

// AllowLocalGit is the option LocalGit, for a repository that is named later.
func (r *Remote) AllowLocalGit(allow bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.o.LocalGit = r.o.LocalGit || allow
}

func (r *Remote) localGit() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.o.LocalGit
}

// Close ends the use of what was fetched.
func (r *Remote) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, t := range r.trees {
		errs = append(errs, t.Close())
	}
	for _, l := range r.holding {
		errs = append(errs, l.Release())
	}
	r.trees, r.holding = nil, nil
	return errors.Join(errs...)
}

// ask returns the place for one answer, locked.
func (r *Remote) ask(name string) *asked {
	r.mu.Lock()
	a := r.asked[name]
	if a == nil {
		a = &asked{}
		r.asked[name] = a
	}
	r.mu.Unlock()
	a.mu.Lock()
	return a
}

// path is a path in the folder.
func (r *Remote) path(parts ...string) string {
	return filepath.Join(append([]string{r.o.Dir}, parts...)...)
}

// secret returns a secret, "" if there is none of that id.
func (r *Remote) secret(ctx context.Context, id string) (string, error) {
	if r.o.Secrets == nil {
		return "", nil
	}
	b, err := r.o.Secrets.Secret(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// expire removes what was last used before a time. Whoever uses a thing now holds
// a lock on it or has just touched it.
func (r *Remote) expire(before time.Time) {
	old := func(fi fs.FileInfo, err error) bool { return err == nil && fi.ModTime().Before(before) }
	for _, f := range remoteFolders {
		entries, err := os.ReadDir(r.path(f.name))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if !old(e.Info()) {
				continue
			}
			p := r.path(f.name, e.Name())
			remove(p, func() bool { return old(os.Lstat(p)) })
		}
	}
}

// remove deletes a download unless somebody holds it or it is not old any more.
func remove(p string, old func() bool) {
	name := lockOf(p)
	lock, err := files.TryLockExisting(name, files.Exclusive)
	if err != nil && (name == p || !errors.Is(err, fs.ErrNotExist)) {
		return
	}
	defer lock.Release()
	if !old() {
		return
	}
	// Moved first: one that is half removed must not be found.
	if gone := p + ".gone"; os.Rename(p, gone) == nil {
		os.RemoveAll(gone)
	}
}

// touch notes that something was used.
func touch(p string) {
	now := time.Now()
	os.Chtimes(p, now, now) // only for expire, which may be wrong
}

// lockPath waits for the exclusive lock on a file that is made where there is none, or
// until ctx ends. The file stays, and says when it was last used.
func lockPath(ctx context.Context, p string) (*files.Lock, error) {
	lock, err := files.LockFile(ctx, p, files.Exclusive)
	if err == nil {
		touch(p)
	}
	return lock, err
}

// Redacted hides the user and password of a URL.
func Redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	if _, ok := u.User.Password(); ok || u.Scheme != "ssh" {
		u.User = url.UserPassword("xxxxx", "xxxxx")
	}
	return u.String()
}

var _ executor.RemoteSource = (*Remote)(nil)
