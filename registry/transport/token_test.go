package transport

import "testing"

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		have, want []string
		covers     bool
	}{
		{nil, nil, true},
		{nil, []string{"repository:a:pull"}, false},
		{[]string{"repository:a:push,pull"}, []string{"repository:a:pull"}, true},
		{[]string{"repository:a:pull"}, []string{"repository:a:pull,push"}, false},
		{[]string{"repository:a:pull", "repository:a:push"}, []string{"repository:a:pull,push"}, true},
		{[]string{"repository:ab:pull"}, []string{"repository:a:pull"}, false},
		{[]string{"repository:host:5000/a:pull"}, []string{"repository:host:5000/a:pull"}, true},
		{[]string{"repository:a:pull"}, []string{"registry:catalog:*"}, false},
	} {
		if got := covers(tc.have, tc.want); got != tc.covers {
			t.Errorf("%q cover %q: %t, want %t", tc.have, tc.want, got, tc.covers)
		}
	}
}
