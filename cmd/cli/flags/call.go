package flags

import (
	"strings"

	"layered.build/builder/parser/mistake"
)

// What --call can ask for.
const (
	CallBuild   = "build"
	CallCheck   = "check"
	CallOutline = "outline"
	CallTargets = "targets"
)

// Call is a parsed --call.
type Call struct {
	What string // one of the constants
	JSON bool
	// Lax makes findings of a check no failure (ignorestatus).
	Lax bool
}

// parseCall reads --call and --check: NAME[,format=text|json][,ignorestatus[=BOOL]].
func (l *langFlags) parseCall() (Call, error) {
	text := l.call
	if l.check {
		if text != CallBuild && text != "" && text != CallCheck {
			return Call{}, mistake.New("--check and --call=%s cannot be combined", text)
		}
		text = CallCheck
	}
	name, rest, _ := strings.Cut(text, ",")
	c := Call{What: name}
	switch name {
	case "lint":
		c.What = CallCheck
	case "", CallBuild:
		c.What = CallBuild
	case CallCheck, CallOutline, CallTargets:
	default:
		return c, mistake.Unsupported("--call="+name, "use build, check, outline or targets")
	}
	for option := range strings.SplitSeq(rest, ",") {
		switch option {
		case "", "format=text", "ignorestatus=false":
		case "format=json":
			c.JSON = true
		case "ignorestatus", "ignorestatus=true":
			c.Lax = true
		default:
			return c, mistake.New("--call=%s: unknown option %q", text, option).WithHint("use format=text, format=json or ignorestatus")
		}
	}
	return c, nil
}
