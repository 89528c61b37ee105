package planner

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"layered.build/builder/planner/dag"
)

// transfer is what COPY and ADD have in common.
type transfer struct {
	keyword      string
	text         string // as users see it
	files        instructions.SourcesAndDest
	from         *source // nil: the context
	chown, chmod string
	link         bool
	parents      bool
	unpack       *bool // nil: archives of the context only
	excludes     []string
	checksum     string // of ADD
	keepGitDir   *bool
}

func (in *instruction) copy(c *instructions.CopyCommand) error {
	t := &transfer{
		keyword: "COPY", text: c.String(), files: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod,
		link: c.Link, parents: c.Parents, excludes: c.ExcludePatterns,
	}
	if len(in.cmd.sources) > 0 {
		t.from = in.cmd.sources[0]
	}
	for _, src := range c.SourcePaths {
		switch {
		case isGit(src):
			return fmt.Errorf("source can't be a git ref for COPY: %s (did you mean ADD?)", src)
		case isURL(src):
			return fmt.Errorf("source can't be a URL for COPY: %s (did you mean ADD?)", src)
		}
	}
	return in.transfer(t)
}

func (in *instruction) add(c *instructions.AddCommand) error {
	t := &transfer{
		keyword: "ADD", text: c.String(), files: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod,
		link: c.Link, unpack: c.Unpack, excludes: c.ExcludePatterns, checksum: c.Checksum, keepGitDir: c.KeepGitDir,
	}
	if err := t.checkRemote(); err != nil {
		return err
	}
	return in.transfer(t)
}

// transfer makes the step of a COPY or ADD.
func (in *instruction) transfer(t *transfer) error {
	own, err := in.copyOwner(t)
	if err != nil {
		return err
	}
	mode, err := copyMode(t.chmod)
	if err != nil {
		return err
	}
	ins := newInputs(in.st.rootfs)
	// As in BuildKit, files that get a mode are no layer of their own: folders that are
	// there already keep theirs.
	link := t.link && t.chmod == "" && !in.st.rootfs.IsScratch()
	if link {
		ins = inputs{} // the files alone, laid over the base by a Merge
	}
	first := len(ins.edges)
	dest, err := in.copyDest(t.files.DestPath)
	if err != nil {
		return err
	}
	in.lintCopied(dest)
	in.lintSeveral(t, dest)
	template := dag.Copy{Dest: dest, Owner: own, Mode: mode, Excludes: slices.Clone(t.excludes)}
	op := &dag.File{Base: !link}
	if err := in.sources(t, template, op, &ins, first); err != nil {
		return err
	}
	if err := in.inline(t, template, op, &ins, first); err != nil {
		return err
	}
	in.advance(in.transferStep(t, op, ins, link), t.history())
	return nil
}

// sources adds the files that are named, in their order: those of the context, a
// stage or an image that follow each other are one action, one of elsewhere is
// another.
func (in *instruction) sources(t *transfer, template dag.Copy, op *dag.File, ins *inputs, first int) error {
	var c *dag.Copy // of sources that follow each other
	for _, src := range t.files.SourcePaths {
		if t.keyword == "ADD" && isRemote(src) {
			remote, err := in.remote(t, src, template, ins, first)
			if err != nil {
				return err
			}
			op.Actions, c = append(op.Actions, dag.Action{Copy: remote}), nil
			continue
		}
		if c == nil {
			edge, name, err := in.input(t.from)
			if err != nil {
				return err
			}
			next := template
			c = &next
			c.Input, c.KeepOwner = ins.add(edge, name, first), (t.from != nil || in.opts.ContextOwners) && template.Owner == nil
			c.FollowLinks, c.Parents = true, t.parents
			c.Unpack = t.keyword == "ADD" && (t.unpack == nil || *t.unpack)
			op.Actions = append(op.Actions, dag.Action{Copy: c})
		}
		c.Sources = append(c.Sources, copySource(src, t.parents))
		c.Wildcard = c.Wildcard || hasWildcard(src)
		if t.from == nil {
			in.lintIgnored(t.keyword, path.Clean(src))
		}
	}
	return nil
}

func (in *instruction) transferStep(t *transfer, op *dag.File, ins inputs, link bool) *dag.Step {
	text := hidePasswords(display(in.lex, t.text, in.st.env))
	s := in.step(op, ins, text)
	s.Meta.NoCache = in.reuse.Never
	s.Meta.Checks = in.checks()
	if !link {
		return s
	}
	files := in.intern(s)
	merge := newInputs(in.st.rootfs)
	merge.edges, merge.names = append(merge.edges, dag.Edge{Step: files}), append(merge.names, "")
	in.st.steps-- // one instruction, one number
	m := in.step(&dag.Merge{}, merge, "LINK "+text)
	m.Meta.NoCache = in.reuse.Never
	return m
}

