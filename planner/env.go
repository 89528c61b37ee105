package planner

import (
	"strings"
)

// env is an ordered environment. It is immutable: with returns another one. A
// variable that is set again moves to the end, as in BuildKit's llb.EnvList.
// It implements shell.EnvGetter.
type env []variable

type variable struct{ key, value string }

// Get implements shell.EnvGetter.
func (e env) Get(key string) (string, bool) {
	for _, v := range e {
		if v.key == key {
			return v.value, true
		}
	}
	return "", false
}

// Keys implements shell.EnvGetter.
func (e env) Keys() []string {
	keys := make([]string, len(e))
	for i, v := range e {
		keys[i] = v.key
	}
	return keys
}

func (e env) with(key, value string) env {
	return append(e.without(key), variable{key, value})
}

// withAll is with for each string "KEY=value" of a list.
func (e env) withAll(list []string) env {
	at := make(map[string]int, len(list)) // of which the last counts
	for i, kv := range list {
		k, _, _ := strings.Cut(kv, "=")
		at[k] = i
	}
	out := make(env, 0, len(e)+len(list))
	for _, v := range e {
		if _, again := at[v.key]; !again {
			out = append(out, v)
		}
	}
	for i, kv := range list {
		if k, v, _ := strings.Cut(kv, "="); at[k] == i {
			out = append(out, variable{k, v})
		}
	}
	return out
}

func (e env) without(key string) env {
	out := make(env, 0, len(e)+1)
	for _, v := range e {
		if v.key != key {
			out = append(out, v)
		}
	}
	return out
}

// list returns "KEY=value" strings.
func (e env) list() []string {
	out := make([]string, len(e))
	for i, v := range e {
		out[i] = v.key + "=" + v.value
	}
	return out
}
