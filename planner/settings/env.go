package settings

import (
	"slices"
	"strings"
)

// Env is an ordered environment. It is immutable: With returns another one, which shares
// what it does not set. A variable that is set again moves to the end, as in BuildKit's
// llb.EnvList. It implements shell.EnvGetter. It takes one goroutine at a time, since it
// remembers what was asked for.
type Env struct{ top *scope }

// scope is one variable that is set on top of others, or many at once.
type scope struct {
	below *scope
	set   variable
	many  *listing // instead of set and below, and what they amount to once that was asked for
}

// listing is an environment in which each variable is once.
type listing struct {
	vars []variable
	at   map[string]int // where they are; nil until it is needed
}

type variable struct {
	key, value string
	arg        bool // an ARG of a stage has set it
}

// near is how many variables are looked at one after the other.
const near = 64

// Get implements shell.EnvGetter.
func (e Env) Get(key string) (string, bool) {
	s := e.top
	for i := 0; s != nil && s.many == nil; i++ {
		if s.set.key == key {
			return s.set.value, true
		}
		if s = s.below; i == near {
			s = e.top
			s.many = e.all()
		}
	}
	if s == nil {
		return "", false
	}
	return s.many.get(key)
}

func (l *listing) get(key string) (string, bool) {
	if l.at == nil {
		l.at = make(map[string]int, len(l.vars))
		for i, v := range l.vars {
			l.at[v.key] = i
		}
	}
	i, ok := l.at[key]
	if !ok {
		return "", false
	}
	return l.vars[i].value, true
}

// all lists the environment, which remembers it.
func (e Env) all() *listing {
	if e.top == nil {
		return &listing{}
	}
	var set []variable // the latest first
	s := e.top
	for ; s != nil && s.many == nil; s = s.below {
		set = append(set, s.set)
	}
	if len(set) == 0 {
		return s.many
	}
	again := make(map[string]bool, len(set))
	set = slices.DeleteFunc(set, func(v variable) bool {
		was := again[v.key]
		again[v.key] = true
		return was
	})
	l := &listing{}
	if s != nil {
		l.vars = make([]variable, 0, len(s.many.vars)+len(set))
		for _, v := range s.many.vars {
			if !again[v.key] {
				l.vars = append(l.vars, v)
			}
		}
	}
	slices.Reverse(set)
	l.vars = append(l.vars, set...)
	e.top.many, e.top.below = l, nil
	return l
}

// Keys implements shell.EnvGetter.
func (e Env) Keys() []string {
	vars := e.all().vars
	keys := make([]string, len(vars))
	for i, v := range vars {
		keys[i] = v.key
	}
	return keys
}

// With sets a variable.
func (e Env) With(key, value string) Env {
	return Env{&scope{below: e.top, set: variable{key: key, value: value}}}
}

// WithArg is With for what an ARG sets.
func (e Env) WithArg(key, value string) Env {
	return Env{&scope{below: e.top, set: variable{key: key, value: value, arg: true}}}
}

// WithAll is With for each string "KEY=value" of a list.
func (e Env) WithAll(list []string) Env {
	at := make(map[string]int, len(list)) // of which the last counts
	for i, kv := range list {
		k, _, _ := strings.Cut(kv, "=")
		at[k] = i
	}
	vars := e.all().vars
	out := make([]variable, 0, len(vars)+len(list))
	for _, v := range vars {
		if _, again := at[v.key]; !again {
			out = append(out, v)
		}
	}
	for i, kv := range list {
		if k, v, _ := strings.Cut(kv, "="); at[k] == i {
			out = append(out, variable{key: k, value: v})
		}
	}
	return Env{&scope{many: &listing{vars: out}}}
}

// Without has no variable of a name.
func (e Env) Without(key string) Env {
	out := slices.Clone(e.all().vars)
	return Env{&scope{many: &listing{vars: slices.DeleteFunc(out, func(v variable) bool { return v.key == key })}}}
}

// Reaching has, of the variables that an ARG has set, only those that named allows. One that
// is in the way of a variable of the image gives way to it.
func (e Env) Reaching(image []string, named func(key string) bool) Env {
	below := Env{}.WithAll(image)
	var vars []variable
	for _, v := range e.all().vars {
		if !v.arg || named(v.key) {
			vars = append(vars, v)
		} else if value, ok := below.Get(v.key); ok {
			vars = append(vars, variable{key: v.key, value: value})
		}
	}
	return Env{&scope{many: &listing{vars: vars}}}
}

// List returns "KEY=value" strings.
func (e Env) List() []string {
	vars := e.all().vars
	out := make([]string, len(vars))
	for i, v := range vars {
		out[i] = v.key + "=" + v.value
	}
	return out
}
