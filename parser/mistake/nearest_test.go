package mistake_test

import (
	"testing"

	"layered.build/builder/parser/mistake"
)

func TestNearest(t *testing.T) {
	commands := []string{"build", "du", "image", "images", "ps", "rm", "rmi", "run"}
	for name, want := range map[string]string{
		"ru": "run", "imagse": "image", "buidl": "build", "bulid": "build", "Build": "build", "buil": "build", "imagess": "images",
		"ima": "", "exec": "", "xy": "", "": "", "runn": "run", "rnu": "run", "top": "", "logs": "",
	} {
		if got, _ := mistake.Nearest(name, commands); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
