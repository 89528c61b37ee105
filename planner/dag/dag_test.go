package dag

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

func image(ref string) *Step {
	return &Step{Op: &Source{Image: &ImageSource{Ref: ref, Digest: "sha256:" + ref}}, Platform: amd64}
}

func run(base Edge, cmd string) *Step {
	return &Step{
		Op:     &Exec{Args: []string{"/bin/sh", "-c", cmd}, Cwd: "/", Mounts: []Mount{{Type: MountBind, Dest: "/"}}},
		Inputs: []Edge{base}, Platform: amd64,
	}
}

func TestIDIsWhatTheStepIs(t *testing.T) {
	make1 := func() *Step { return run(Edge{Step: image("a")}, "make") }
	want := make1().ID()
	if got := make1().ID(); got != want {
		t.Errorf("equal steps: %s, %s", got, want)
	}
	differs := map[string]func(s *Step){
		"op":       func(s *Step) { s.Op.(*Exec).Args[2] = "other" },
		"env":      func(s *Step) { s.Op.(*Exec).Env = []string{"A=1"} },
		"platform": func(s *Step) { s.Platform.Architecture = "arm64" },
		"input":    func(s *Step) { s.Inputs[0] = Edge{Step: image("b")} },
		"output":   func(s *Step) { s.Inputs[0].Output = 1 },
		"scratch":  func(s *Step) { s.Inputs[0] = Edge{} },
		"more":     func(s *Step) { s.Inputs = append(s.Inputs, Edge{}) },
	}
	seen := map[ID]string{want: "the step"}
	for name, change := range differs {
		s := make1()
		change(s)
		if have, dup := seen[s.ID()]; dup {
			t.Errorf("%s: same ID as %s", name, have)
		}
		seen[s.ID()] = name
	}
}

