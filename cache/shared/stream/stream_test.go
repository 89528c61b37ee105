package stream

import (
	"errors"
	"strings"
	"testing"
)

func TestObject(t *testing.T) {
	bad := errors.New("bad")
	for text, want := range map[string]struct {
		list []int
		err  error
	}{
		`{"A":[1,2],"B":{"C":[[]]},"D":null}`: {list: []int{1, 2}},
		`{"A":null}`:                          {},
		`{"A":[1,2,3,4]}`:                     {err: ErrBounds},
		`{"A":[9]}`:                           {err: bad},
		`{"A":3}`:                             {err: ErrBounds},
		`[]`:                                  {err: ErrBounds},
		`{} {}`:                               {err: ErrBounds},
		`{"B":"` + strings.Repeat("x", 2*MaxEntry) + `"}`:     {err: ErrBounds},
		`{` + strings.Repeat(`"B":1,`, MaxMembers) + `"B":1}`: {err: ErrBounds},
		`{"B":` + strings.Repeat("[", maxDepth+1):             {err: ErrBounds},
	} {
		d := New(strings.NewReader(text))
		var list []int
		err := d.Object(func(name string) (err error) {
			if name != "A" {
				return d.Skip()
			}
			list, err = List(d, 3, func(n *int) error {
				if *n == 9 {
					return bad
				}
				return nil
			})
			return err
		})
		if !errors.Is(err, want.err) || want.err == nil && (err != nil || len(list) != len(want.list)) {
			t.Errorf("%.40s: %v, %v", text, list, err)
		}
	}
	if err := New(strings.NewReader(`{"A":`)).Object(func(string) error { return nil }); err == nil {
		t.Error("what is cut off was accepted")
	}
}
