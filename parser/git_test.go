package parser

import (
	"fmt"
	"strings"
	"testing"
)

// show prints a reference, without what is empty.
func (g *GitRef) show() string {
	words := []string{g.Remote}
	add := func(k, v string) {
		if v != "" {
			words = append(words, k+"="+v)
		}
	}
	add("ref", g.Ref)
	add("sum", g.Checksum)
	add("subdir", g.Subdir)
	add("mtime", g.MTime)
	for k, b := range map[string]*bool{"keep": g.KeepGitDir, "submodules": g.Submodules} {
		if b != nil {
			add(k, fmt.Sprint(*b))
		}
	}
	if g.FetchByCommit {
		add("fetch-by-commit", "true")
	}
	return strings.Join(words, " ")
}

// TestParseGit: what is a repository, what of it is meant, and what is wrong.
func TestParseGit(t *testing.T) {
	for src, want := range map[string]string{
		"https://h/a.git":                             "https://h/a.git",
		"https://u:p@h/a.git#v1":                      "https://u:p@h/a.git ref=v1",
		"http://h/a.git#v1:sub/../x":                  "http://h/a.git ref=v1 subdir=x",
		"https://h/a.git#:../../x":                    "https://h/a.git subdir=x",
		"https://h/a.git#refs/pull/1/head":            "https://h/a.git ref=refs/pull/1/head",
		"https://h/a.git?ref=v1#v1":                   "https://h/a.git ref=v1",
		"https://h/a.git?branch=b":                    "https://h/a.git ref=refs/heads/b",
		"https://h/a.git?tag=refs/tags/t":             "https://h/a.git ref=refs/tags/t",
		"https://h/a.git?tag=t#refs/tags/t":           "https://h/a.git ref=refs/tags/t",
		"https://h/a.git?commit=aB12":                 "https://h/a.git sum=aB12",
		"https://h/a.git?checksum=ab&fetch-by-commit": "https://h/a.git sum=ab fetch-by-commit=true",
		"https://h/a.git?keep-git-dir":                "https://h/a.git keep=true",
		"https://h/a.git?submodules=false":            "https://h/a.git submodules=false",
		"https://h/a.git?mtime=commit&subdir=/s/":     "https://h/a.git subdir=s mtime=commit",
		"git@h:a/b.git#x":                             "git@h:a/b.git ref=x",
		"git@h:a/b?subdir=s#x":                        "git@h:a/b ref=x subdir=s",
		"ssh://git@h:22/a#x":                          "ssh://git@h:22/a ref=x",
		"git://h/a":                                   "git://h/a",
		"https://h/a":                                 "no",
		"https://h/a?x=.git":                          "no",
		"file:///a.git":                               "no",
		"github.com/a/b":                              "no",
		"./a.git":                                     "no",
		"a:b":                                         "no",
		"ext::sh -c x":                                "no",
		"https://h/a.git?tag=a&branch=b":              "branch conflicts with tag",
		"https://h/a.git?tag=a#b":                     `ref conflicts: "b" vs "refs/tags/a"`,
		"https://h/a.git?ref=a#b":                     `ref conflicts: "b" vs "a"`,
		"https://h/a.git?subdir=a#:b":                 `subdir conflicts: "b" vs "a"`,
		"https://h/a.git?checksum=aa&commit=bb":       `checksum conflicts: "aa" vs "bb"`,
		"https://h/a.git?ref=a&ref=b":                 `query "ref" has multiple values`,
		"https://h/a.git?ref":                         `query "ref" has no value`,
		"https://h/a.git?reff=x":                      `unexpected query "reff"`,
		"https://h/a.git?keep-git-dir=maybe":          `invalid keep-git-dir value: "maybe"`,
		"https://h/a.git?mtime=now":                   `invalid mtime value: "now" (must be "checkout" or "commit")`,
		"https://h/a.git?commit=xyz":                  `invalid checksum xyz for Git URL, expected hex commit hash`,
		"https://h/a.git#--upload-pack=x":             `invalid git ref "--upload-pack=x"`,
		"https://h/a.git?ref=a:b":                     `invalid git ref "a:b"`,
		"git@-oProxyCommand=x:y":                      "no",
	} {
		ref, ok, err := ParseGit(src)
		got := "no"
		switch {
		case err != nil && ok:
			got = err.Error()
		case ok:
			got = ref.show()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", src, got, want)
		}
	}
}

// TestParseGitContext: contexts may be repositories of this machine, and GitHub's
// without a scheme.
func TestParseGitContext(t *testing.T) {
	for src, want := range map[string]string{
		"github.com/a/b#v1":         "https://github.com/a/b.git ref=v1",
		"github.com/a/b.git":        "https://github.com/a/b.git",
		"file:///a/b#v1:sub":        "file:///a/b ref=v1 subdir=sub",
		"file:///a/../b.git?tag=v1": "file:///b.git ref=refs/tags/v1",
		"file://host/a":             "no",
		"https://h/a.tgz":           "no",
	} {
		ref, ok, err := ParseGitContext(src)
		got := "no"
		if err != nil {
			got = err.Error()
		} else if ok {
			got = ref.show()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", src, got, want)
		}
	}
}

// FuzzParseGit: any text is a repository, none, or an error, and what is taken for
// one cannot be an option of git.
func FuzzParseGit(f *testing.F) {
	for _, s := range []string{"https://h/a.git?ref=v1#v1:s", "git@h:a?x#y", "ssh://-o/x", "file:///a#b:c", "github.com/a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (*GitRef, bool, error){ParseGit, ParseGitContext} {
			ref, ok, err := parse(s)
			if err != nil || !ok {
				continue
			}
			if strings.HasPrefix(ref.Remote, "-") || strings.HasPrefix(ref.Ref, "-") || strings.HasPrefix(ref.Subdir, "../") || strings.Contains(ref.Subdir, "/../") {
				t.Errorf("%q: %s", s, ref.show())
			}
		}
	})
}
