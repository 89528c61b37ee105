package inputs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"layered.build/builder/executor/source"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
)

// maxDockerfile bounds the size of a Dockerfile, as in BuildKit.
const maxDockerfile = 16 << 20

// buildContext is what a build reads: a directory and a Dockerfile.
type buildContext struct {
	dir    string // absolute
	file   string // path of the Dockerfile, "-" for stdin
	name   string // what messages call the Dockerfile
	src    []byte
	ignore *parser.Ignore // the ignore file
	// temp is a directory to remove after the build.
	temp string
	// remote is set for a context that is fetched, fileArg is the value of --file
	// then; fileURL is set for a Dockerfile that is downloaded. See Local.fetch.
	remote  *remoteContext
	fileArg string
	fileURL string
	// age is when the context was made; nil if it is not known.
	age func(context.Context) (*time.Time, error)
	// given is what an archive says of its objects.
	given map[string]*source.Given
}

// Close removes what was made for the build.
func (c *buildContext) Close() error {
	if c.temp == "" {
		return nil
	}
	return os.RemoveAll(c.temp)
}

// openContext finds context and Dockerfile.
func openContext(ctx context.Context, spec Spec) (*buildContext, error) {
	c := &buildContext{}
	err := c.open(ctx, spec)
	if err == nil {
		c.ignore, err = c.ignoreFile(spec.IgnoreFile)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// ignoreFile reads the ignore file that was named, or the context's own.
func (c *buildContext) ignoreFile(named string) (*parser.Ignore, error) {
	switch {
	case named != "":
		return readIgnoreFile(named)
	case !c.isDirectory(): // as in BuildKit, only a directory has one
		return &parser.Ignore{}, nil
	}
	return parser.ReadIgnore(c.dir, c.file)
}

// isDirectory reports whether the context is a directory of this machine: not one that
// was fetched, or unpacked from stdin.
func (c *buildContext) isDirectory() bool { return c.remote == nil && c.temp == "" }

func readIgnoreFile(name string) (*parser.Ignore, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, mistake.New("--ignorefile: %w", err)
	}
	src, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, mistake.New("--ignorefile: %w", err)
	}
	if len(src) > maxDockerfile {
		return nil, mistake.New("--ignorefile %s is larger than %d bytes", name, maxDockerfile)
	}
	return parser.ParseIgnore(name, src)
}

func (c *buildContext) open(ctx context.Context, spec Spec) error {
	path, file, stdin := spec.Context, spec.Dockerfile, readerOf(ctx, spec.Stdin)
	switch {
	case path == "-" && file == "-":
		return mistake.New("context and Dockerfile cannot both be stdin")
	case path == "-":
		return c.fromStdin(ctx, file, stdin)
	}
	if httpURL().MatchString(file) {
		c.fileURL = file
	}
	if info, err := os.Stat(path); err != nil {
		if c.remote, err = parseRemoteContext(path); err != nil {
			return err
		}
		if c.remote != nil {
			c.fileArg = file
			if file == "-" {
				return c.readDockerfile("-", "Dockerfile", stdin)
			}
			return nil
		}
		_, err := os.Stat(path)
		return mistake.New("context %s: %w", path, err)
	} else if !info.IsDir() {
		return mistake.New("context %s is not a directory", path).WithHint("give the directory, and the Dockerfile with -f")
	}
	dir, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if c.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return fmt.Errorf("context %s: %w", path, err)
	}
	if file == "-" {
		return c.readDockerfile("-", "Dockerfile", stdin)
	}
	if c.fileURL != "" {
		c.file = "-"
		return nil
	}
	return c.locate(file)
}

// locate finds the Dockerfile: the value of --file is relative to the current
// directory, the default is relative to the context.
func (c *buildContext) locate(file string) error {
	path := file
	if file == "" {
		path = filepath.Join(c.dir, "Dockerfile")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if lower := filepath.Join(c.dir, "dockerfile"); exists(lower) {
				path = lower
			}
		}
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		e := mistake.New("no Dockerfile at %s", path)
		e.WithCause(err)
		if file != "" && !filepath.IsAbs(file) && exists(filepath.Join(c.dir, file)) {
			return e.WithHint("-f is relative to the current directory: use -f %s", filepath.Join(c.dir, file))
		}
		if hint := otherDockerfiles(filepath.Dir(path), c.dir); hint != "" {
			return e.WithHint("%s", hint)
		}
		return e.WithHint("name it with -f, or use -f - for stdin")
	}
	if err != nil {
		return mistake.New("read Dockerfile: %w", err)
	}
	defer f.Close()
	return c.readDockerfile(path, filepath.Base(path), f)
}

func (c *buildContext) readDockerfile(path, name string, r io.Reader) error {
	src, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return mistake.New("read Dockerfile %s: %w", path, err)
	}
	if len(src) > maxDockerfile {
		return mistake.New("Dockerfile %s is larger than %d bytes", path, maxDockerfile)
	}
	c.file, c.name, c.src = path, name, src
	return nil
}

// fromStdin reads a tar of the context, or a Dockerfile alone.
func (c *buildContext) fromStdin(ctx context.Context, file string, stdin io.Reader) error {
	temp, err := os.MkdirTemp("", "builder-context-")
	if err != nil {
		return err
	}
	c.dir, c.temp = temp, temp
	r := bufio.NewReaderSize(stdin, 1024)
	head, err := r.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return mistake.New("read stdin: %w", err)
	}
	if !isArchive(head) {
		return c.readDockerfile("-", "Dockerfile", r)
	}
	u, err := unpackContext(ctx, temp, r)
	if err != nil {
		return mistake.New("read the context from stdin: %w", err)
	}
	c.setAge(u.newest)
	c.given = u.given
	c.fileArg = file
	return c.locateInside()
}
