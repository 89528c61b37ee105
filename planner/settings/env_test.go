package settings

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestEnv compares environments that go on from each other with lists that are searched.
func TestEnv(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	type pair struct {
		env  Env
		want []variable
	}
	set := func(vars []variable, v variable) []variable {
		vars = slices.DeleteFunc(slices.Clone(vars), func(o variable) bool { return o.key == v.key })
		return append(vars, v)
	}
	all := []pair{{}}
	for i := range 2000 {
		p := all[len(all)-1]
		if rnd.IntN(20) == 0 {
			p = all[rnd.IntN(len(all))]
		}
		v := variable{key: fmt.Sprint("k", rnd.IntN(300)), value: fmt.Sprint(i)}
		switch rnd.IntN(40) {
		case 0:
			p.env, p.want = p.env.WithAll([]string{"a=0", v.key + "=" + v.value, "a=1"}), set(set(p.want, v), variable{key: "a", value: "1"})
		case 1:
			p.env = p.env.Without(v.key)
			p.want = slices.DeleteFunc(slices.Clone(p.want), func(o variable) bool { return o.key == v.key })
		default:
			p.env, p.want = p.env.With(v.key, v.value), set(p.want, v)
		}
		all = append(all, p)
		p = all[rnd.IntN(len(all))]
		key := fmt.Sprint("k", rnd.IntN(300))
		at := slices.IndexFunc(p.want, func(o variable) bool { return o.key == key })
		if got, ok := p.env.Get(key); ok != (at >= 0) || ok && got != p.want[at].value {
			t.Fatalf("%s is %q, %t in %v", key, got, ok, p.want)
		}
		if rnd.IntN(30) > 0 {
			continue
		}
		var want, keys []string
		for _, o := range p.want {
			want, keys = append(want, o.key+"="+o.value), append(keys, o.key)
		}
		if got := p.env.List(); !slices.Equal(got, want) || !slices.Equal(p.env.Keys(), keys) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	}
}
