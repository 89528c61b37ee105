package inputs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"layered.build/builder/cmd/task"
	"layered.build/builder/executor"
	"layered.build/builder/executor/source"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/archive"
)

// remoteContext is a build context that is fetched: a repository, or a file.
type remoteContext struct {
	git *parser.GitRef
	url string
}

var httpURL = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^https?://`) })

// parseRemoteContext reads the name of a context that is no directory; nil if it
// cannot be a remote one either.
func parseRemoteContext(name string) (*remoteContext, error) {
	ref, ok, err := parser.ParseGitContext(name)
	if err != nil {
		return nil, mistake.New("context %s: %w", source.Redacted(name), err)
	}
	if ok {
		return &remoteContext{git: ref}, nil
	}
	if httpURL().MatchString(name) {
		return &remoteContext{url: name}, nil
	}
	dir, fragment, ok := strings.Cut(name, "#")
	if info, err := os.Stat(dir); !ok || err != nil || !info.IsDir() {
		return nil, nil
	}
	abs, err := filepath.Abs(dir) // a repository of this machine
	if err != nil {
		return nil, err
	}
	return parseRemoteContext("file://" + abs + "#" + fragment)
}

// name is how messages call the context.
func (r *remoteContext) name() string {
	if r.git == nil {
		return source.Redacted(r.url)
	}
	name := source.Redacted(r.git.Remote)
	if r.git.Ref != "" || r.git.Subdir != "" {
		name += "#" + r.git.Ref
	}
	if r.git.Subdir != "" {
		name += ":" + r.git.Subdir
	}
	return name
}

// fetch fetches the context and the Dockerfile if they are elsewhere.
func (l *Local) fetch(ctx context.Context, obs executor.Observer) (*buildContext, error) {
	c := l.found.context
	if r := c.remote; r != nil {
		err := task.Run(ctx, obs, "[internal] load build context "+r.name(), func(context.Context, *task.Task) error {
			if r.git != nil {
				return l.loadGit(ctx, c, r.git)
			}
			return l.loadURL(ctx, c, r.url)
		})
		if err != nil {
			return nil, contextError(r.name(), err)
		}
	}
	if c.fileURL == "" {
		return c, nil
	}
	return c, l.loadDockerfileURL(ctx, c, obs)
}

// contextError tells mistakes in naming a context from failures on the way to it.
func contextError(name string, err error) error {
	var usage *mistake.Error
	if source.IsFailure(err) || errors.As(err, &usage) || errors.Is(err, context.Canceled) {
		return err
	}
	return mistake.New("context %s: %w", name, err)
}

// loadGit checks a repository out. As in BuildKit, files get the commit's time if
// the image is to have a fixed one.
func (l *Local) loadGit(ctx context.Context, c *buildContext, ref *parser.GitRef) (err error) {
	src := planner.GitSource(ref)
	src.CommitTimes = src.CommitTimes || l.found.spec.CommitTimes
	src.KeepGitDir = src.KeepGitDir || l.found.spec.KeepGitDir
	if c.dir, err = l.remote.CheckoutGit(ctx, src); err != nil {
		return err
	}
	c.age = func(ctx context.Context) (*time.Time, error) {
		t, err := l.remote.GitTime(ctx, src)
		return &t, err
	}
	return c.locateInside()
}

// loadURL downloads a tar of the context, or a Dockerfile alone.
func (l *Local) loadURL(ctx context.Context, c *buildContext, url string) error {
	d, err := l.remote.Download(ctx, &dag.HTTPSource{URL: url})
	if err != nil {
		return err
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.temp, err = os.MkdirTemp("", "builder-context-"); err != nil {
		return err
	}
	c.dir = c.temp
	r := bufio.NewReaderSize(f, 1024)
	head, err := r.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	newest := d.LastModified
	if isArchive(head) {
		u, err := unpackContext(ctx, c.dir, r)
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if newest.IsZero() {
			newest = u.newest
		}
		c.given = u.given
		err = c.locateInside()
		c.setAge(newest)
		return err
	}
	c.setAge(newest)
	if err := copyInto(c.dir, "context", r); err != nil {
		return err
	}
	if c.src != nil { // from stdin
		return nil
	}
	return c.readInside("context")
}

// setAge notes the time of a context, if it has one.
func (c *buildContext) setAge(t time.Time) {
	c.age = func(context.Context) (*time.Time, error) {
		if t.IsZero() {
			return nil, nil
		}
		return &t, nil
	}
}

func copyInto(dir, name string, r io.Reader) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// loadDockerfileURL downloads the Dockerfile.
func (l *Local) loadDockerfileURL(ctx context.Context, c *buildContext, obs executor.Observer) error {
	return task.Run(ctx, obs, "[internal] load "+source.Redacted(c.fileURL), func(context.Context, *task.Task) error {
		d, err := l.remote.Download(ctx, &dag.HTTPSource{URL: c.fileURL})
		if err != nil {
			return err
		}
		f, err := os.Open(d.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		return c.readDockerfile("-", d.Filename, f)
	})
}

// locateInside finds the Dockerfile in a context that is not the user's own: no
// symlink of it may lead out of it. One that is only on this machine is taken too.
func (c *buildContext) locateInside() error {
	if c.src != nil || c.fileURL != "" {
		return nil
	}
	if c.fileArg != "" {
		err := c.readInside(c.fileArg)
		if errors.Is(err, fs.ErrNotExist) && exists(c.fileArg) {
			return c.locate(c.fileArg)
		}
		return err
	}
	err := c.readInside("Dockerfile")
	if errors.Is(err, fs.ErrNotExist) && exists(filepath.Join(c.dir, "dockerfile")) {
		return c.readInside("dockerfile")
	}
	return err
}

func (c *buildContext) readInside(name string) error {
	name = strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		e := mistake.New("no Dockerfile at %s in the context", name)
		e.WithCause(err)
		if hint := nameCandidates(dockerfilesOf(root.FS())); hint != "" {
			return e.WithHint("%s", hint)
		}
		return e.WithHint("name it with -f, relative to the context")
	}
	if err != nil {
		return mistake.New("read Dockerfile %s of the context: %w", name, err)
	}
	defer f.Close()
	return c.readDockerfile("-", path.Base(name), f)
}

// isArchive recognises a tar and the compressions that may be around one.
func isArchive(head []byte) bool {
	return archive.IsArchive(head) || archive.Detect(head) != archive.None
}
