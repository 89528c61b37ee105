package dag

import (
	"fmt"
	"io"
	"net/url"
	"path"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Text writes the graph for people and for golden files: one block a step, with
// its number, platform, name, operation and inputs (by number). Equal graphs
// give equal text; no digests of steps appear in it, and of proxies only the
// names.
func (g *Graph) Text(w io.Writer) error {
	numbers := map[*Step]int{}
	for i, s := range g.Steps {
		numbers[s] = i + 1
	}
	for i, s := range g.Steps {
		t := &text{}
		if i > 0 {
			t.b.WriteString("\n")
		}
		t.step(s, numbers)
		if _, err := io.WriteString(w, t.b.String()); err != nil {
			return fmt.Errorf("write graph: %w", err)
		}
	}
	return nil
}

// String returns what Text writes.
func (g *Graph) String() string {
	var b strings.Builder
	_ = g.Text(&b) // a Builder does not fail
	return b.String()
}

type text struct{ b strings.Builder }

func (t *text) step(s *Step, numbers map[*Step]int) {
	fmt.Fprintf(&t.b, "#%d %s", numbers[s], s.Op.Kind())
	if p := platform(s.Platform); p != "" {
		t.b.WriteString(" " + p)
	}
	t.b.WriteString(" " + visible(s.Meta.Name) + "\n")
	var inputs []string
	for _, in := range s.Inputs {
		switch {
		case in.IsScratch():
			inputs = append(inputs, "scratch")
		case in.Output == 0:
			inputs = append(inputs, fmt.Sprintf("#%d", numbers[in.Step]))
		default:
			inputs = append(inputs, fmt.Sprintf("#%d/%d", numbers[in.Step], in.Output))
		}
	}
	t.field("inputs", strings.Join(inputs, " "))
	t.op(s.Op)
	t.meta(&s.Meta)
}

func (t *text) op(op Op) {
	switch op := op.(type) {
	case *Source:
		t.source(op)
	case *Exec:
		t.exec(op)
	case *File:
		t.flag("base", op.Base)
		for _, a := range op.Actions {
			t.action(a)
		}
	}
}

func (t *text) source(op *Source) {
	switch {
	case op.Image != nil:
		t.field("image", op.Image.Ref+"@"+op.Image.Digest)
	case op.Local != nil:
		t.field("local", op.Local.Name)
		t.list("excludes", op.Local.Excludes)
	case op.Git != nil:
		git := *op.Git
		git.Remote = withoutPassword(git.Remote)
		t.field("git", fmt.Sprintf("%+v", git))
	case op.HTTP != nil:
		http := *op.HTTP
		http.URL = withoutPassword(http.URL)
		t.field("http", fmt.Sprintf("%+v", http))
	case op.OCILayout != nil:
		t.field("oci-layout", op.OCILayout.Path+"@"+op.OCILayout.Digest)
	}
}

// withoutPassword hides the password of a URL.
func withoutPassword(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	if _, ok := u.User.Password(); ok {
		u.User = url.UserPassword("xxxxx", "xxxxx")
	}
	return u.String()
}

func (t *text) exec(op *Exec) {
	t.list("args", op.Args)
	for _, e := range op.Env {
		t.field("env", visible(e))
	}
	t.field("cwd", visible(op.Cwd))
	t.field("user", visible(op.User))
	t.field("hostname", op.Hostname)
	for _, h := range op.Hosts {
		t.field("host", h.Host+" "+h.IP)
	}
	for _, u := range op.Ulimits {
		t.field("ulimit", fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	for _, m := range op.Mounts {
		t.mount(m)
	}
	t.field("network", string(op.Network))
	t.field("security", string(op.Security))
	for _, s := range op.SecretEnv {
		t.field("secret env", s.Name+" id="+s.ID+required(s.Required))
	}
	t.options(op)
	for _, d := range op.Devices {
		t.field("device", d.Name+required(d.Required))
	}
	if op.ShmSize != 0 {
		t.field("shm size", strconv.FormatInt(op.ShmSize, 10))
	}
}

func (t *text) mount(m Mount) {
	var b strings.Builder
	b.WriteString(string(m.Type) + " " + visible(m.Dest))
	if m.Input >= 0 {
		fmt.Fprintf(&b, " input=%d", m.Input)
	}
	if m.Selector != "" {
		b.WriteString(" selector=" + visible(m.Selector))
	}
	if m.ReadOnly {
		b.WriteString(" ro")
	}
	if m.Output != 0 {
		fmt.Fprintf(&b, " output=%d", m.Output)
	}
	if m.ID != "" {
		b.WriteString(" id=" + visible(m.ID))
	}
	if m.Sharing != "" {
		b.WriteString(" sharing=" + m.Sharing)
	}
	if m.Size != 0 {
		fmt.Fprintf(&b, " size=%d", m.Size)
	}
	for _, f := range []struct {
		name, format string
		v            *int
	}{{"uid", "%d", m.UID}, {"gid", "%d", m.GID}, {"mode", "%04o", m.Mode}} {
		if f.v != nil {
			fmt.Fprintf(&b, " "+f.name+"="+f.format, *f.v)
		}
	}
	b.WriteString(required(m.Required))
	t.field("mount", b.String())
}

func (t *text) action(a Action) {
	switch {
	case a.Copy != nil:
		t.copy(a.Copy)
	case a.Mkfile != nil:
		t.field("mkfile", fmt.Sprintf("%s mode=%04o%s %q", visible(a.Mkfile.Path), a.Mkfile.Mode, owner(a.Mkfile.Owner), a.Mkfile.Data))
	case a.Mkdir != nil:
		t.field("mkdir", fmt.Sprintf("%s mode=%04o%s%s", visible(a.Mkdir.Path), a.Mkdir.Mode, owner(a.Mkdir.Owner), word("parents", a.Mkdir.MakeParents)))
	case a.Rm != nil:
		t.field("rm", visible(a.Rm.Path)+word("allow-not-found", a.Rm.AllowNotFound))
	case a.Symlink != nil:
		t.field("symlink", visible(a.Symlink.Path)+" -> "+visible(a.Symlink.Target)+owner(a.Symlink.Owner))
	}
}

func (t *text) copy(c *Copy) {
	var b strings.Builder
	fmt.Fprintf(&b, "input=%d %s -> %s", c.Input, quoted(c.Sources), visible(c.Dest))
	b.WriteString(owner(c.Owner))
	if c.Mode != "" {
		b.WriteString(" mode=" + c.Mode)
	}
	b.WriteString(word("wildcard", c.Wildcard) + word("keep-owner", c.KeepOwner) + word("unpack", c.Unpack))
	b.WriteString(word("follow-links", c.FollowLinks) + word("parents", c.Parents))
	if len(c.Excludes) > 0 {
		b.WriteString(" excludes=" + quoted(c.Excludes))
	}
	t.field("copy", b.String())
}

func (t *text) meta(m *Meta) {
	for _, l := range m.Locations {
		at := fmt.Sprintf("%s:%d", visible(l.File), l.Start)
		if l.End > l.Start {
			at += fmt.Sprintf("-%d", l.End)
		}
		t.field("at", at)
	}
	t.flag("no cache", m.NoCache)
	if m.MaxAge > 0 {
		t.field("max age", m.MaxAge.String())
	}
	for _, e := range m.ProxyEnv {
		name, _, _ := strings.Cut(e, "=")
		t.field("proxy", name)
	}
	if m.Limits != (Limits{}) {
		t.field("limits", m.Limits.String())
	}
}

func (t *text) field(name, value string) {
	if value != "" {
		fmt.Fprintf(&t.b, "    %-8s %s\n", name, value)
	}
}

func (t *text) list(name string, values []string) {
	if len(values) > 0 {
		t.field(name, quoted(values))
	}
}

func (t *text) flag(name string, on bool) {
	if on {
		fmt.Fprintf(&t.b, "    %s\n", name)
	}
}

func quoted(values []string) string {
	q := make([]string, len(values))
	for i, v := range values {
		q[i] = strconv.Quote(v)
	}
	return "[" + strings.Join(q, " ") + "]"
}

// visible quotes a string that would not stay on its line.
func visible(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func owner(o *Owner) string {
	if o == nil {
		return ""
	}
	return " owner=" + o.User + ":" + o.Group
}

func word(name string, on bool) string {
	if on {
		return " " + name
	}
	return ""
}

func required(on bool) string { return word("required", on) }

func platform(p ocispec.Platform) string {
	if p.OS == "" {
		return ""
	}
	return path.Join(p.OS, p.Architecture, p.Variant)
}