// inline adds the here-documents: files named like their delimiters.
func (in *instruction) inline(t *transfer, c dag.Copy, op *dag.File, ins *inputs, first int) error {
	if len(t.files.SourceContents) == 0 {
		return nil
	}
	docs := &dag.File{}
	for i, doc := range t.files.SourceContents {
		if err := checkHeredocName(doc.Path); err != nil {
			return err
		}
		// Of several that are called the same the last one counts.
		later := t.files.SourceContents[i+1:]
		if slices.ContainsFunc(later, func(d instructions.SourceContent) bool { return d.Path == doc.Path }) {
			continue
		}
		docs.Actions = append(docs.Actions, dag.Action{Mkfile: &dag.Mkfile{Path: "/" + doc.Path, Mode: 0o644, Data: []byte(doc.Data)}})
		c.Sources = append(c.Sources, doc.Path)
	}
	step := in.internal(docs, "preparing inline document")
	c.Input = ins.add(dag.Edge{Step: step}, "inline document", first)
	op.Actions = append(op.Actions, dag.Action{Copy: &c})
	return nil
}

// history is the text in the image's history. BuildKit leaves --from, --link and
// --exclude out.
func (t *transfer) history() string {
	words := []string{t.keyword}
	if t.parents {
		words = append(words, "--parents")
	}
	if t.chown != "" {
		words = append(words, "--chown="+t.chown)
	}
	if t.chmod != "" {
		words = append(words, "--chmod="+t.chmod)
	}
	for _, src := range t.files.SourcePaths {
		if isRemote(src) {
			src = redacted(src)
		}
		words = append(words, src)
	}
	for _, doc := range t.files.SourceContents {
		words = append(words, "<<"+doc.Path)
	}
	words = append(words, t.files.DestPath)
	return strings.Join(words, " ") + " # buildkit"
}

// copySource makes a source clean and relative to its root. With parents, the
// pivot "/./" stays.
func copySource(src string, parents bool) string {
	if parents {
		if parent, rest, ok := strings.Cut(src, "/./"); ok && relative(parent) != "." {
			return relative(parent) + "/./" + relative(rest)
		}
	}
	return relative(src)
}

func relative(p string) string {
	if p = path.Clean("/" + p)[1:]; p == "" {
		return "."
	}
	return p
}

// isDir reports whether a destination can only mean a directory.
func isDir(dest string) bool {
	last := dest[strings.LastIndexByte(dest, '/')+1:]
	return last == "" || last == "." || last == ".."
}

// copyDest makes a destination absolute, with a slash at its end if it means a
// directory.
func (in *instruction) copyDest(dest string) (string, error) {
	dest, err := in.st.slashed(dest)
	if err != nil {
		return "", err
	}
	abs := path.Clean(dest)
	if !path.IsAbs(dest) {
		abs = path.Join(in.cwd(), dest)
	}
	if isDir(dest) && abs != "/" {
		abs += "/"
	}
	return abs, nil
}

func hasWildcard(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}

func (in *instruction) copyOwner(t *transfer) (*dag.Owner, error) {
	if t.chown == "" {
		return nil, nil
	}
	o := owner(t.chown)
	const numbers = "use numeric uid[:gid] instead"
	switch names := !(numeric(o.User) && (o.Group == "" || numeric(o.Group))); {
	case names && t.link:
		return nil, fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, %s", t.chown, numbers)
	case names && in.st.rootfs.IsScratch():
		return nil, fmt.Errorf("--chown=%s: user and group names can't be resolved in scratch, which has no files, %s", t.chown, numbers)
	}
	return o, nil
}

// owner reads "user[:group]", nil for "". root is 0 also where no passwd says so,
// and so is a user that is left out.
func owner(s string) *dag.Owner {
	if s == "" {
		return nil
	}
	user, group, _ := strings.Cut(s, ":")
	if user == "root" || user == "" {
		user = "0"
	}
	if group == "root" {
		group = "0"
	}
	return &dag.Owner{User: user, Group: group}
}

func numeric(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

var symbolicMode = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[ugoa]*([-+=]([ugo]|[rwxXst]*))+(,[ugoa]*([-+=]([ugo]|[rwxXst]*))+)*$`)
})

// copyMode checks --chmod; octal modes get the form "0755".
func copyMode(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if n, err := strconv.ParseUint(s, 8, 32); err == nil && n <= 0o7777 {
		return fmt.Sprintf("%04o", n), nil
	}
	if !symbolicMode().MatchString(s) {
		return "", fmt.Errorf("invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777, or symbolic such as u=rwX,go=rX", s)
	}
	return s, nil
}
