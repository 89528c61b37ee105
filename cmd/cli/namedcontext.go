package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"layered.build/builder/executor/source"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
)

// contextFlags are the contexts that have a name.
type contextFlags struct{ values []string }

func (f *contextFlags) register(fs *pflag.FlagSet) {
	arrayVar(fs, &f.values, "build-context", "", "files or an image under a name, NAME=DIR|URL|docker-image://REF|oci-layout://DIR[:TAG]")
}

var contextScheme = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z-]+:`) })

// namedContexts reads --build-context. Nothing is fetched: that is for what the
// Dockerfile uses.
func (j *job) namedContexts() (map[string]*planner.NamedContext, error) {
	out := map[string]*planner.NamedContext{}
	for _, v := range j.flags.contexts.values {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" || value == "" {
			return nil, mistake.New("--build-context %q: want NAME=VALUE", v)
		}
		key, err := planner.NamedContextKey(name)
		if err != nil {
			return nil, mistake.New("--build-context %q: %w", v, err)
		}
		if out[key] != nil {
			return nil, mistake.New("--build-context %q: the name %s is given twice", v, name)
		}
		if out[key], err = j.namedContext(key, value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (j *job) namedContext(key, value string) (*planner.NamedContext, error) {
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
		return j.namedDir(key, value)
	}
	r, err := parseRemoteContext(value)
	switch {
	case err != nil:
		return nil, err
	case r != nil && r.git != nil:
		j.remote.AllowLocalGit(r.git.Local)
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
	return nil, mistake.New("--build-context %s: %w", value, err)
}

// namedDir is a directory of this machine, without what its own ignore file says.
func (j *job) namedDir(key, dir string) (*planner.NamedContext, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	ignore, err := parser.ReadIgnore(abs, "")
	if err != nil {
		return nil, err
	}
	name := "context:" + key
	j.dirs.Dirs[name] = abs
	return &planner.NamedContext{Source: &dag.Source{Local: &dag.LocalSource{Name: name, Excludes: ignore.Texts()}}}, nil
}
