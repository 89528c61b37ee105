package parser

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// GitRef is a git repository as ADD and build contexts name it:
// URL[?query][#ref[:subdir]].
type GitRef struct {
	// Remote is what git is given, without query and fragment.
	Remote string
	// Ref is a branch, a tag, a full ref or a commit id; "" is the default branch.
	Ref string
	// Checksum is what the commit's id begins with ("checksum=", "commit=").
	Checksum string
	// Subdir is a clean path inside the repository, "" for all of it.
	Subdir string
	// KeepGitDir and Submodules are nil where the query does not say.
	KeepGitDir *bool
	Submodules *bool
	// MTime says which times files get: "checkout" or "commit"; "" does not say.
	MTime string
	// FetchByCommit trusts Checksum without comparing it with Ref.
	FetchByCommit bool
	// Local says that the repository is one of this machine (file://).
	Local bool
}

var errNotGit = errors.New("not a git repository")

var scpGit = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-zA-Z0-9-_]+@[a-zA-Z0-9-.]+:.*?)(?:\?(.*?))?(?:#(.*))?$`)
})

// ParseGit reads the source of an ADD. Ok says that it can only be a git
// repository: git:// and ssh://, user@host:path, and http URLs whose path ends
// with ".git". Then err is what is wrong with it. Repositories of this machine are
// not recognised.
func ParseGit(s string) (ref *GitRef, ok bool, err error) {
	g, query, err := gitURL(s, false)
	if err != nil {
		return nil, false, nil
	}
	return g.withQuery(query)
}

// ParseGitContext reads the name of a build context. Besides what ParseGit knows
// it may be file://… and, as docker has always done, github.com/… without a
// scheme.
func ParseGitContext(s string) (ref *GitRef, ok bool, err error) {
	if strings.HasPrefix(s, "github.com/") {
		s = "https://" + s
		if u, err := url.Parse(s); err == nil && !strings.HasSuffix(u.Path, ".git") {
			u.Path += ".git"
			s = u.String()
		}
	}
	g, query, err := gitURL(s, true)
	if err != nil {
		return nil, false, nil
	}
	return g.withQuery(query)
}

// gitURL takes a name apart.
func gitURL(s string, local bool) (*GitRef, string, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		m := scpGit().FindStringSubmatch(s)
		if m == nil {
			return nil, "", errNotGit
		}
		g := &GitRef{Remote: m[1]}
		g.fragment(m[3])
		return g, m[2], nil
	}
	if scheme = strings.ToLower(scheme); scheme == "file" && local {
		return localGit(rest)
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, "", errNotGit
	}
	switch scheme {
	case "git", "ssh":
	case "http", "https":
		if !strings.HasSuffix(u.Path, ".git") {
			return nil, "", errNotGit
		}
	default:
		return nil, "", errNotGit
	}
	g, query := &GitRef{}, u.RawQuery
	g.fragment(u.Fragment)
	u.Fragment, u.RawFragment, u.RawQuery, u.ForceQuery = "", "", "", false
	g.Remote = u.String()
	return g, query, nil
}

// localGit takes the path of a repository of this machine apart.
func localGit(p string) (*GitRef, string, error) {
	p, fragment, _ := strings.Cut(p, "#")
	p, query, _ := strings.Cut(p, "?")
	if !path.IsAbs(p) {
		return nil, "", errNotGit
	}
	g := &GitRef{Remote: "file://" + path.Clean(p), Local: true}
	g.fragment(fragment)
	return g, query, nil
}

// fragment reads "ref:subdir".
func (g *GitRef) fragment(f string) {
	ref, subdir, _ := strings.Cut(f, ":")
	g.Ref, g.Subdir = ref, cleanSubdir(subdir)
}

func cleanSubdir(p string) string { return strings.TrimPrefix(path.Join("/", p), "/") }

// withQuery adds what the query says.
func (g *GitRef) withQuery(query string) (*GitRef, bool, error) {
	if query == "" {
		return g, true, g.check()
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, true, fmt.Errorf("query of %s: %w", g.Remote, err)
	}
	var tag, branch string
	for _, k := range slices.Sorted(maps.Keys(values)) {
		v := values[k]
		if len(v) > 1 {
			return nil, true, fmt.Errorf("query %q has multiple values", k)
		}
		if err := g.setQuery(k, v[0], &tag, &branch); err != nil {
			return nil, true, err
		}
	}
	if tag != "" && branch != "" {
		return nil, true, errors.New("branch conflicts with tag")
	}
	for _, full := range []string{withPrefix("refs/tags/", tag), withPrefix("refs/heads/", branch)} {
		if full != "" {
			if err := agree("ref", &g.Ref, full); err != nil {
				return nil, true, err
			}
		}
	}
	return g, true, g.check()
}

func withPrefix(prefix, name string) string {
	if name == "" || strings.HasPrefix(name, prefix) {
		return name
	}
	return prefix + name
}

func (g *GitRef) setQuery(key, value string, tag, branch *string) error {
	switch key {
	case "submodules":
		return queryBool(key, value, func(b bool) { g.Submodules = &b })
	case "keep-git-dir":
		return queryBool(key, value, func(b bool) { g.KeepGitDir = &b })
	case "fetch-by-commit":
		return queryBool(key, value, func(b bool) { g.FetchByCommit = b })
	case "ref", "tag", "branch", "subdir", "checksum", "commit", "mtime":
	default:
		return fmt.Errorf("unexpected query %q", key)
	}
	if value == "" {
		return fmt.Errorf("query %q has no value", key)
	}
	switch key {
	case "ref":
		return agree("ref", &g.Ref, value)
	case "subdir":
		return agree("subdir", &g.Subdir, cleanSubdir(value))
	case "tag":
		*tag = value
	case "branch":
		*branch = value
	case "checksum", "commit":
		return agree("checksum", &g.Checksum, value)
	case "mtime":
		if value != "checkout" && value != "commit" {
			return fmt.Errorf("invalid mtime value: %q (must be \"checkout\" or \"commit\")", value)
		}
		g.MTime = value
	}
	return nil
}

// agree sets a value that may be given in two places.
func agree(what string, have *string, value string) error {
	if *have != "" && *have != value {
		return fmt.Errorf("%s conflicts: %q vs %q", what, *have, value)
	}
	*have = value
	return nil
}

func queryBool(key, value string, set func(bool)) error {
	if value == "" {
		set(true)
		return nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("invalid %s value: %q", key, value)
	}
	set(b)
	return nil
}

// check refuses what git could take for an option or for several refs.
func (g *GitRef) check() error {
	if strings.HasPrefix(g.Ref, "-") || strings.ContainsAny(g.Ref, " \t\n\r\x00:^~?*[\\") {
		return fmt.Errorf("invalid git ref %q", g.Ref)
	}
	if strings.ContainsAny(g.Remote, "\n\r\x00") || strings.HasPrefix(g.Remote, "-") {
		return fmt.Errorf("invalid git repository %q", g.Remote)
	}
	return CheckGitChecksum(g.Checksum)
}

var hexID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-fA-F0-9]*$`) })

// CheckGitChecksum checks that a text can be the beginning of a commit's id.
func CheckGitChecksum(sum string) error {
	if !hexID().MatchString(sum) || len(sum) > 64 {
		return fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", sum)
	}
	return nil
}
