package shelltext

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	got := slices.Sorted(maps.Keys(Names("echo $A ${B:-c} \"$D\"X _E1=ü$F-${!G} H.I\nprintenv J")))
	if want := "A B D F G H I J X _E1 c echo printenv"; strings.Join(got, " ") != want {
		t.Errorf("%q", got)
	}
}

func TestCommands(t *testing.T) {
	for script, want := range map[string]int{"": 0, "# a\n\n": 0, "a\nb": 2, "a &&\nb\nc | \n d": 2, "a \\\n b": 1} {
		if got := Commands(script); got != want {
			t.Errorf("%q: %d, want %d", script, got, want)
		}
	}
	for script, want := range map[string]bool{"set -e": true, "a\n set -xe": true, "set -o errexit": true, "set -x": false, "reset -e": false} {
		if SetsErrexit(script) != want {
			t.Errorf("%q: %t", script, !want)
		}
	}
	if !IsErrexitFlag("-ec") || IsErrexitFlag("--e") || IsErrexitFlag("-c") || !IsErrexitFlag("errexit") {
		t.Error("flags")
	}
}
