package progress

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// Mode is a form of display.
type Mode string

// The modes.
const (
	Auto  Mode = "auto"  // TTY on a terminal, Plain elsewhere
	TTY   Mode = "tty"   // a live picture
	Plain Mode = "plain" // text, in order
	Quiet Mode = "quiet" // nothing
	JSON  Mode = "json"  // one event a line
)

// ParseMode reads the value of --progress; "" is Auto.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(strings.ToLower(s)); m {
	case "":
		return Auto, nil
	case Auto, TTY, Plain, Quiet, JSON:
		return m, nil
	case "rawjson":
		return "", fmt.Errorf("progress mode %q is not supported (use json)", s)
	}
	return "", fmt.Errorf("unknown progress mode %q (use auto, tty, plain, quiet or json)", s)
}

// Display is a consumer of a build's events. Observe may be called from many
// goroutines; no call may follow Close, which shows the final state.
type Display interface {
	Observe(executor.Event)
	// Announce tells which steps may come, so that progress has a total.
	Announce(steps []*dag.Step)
	Close() error
}

// New returns a display of the given mode that writes to out; doing is what its title says
// ("Building"). Auto decides by whether out is a terminal that can move its cursor.
func New(mode Mode, out io.Writer, doing string) (Display, error) {
	f, _ := out.(*os.File)
	isTerm := f != nil && term.IsTerminal(int(f.Fd()))
	if mode == Auto || mode == "" {
		mode = Plain
		if isTerm && os.Getenv("TERM") != "dumb" {
			mode = TTY
		}
	}
	switch mode {
	case TTY:
		if !isTerm {
			return nil, fmt.Errorf("progress mode tty needs a terminal (use plain)")
		}
		return newLive(f, os.Getenv("NO_COLOR") == "", doing), nil
	case Plain:
		return NewPlain(out), nil
	case JSON:
		return NewJSON(out), nil
	case Quiet:
		return silent{}, nil
	}
	return nil, fmt.Errorf("unknown progress mode %q", mode)
}

// silent is the quiet display.
type silent struct{}

func (silent) Observe(executor.Event)     {}
func (silent) Announce(steps []*dag.Step) {}
func (silent) Close() error               { return nil }

var _ Display = silent{}
