package inputs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor"
	"layered.build/builder/executor/source"
	"layered.build/builder/executor/sshagent"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/engines"
	"layered.build/builder/snapshot"
)

// Spec is what was named.
type Spec struct {
	// Context is a directory, a URL or a repository, or "-" for Stdin: a tar, or a
	// Dockerfile alone.
	Context string
	// Dockerfile is a file, a URL, or "-" for Stdin; "" is that of the context.
	Dockerfile string
	// IgnoreFile is read instead of the context's own; "" is that.
	IgnoreFile string
	Named      []Named
	Secrets    Secrets
	Agents     sshagent.Agents
	Stdin      io.Reader
	// CommitTimes gives the files of a repository the time of its commit, KeepGitDir
	// leaves .git in it.
	CommitTimes, KeepGitDir bool
	// Version is this program's, which servers are told. AgentSocket is the user's own
	// ssh agent, for git; "" is none.
	Version     string
	AgentSocket string
	// Retry says how often servers are asked; zero fields take defaults.
	Retry source.Retry
}

// Named is a context that has a name.
type Named struct {
	// Key is planner.NamedContextKey's.
	Key string
	// Value is what it is: a directory, a URL, docker-image://REF or
	// oci-layout://DIR[:TAG].
	Value string
}

// Found is a context that was found: what is on this machine has been read, what is not
// was not asked for yet.
type Found struct {
	spec    Spec
	context *buildContext
}

// Find finds the context and the Dockerfile, and reads what is on stdin. Errors of what
// was named are mistakes. The caller closes what was found.
func Find(ctx context.Context, spec Spec) (*Found, error) {
	c, err := openContext(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &Found{spec: spec, context: c}, nil
}

// Close removes what was made to read the context.
func (f *Found) Close() error { return f.context.Close() }

// Paths are the folders and files of this machine that the build reads, by what they are
// for people.
func (f *Found) Paths() map[string]string {
	return map[string]string{"context": f.context.dir, "Dockerfile": f.spec.Dockerfile}
}

// Local are a build's inputs on this machine.
type Local struct {
	found   *Found
	ledger  *executor.Ledger
	remote  *source.Remote
	state   string // where stat indexes are
	stop    func() error
	loaded  sync.Once
	content *content
	err     error
}

// content is what a build reads, once all of it is known.
type content struct {
	def      *build.Definition
	age      func(context.Context) (*time.Time, error)
	contexts *source.Contexts
}

// Open prepares reading what was found, with an engine's folders. The caller closes it.
func (f *Found) Open(e *engine.Engine) (*Local, error) {
	l := &Local{found: f, ledger: executor.NewLedger(f.spec.Secrets), state: e.ContextsDir()}
	sock, stop, err := gitAgent(f.spec)
	if err != nil {
		return nil, err
	}
	l.stop = stop
	l.remote, err = source.NewRemote(source.RemoteOptions{
		Dir: e.SourcesDir(), Secrets: l.ledger, Version: f.spec.Version, SSHAuthSock: sock, Retry: f.spec.Retry,
		LocalGit: f.context.remote != nil && f.context.remote.git != nil && f.context.remote.git.Local,
	})
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return l, nil
}

// Inputs are the build's. What exporters write goes to sinks.
func (l *Local) Inputs(sinks export.Sinks, s engines.Settings) build.Inputs {
	return build.Inputs{
		Definition: l.definition,
		Contexts:   l,
		Renew:      l.renew,
		Remote:     l.remote,
		Secrets:    l.ledger,
		Sent:       l.ledger.Used,
		Agents:     l.found.spec.Agents,
		Times:      l,
		Sinks:      sinks,
		Engines:    s,
	}
}

// renew makes the contexts look at their files again.
func (l *Local) renew() {
	if l.content != nil {
		l.content.contexts.Renew()
	}
}

// Close ends what reading needed. The context stays found.
func (l *Local) Close() error {
	var errs []error
	if l.content != nil {
		errs = append(errs, l.content.contexts.Close())
	}
	return errors.Join(append(errs, l.remote.Close(), l.stop())...)
}

// definition fetches the context and the Dockerfile if they are elsewhere.
func (l *Local) definition(ctx context.Context, obs executor.Observer) (*build.Definition, error) {
	l.loaded.Do(func() { l.content, l.err = l.load(ctx, obs) })
	if l.err != nil {
		return nil, l.err
	}
	return l.content.def, nil
}

// project is made of where the context and the Dockerfile are.
func (l *Local) project(c *buildContext) string {
	where := l.found.spec.Context
	if c.isDirectory() {
		where = c.dir
	}
	return digest.FromString(where + "\x00" + cmp.Or(l.found.spec.Dockerfile, c.name)).Encoded()[:16]
}

func (l *Local) load(ctx context.Context, obs executor.Observer) (*content, error) {
	c, err := l.fetch(ctx, obs)
	if err != nil {
		return nil, err
	}
	named := &namedContexts{remote: l.remote, dirs: map[string]string{}, out: map[string]*planner.NamedContext{}}
	for _, n := range l.found.spec.Named {
		if err := named.add(n); err != nil {
			return nil, err
		}
	}
	maps.Copy(named.dirs, map[string]string{mainContext: c.dir})
	return &content{
		def: &build.Definition{
			Name: c.name, Source: c.src, Project: l.project(c), Ignore: c.ignore,
			Whole: !c.isDirectory(), Owners: c.hasOwners(), Contexts: named.out,
		},
		age: c.age,
		contexts: &source.Contexts{
			Changed: changes(obs),
			Dirs:    named.dirs, StateDir: l.state, Given: map[string]map[string]*source.Given{mainContext: c.given},
		},
	}, nil
}

// changes tells an observer of files that changed while they were read.
func changes(obs executor.Observer) func(dir, p string) {
	return func(dir, p string) {
		obs(executor.Event{Type: executor.EventWarning, Time: time.Now(), Data: fmt.Appendf(nil,
			"%s changed while it was read: it is taken as it was then", filepath.Join(dir, p))})
	}
}

// mainContext is the name of the build context as a local source.
const mainContext = "context"

// Tree implements executor.ContextSource.
func (l *Local) Tree(ctx context.Context, src *dag.LocalSource) (snapshot.Tree, error) {
	if l.content == nil {
		return nil, errors.New("the context is not loaded yet")
	}
	return l.content.contexts.Tree(ctx, src)
}

var _ executor.ContextSource = (*Local)(nil)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
