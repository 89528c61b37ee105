package planner

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync"
	"unicode"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

// isRemote reports whether ADD fetches a source from elsewhere.
func isRemote(src string) bool { return isURL(src) || isGit(src) }

// checkRemote checks the flags of an ADD that only mean something for sources of
// elsewhere.
func (t *transfer) checkRemote() error {
	if t.checksum != "" {
		if len(t.files.SourcePaths) != 1 {
			return errors.New("checksum can't be specified for multiple sources")
		}
		if !isRemote(t.files.SourcePaths[0]) {
			return errors.New("checksum requires HTTP(S) or Git sources")
		}
	}
	if t.keepGitDir != nil {
		for _, src := range t.files.SourcePaths {
			if isGit(src) {
				return nil
			}
		}
		return errors.New("--keep-git-dir requires a Git source")
	}
	return nil
}

// remote adds a source of elsewhere to an ADD.
func (in *instruction) remote(t *transfer, src string, c dag.Copy, ins *inputs, first int) (*dag.Copy, error) {
	var op *dag.Source
	var err error
	if isGit(src) {
		op, err = gitSource(t, src)
		c.Sources = []string{"."}
	} else {
		op, err = httpSource(t, src)
		if err == nil {
			c.Sources = []string{op.HTTP.Filename}
			c.Unpack = t.unpack != nil && *t.unpack
		}
	}
	if err != nil {
		return nil, err
	}
	step := in.internal(op, "load "+redacted(src))
	step.Meta.NoCache = in.reuse.Never
	c.Input = ins.add(dag.Edge{Step: step}, redacted(src), first)
	return &c, nil
}

// gitSource is the repository that ADD names; the flags and the URL must agree.
func gitSource(t *transfer, src string) (*dag.Source, error) {
	ref, _, err := parser.ParseGit(src)
	if err != nil {
		return nil, err
	}
	if t.keepGitDir != nil && ref.KeepGitDir != nil && *t.keepGitDir != *ref.KeepGitDir {
		return nil, errors.New("inconsistent keep-git-dir configuration")
	}
	if ref.KeepGitDir == nil {
		ref.KeepGitDir = t.keepGitDir
	}
	if t.checksum != "" {
		if err := parser.CheckGitChecksum(t.checksum); err != nil {
			return nil, err
		}
		if ref.Checksum != "" && ref.Checksum != t.checksum {
			return nil, fmt.Errorf("checksum mismatch %q != %q", t.checksum, ref.Checksum)
		}
		ref.Checksum = t.checksum
	}
	return &dag.Source{Git: GitSource(ref)}, nil
}

// GitSource is the source that a git reference means.
func GitSource(ref *parser.GitRef) *dag.GitSource {
	return &dag.GitSource{
		Remote: ref.Remote, Ref: ref.Ref, Subdir: ref.Subdir, Checksum: ref.Checksum,
		KeepGitDir:  ref.KeepGitDir != nil && *ref.KeepGitDir,
		Submodules:  ref.Submodules == nil || *ref.Submodules,
		CommitTimes: ref.MTime == "commit", FetchByCommit: ref.FetchByCommit,
	}
}

// httpSource is the file that ADD names. Like BuildKit, ADD names it by the URL
// alone, whatever the server calls it.
func httpSource(t *transfer, src string) (*dag.Source, error) {
	name := "__unnamed__"
	u, err := url.Parse(src)
	if err != nil {
		return nil, err
	}
	if base := path.Base(u.Path); base != "." && base != "/" {
		name = base
	}
	if name == ".." || strings.ContainsFunc(name, unicode.IsControl) || strings.TrimSpace(name) != name {
		name = "download"
	}
	if t.checksum == "" {
		return &dag.Source{HTTP: &dag.HTTPSource{URL: src, Filename: name}}, nil
	}
	if kind, _, ok := strings.Cut(t.checksum, ":"); ok && kind != string(digest.SHA256) {
		return nil, fmt.Errorf("checksum %s: unsupported digest algorithm %s, use sha256:<hex>", t.checksum, kind)
	}
	sum, err := digest.Parse(t.checksum)
	if err != nil {
		return nil, fmt.Errorf("checksum %s: %w, want sha256:<64 hex digits>", t.checksum, err)
	}
	return &dag.Source{HTTP: &dag.HTTPSource{URL: src, Filename: name, Checksum: sum.String()}}, nil
}

var urlPassword = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`([a-zA-Z0-9]+://)[^/@\s:]*:[^/@\s]*@`)
})

// hidePasswords hides the passwords of URLs in a text: logs are read by many.
func hidePasswords(text string) string {
	return urlPassword().ReplaceAllString(text, "${1}xxxxx:xxxxx@")
}

// redacted hides the password of a URL.
func redacted(src string) string {
	u, err := url.Parse(src)
	if err != nil || u.User == nil {
		return src
	}
	if _, ok := u.User.Password(); !ok {
		return src
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}
