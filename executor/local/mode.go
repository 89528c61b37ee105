package local

import (
	"fmt"
	"strconv"
	"strings"
)

// modeChange is what --chmod does to a mode, as chmod(1) with umask 0.
type modeChange struct {
	octal   bool
	value   uint32
	clauses []modeClause
}

type modeClause struct {
	who  uint32 // mask of the classes' permission bits
	ops  []modeOp
	text string
}

type modeOp struct {
	op   byte   // + - =
	bits uint32 // of all classes
	copy byte   // u, g or o: the bits come from that class
	exec bool   // X
}

// The bits of the classes in a mode.
const (
	userBits  = 0o4700
	groupBits = 0o2070
	otherBits = 0o1007
)

// parseMode reads an octal or symbolic mode; "" changes nothing.
func parseMode(s string) (*modeChange, error) {
	if s == "" {
		return nil, nil
	}
	if n, err := strconv.ParseUint(s, 8, 32); err == nil {
		if n > 0o7777 {
			return nil, fmt.Errorf("invalid mode %q: more than 07777", s)
		}
		return &modeChange{octal: true, value: uint32(n)}, nil
	}
	m := &modeChange{}
	for text := range strings.SplitSeq(s, ",") {
		c, err := parseClause(text)
		if err != nil {
			return nil, fmt.Errorf("invalid mode %q: %w", s, err)
		}
		m.clauses = append(m.clauses, c)
	}
	return m, nil
}

func parseClause(s string) (modeClause, error) {
	c := modeClause{text: s}
	i := 0
who:
	for ; i < len(s); i++ {
		switch s[i] {
		case 'u':
			c.who |= userBits
		case 'g':
			c.who |= groupBits
		case 'o':
			c.who |= otherBits
		case 'a':
			c.who |= 0o7777
		default:
			break who
		}
	}
	if c.who == 0 {
		c.who = 0o7777
	}
	for i < len(s) {
		if !strings.ContainsRune("+-=", rune(s[i])) {
			return c, fmt.Errorf("unexpected %q", s[i])
		}
		op := modeOp{op: s[i]}
		for i++; i < len(s) && !strings.ContainsRune("+-=", rune(s[i])); i++ {
			if err := op.add(s[i]); err != nil {
				return c, err
			}
		}
		c.ops = append(c.ops, op)
	}
	if len(c.ops) == 0 {
		return c, fmt.Errorf("%q says nothing", s)
	}
	return c, nil
}

func (op *modeOp) add(ch byte) error {
	switch ch {
	case 'r':
		op.bits |= 0o444
	case 'w':
		op.bits |= 0o222
	case 'x':
		op.bits |= 0o111
	case 'X':
		op.exec = true
	case 's':
		op.bits |= 0o6000
	case 't':
		op.bits |= 0o1000
	case 'u', 'g', 'o':
		op.copy = ch
	default:
		return fmt.Errorf("unexpected %q", ch)
	}
	return nil
}

// apply returns the changed mode of a file or directory.
func (m *modeChange) apply(mode uint32, dir bool) uint32 {
	if m == nil {
		return mode
	}
	if m.octal {
		return m.value
	}
	for _, c := range m.clauses {
		for _, op := range c.ops {
			mode = op.apply(mode, c.who, dir)
		}
	}
	return mode
}

func (op modeOp) apply(mode, who uint32, dir bool) uint32 {
	bits := op.bits
	switch op.copy {
	case 'u':
		bits |= (mode >> 6 & 7) * 0o111
	case 'g':
		bits |= (mode >> 3 & 7) * 0o111
	case 'o':
		bits |= (mode & 7) * 0o111
	}
	if op.exec && (dir || mode&0o111 != 0) {
		bits |= 0o111
	}
	mask := who
	if who&otherBits != otherBits {
		mask &^= 0o1000
	}
	bits &= mask
	switch op.op {
	case '+':
		return mode | bits
	case '-':
		return mode &^ bits
	}
	// "=" leaves a directory's set-id bits, as GNU chmod does, unless it names them.
	clear := mask
	if dir {
		clear &^= 0o6000
	}
	return mode&^clear | bits
}
