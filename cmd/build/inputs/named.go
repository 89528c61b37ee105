package inputs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"layered.build/builder/executor/source"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
)

var contextScheme = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z-]+:`) })

// ParseNamed reads NAME=VALUE lines. Nothing is looked at: that is for what the
// Dockerfile uses. Errors are mistakes.
func ParseNamed(values []string) ([]Named, error) {
	var out []Named
	seen := map[string]bool{}
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" || value == "" {
			return nil, mistake.New("--build-context %q: want NAME=VALUE", v)
		}
		key, err := planner.NamedContextKey(name)
		if err != nil {
			return nil, mistake.New("--build-context %q: %w", v, err)
		}
		if seen[key] {
			return nil, mistake.New("--build-context %q: the name %s is given twice", v, name)
		}
		seen[key] = true
		out = append(out, Named{Key: key, Value: value})
	}
	return out, nil
}

// namedContexts collects named contexts, and the directories that they are.
type namedContexts struct {
	remote *source.Remote
	dirs   map[string]string
	out    map[string]*planner.NamedContext
}

func (n *namedContexts) add(c Named) (err error) {
	n.out[c.Key], err = n.context(c.Key, c.Value)
	return err
}

func (n *namedContexts) context(key, value string) (*planner.NamedContext, error) {
	if ref, ok := strings.CutPrefix(value, "docker-image://"); ok {
		return &planner.NamedContext{Image: ref}, nil
	}
	if strings.HasPrefix(value, planner.LayoutScheme) {
		img, err := planner.ParseLayoutImage(value)
		if err != nil {
			return nil, mistake.New("--build-context %s=%s: %w", key, value, err)
		}
		return &planner.NamedContext{Layout: &img}, nil
	}
	if info, err := os.Stat(value); err == nil && info.IsDir() {
		return n.dir(key, value)
	}
	r, err := parseRemoteContext(value)
	switch {
	case err != nil:
		return nil, err
	case r != nil && r.git != nil:
		n.remote.AllowLocalGit(r.git.Local)
		return &planner.NamedContext{Source: &dag.Source{Git: planner.GitSource(r.git)}}, nil
	case r != nil:
		return &planner.NamedContext{Source: &dag.Source{HTTP: &dag.HTTPSource{URL: r.url, Filename: "context"}}}, nil
	}
	if scheme := contextScheme().FindString(value); scheme != "" && !strings.HasPrefix(value, "/") {
		return nil, mistake.New("--build-context %s: %s is not supported", source.Redacted(value), scheme).
			WithHint("use a directory, a git or http URL, docker-image://REF or oci-layout://DIR")
	}
	_, err = os.Stat(value)
	if err == nil {
		return nil, mistake.New("--build-context %s: not a directory", value)
	}
	e := mistake.New("--build-context %s: %w", value, err)
	if ref, rerr := registry.ParseReference(value); rerr == nil && !strings.HasPrefix(value, ".") {
		e.WithHint("if %s is meant to be an image, write %s=docker-image://%s", ref.Familiar(), key, value)
	}
	return nil, e
}

// dir is a directory of this machine, without what its own ignore file says.
func (n *namedContexts) dir(key, dir string) (*planner.NamedContext, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	ignore, err := parser.ReadIgnore(abs, "")
	if err != nil {
		return nil, err
	}
	name := mainContext + ":" + key
	n.dirs[name] = abs
	return &planner.NamedContext{Source: &dag.Source{Local: &dag.LocalSource{Name: name, Excludes: ignore.Texts()}}}, nil
}