// TestMetaNeverChangesID sets every field of Meta, also those that will be added.
func TestMetaNeverChangesID(t *testing.T) {
	want := run(Edge{}, "x").ID()
	fields := reflect.TypeFor[Meta]()
	for i := range fields.NumField() {
		s := run(Edge{}, "x")
		fill(reflect.ValueOf(&s.Meta).Elem().Field(i))
		if reflect.ValueOf(s.Meta).Field(i).IsZero() {
			t.Fatalf("%s was not set", fields.Field(i).Name)
		}
		if got := s.ID(); got != want {
			t.Errorf("Meta.%s changes the ID", fields.Field(i).Name)
		}
	}
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// TestOpsHaveDistinctEncodings guards against two operations, or two sources,
// that encode alike.
func TestOpsHaveDistinctEncodings(t *testing.T) {
	ops := []Op{
		&Source{Image: &ImageSource{}}, &Source{Local: &LocalSource{}}, &Source{Git: &GitSource{}},
		&Source{HTTP: &HTTPSource{}}, &Source{OCILayout: &OCILayoutSource{}},
		&Exec{}, &File{}, &File{Base: true}, &Merge{}, &Diff{},
		&File{Actions: []Action{{Copy: &Copy{}}}}, &File{Actions: []Action{{Mkfile: &Mkfile{}}}},
		&File{Actions: []Action{{Mkdir: &Mkdir{}}}}, &File{Actions: []Action{{Rm: &Rm{}}}}, &File{Actions: []Action{{Symlink: &Symlink{}}}},
	}
	seen := map[string]int{}
	for i, op := range ops {
		c := string((&Step{Op: op}).Canonical())
		if j, dup := seen[c]; dup {
			t.Errorf("ops %d and %d encode alike: %s", i, j, c)
		}
		seen[c] = i
	}
}

func TestGraphOrder(t *testing.T) {
	base := image("a")
	left, right := run(Edge{Step: base}, "left"), run(Edge{Step: base}, "right")
	join := &Step{Op: &Merge{}, Inputs: []Edge{{Step: left}, {}, {Step: right}}}
	g := NewGraph(Edge{Step: join}, Edge{Step: left}, Edge{})
	if want := []*Step{base, left, right, join}; !slices.Equal(g.Steps, want) {
		t.Errorf("order:\n%s", g)
	}
}

func TestSelector(t *testing.T) {
	cp := &Step{
		Op: &File{Base: true, Actions: []Action{
			{Copy: &Copy{Input: 1, Sources: []string{"b", "a/*.go"}, Wildcard: true}},
			{Copy: &Copy{Input: 1, Sources: []string{"a/*.go"}}},
			{Copy: &Copy{Input: 2, Sources: []string{"."}}},
			{Copy: &Copy{Input: 3, Sources: []string{"p/q/./r/s", "x"}, Parents: true}},
			{Mkdir: &Mkdir{Path: "/d"}},
		}},
		Inputs: make([]Edge, 5),
	}
	ex := &Step{
		Op: &Exec{Mounts: []Mount{
			{Type: MountBind, Input: 0, Dest: "/"},
			{Type: MountBind, Input: 1, Dest: "/src", Selector: "src"},
			{Type: MountBind, Input: 1, Dest: "/two", Selector: "/a/"},
			{Type: MountBind, Input: 2, Dest: "/all"},
			{Type: MountTmpfs, Input: -1, Dest: "/tmp"},
		}},
		Inputs: make([]Edge, 3),
	}
	from := &Step{Op: &File{Actions: []Action{{Copy: &Copy{Input: 0, Sources: []string{"a"}}}}}, Inputs: make([]Edge, 1)}
	for _, c := range []struct {
		step  *Step
		input int
		want  string // "-": not ok
	}{
		{cp, 0, "-"},
		{cp, 1, "a/*.go b"},
		{cp, 2, "."},
		{cp, 3, "p/q/r/s x"},
		{cp, 4, "-"},
		{ex, 0, "-"},
		{ex, 1, "a src"},
		{ex, 2, "."},
		{from, 0, "a"},
		{&Step{Op: &Merge{}, Inputs: make([]Edge, 2)}, 0, "-"},
		{&Step{Op: &Diff{}, Inputs: make([]Edge, 2)}, 1, "-"},
	} {
		paths, ok := c.step.Selector(c.input)
		got := strings.Join(paths, " ")
		if !ok {
			got = "-"
		}
		if got != c.want {
			t.Errorf("%s input %d: %q, want %q", c.step.Op.Kind(), c.input, got, c.want)
		}
	}
}

// TestTextShowsEveryField changes each field of each operation in turn: a field
// that Text left out could differ without any golden file showing it.
func TestTextShowsEveryField(t *testing.T) {
	one := 1
	base := func() []Op {
		return []Op{
			&Source{Local: &LocalSource{}},
			&Source{Image: &ImageSource{}},
			&Exec{Mounts: []Mount{{Type: MountCache, Input: 0}}},
			&File{Actions: []Action{{Copy: &Copy{}}}},
			&File{Actions: []Action{{Mkfile: &Mkfile{}}}},
			&File{Actions: []Action{{Mkdir: &Mkdir{}}}},
			&File{Actions: []Action{{Rm: &Rm{}}}},
			&File{Actions: []Action{{Symlink: &Symlink{}}}},
		}
	}
	for n := range base() {
		before := (&Graph{Steps: []*Step{{Op: base()[n]}}}).String()
		op := base()[n]
		var walk func(v reflect.Value, name string)
		walk = func(v reflect.Value, name string) {
			switch v.Kind() {
			case reflect.Pointer:
				if !v.IsNil() {
					walk(v.Elem(), name)
					return
				}
				switch v.Type() {
				case reflect.TypeFor[*int]():
					v.Set(reflect.ValueOf(&one))
				case reflect.TypeFor[*Owner]():
					v.Set(reflect.ValueOf(&Owner{User: "u"}))
				default:
					return // another kind of source or action
				}
			case reflect.Struct:
				for i := range v.NumField() {
					walk(v.Field(i), name+"."+v.Type().Field(i).Name)
				}
				return
			case reflect.Slice:
				if v.Len() > 0 && v.Type().Elem().Kind() != reflect.Uint8 {
					walk(v.Index(0), name)
					return
				}
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
				if v.Index(0).Kind() != reflect.Uint8 {
					fill(v.Index(0))
				}
			default:
				fill(v)
			}
			after := (&Graph{Steps: []*Step{{Op: op}}}).String()
			if after == before {
				t.Errorf("%T: Text does not show %s", op, name)
			}
			before = after
		}
		walk(reflect.ValueOf(op).Elem(), op.Kind())
	}
}

func TestTextIsStableAndOnOneLine(t *testing.T) {
	s := run(Edge{Step: image("a")}, "x\ny")
	s.Meta = Meta{Name: "RUN x\ny", ProxyEnv: []string{"HTTP_PROXY=http://user:secret@p"}}
	text := NewGraph(Edge{Step: s}).String()
	if strings.Contains(text, "secret") {
		t.Errorf("a proxy's password is shown:\n%s", text)
	}
	if !strings.Contains(text, `"RUN x\ny"`) {
		t.Errorf("a name breaks the line:\n%s", text)
	}
	if again := NewGraph(Edge{Step: s}).String(); again != text {
		t.Errorf("differs:\n%s", again)
	}
}
