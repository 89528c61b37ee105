package sandbox

import "testing"

func TestProcessors(t *testing.T) {
	for s, want := range map[string]int{"0": 1, "0-3": 4, "1,3-4": 3, "": -1, "a": -1, "3-1": -1, "0-5000": -1} {
		got, err := Processors(s)
		if want < 0 && err == nil || want >= 0 && (err != nil || len(got) != want) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}
