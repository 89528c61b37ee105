package dag

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"unicode/utf8"
)

// Validate checks what Canonical and the executor rely on: an operation whose
// references to inputs exist, whose destinations are absolute, whose outputs are each
// that of one mount, whose network there is, and whose strings are UTF-8. (Others would not survive the encoding: two different operations
// could get one ID. BuildKit's protobuf refuses them too.)
func (s *Step) Validate() error {
	if s.Op == nil || reflect.ValueOf(s.Op).IsNil() {
		return errors.New("step without an operation")
	}
	if bad, ok := invalidText(reflect.ValueOf(s.Op)); ok {
		return fmt.Errorf("%q is not valid UTF-8", bad)
	}
	switch op := s.Op.(type) {
	case *Exec:
		if !op.Network.Valid() {
			return fmt.Errorf("there is no network %q", op.Network)
		}
		if err := s.validateOutputs(op); err != nil {
			return err
		}
		return s.validateMounts(op)
	case *File:
		return s.validateActions(op)
	case *Merge:
		return s.atLeast(1)
	case *Diff:
		return s.atLeast(2)
	}
	return nil
}

func (s *Step) atLeast(n int) error {
	if len(s.Inputs) < n {
		return fmt.Errorf("%s with %d inputs: it needs %d", s.Op.Kind(), len(s.Inputs), n)
	}
	return nil
}

func (s *Step) hasInput(i int) error {
	if i < 0 || i >= len(s.Inputs) {
		return fmt.Errorf("%s refers to input %d of %d", s.Op.Kind(), i, len(s.Inputs))
	}
	return nil
}

func (s *Step) validateMounts(op *Exec) error {
	for _, m := range op.Mounts {
		if !path.IsAbs(m.Dest) {
			return fmt.Errorf("mount at %q: the place is not absolute", m.Dest)
		}
		if m.Input == -1 {
			continue
		}
		if err := s.hasInput(m.Input); err != nil {
			return fmt.Errorf("mount at %s: %w", m.Dest, err)
		}
	}
	return nil
}

// maxOutputs bounds the outputs of a step.
const maxOutputs = 1024

// validateOutputs checks that every output is that of one mount.
func (s *Step) validateOutputs(op *Exec) error {
	made := map[int]bool{}
	for _, m := range op.Mounts {
		switch {
		case m.Output == 0:
			continue
		case m.Output < 0 || m.Output > maxOutputs || made[m.Output]:
			return fmt.Errorf("mount at %s: output %d is not one of its own", m.Dest, m.Output)
		case m.Type != MountBind || m.Dest == "/":
			return fmt.Errorf("mount at %s: only bind mounts beside the root have an output", m.Dest)
		}
		made[m.Output] = true
	}
	if n := s.Outputs(); n != len(made)+1 {
		return fmt.Errorf("%d mounts have outputs up to %d", len(made), n-1)
	}
	return nil
}

func (s *Step) validateActions(op *File) error {
	if op.Base {
		if err := s.atLeast(1); err != nil {
			return err
		}
	}
	for _, a := range op.Actions {
		if a.Copy == nil {
			continue
		}
		if !path.IsAbs(a.Copy.Dest) {
			return fmt.Errorf("copy to %q: the place is not absolute", a.Copy.Dest)
		}
		if err := s.hasInput(a.Copy.Input); err != nil {
			return fmt.Errorf("copy to %s: %w", a.Copy.Dest, err)
		}
	}
	return nil
}

// invalidText finds a string in v that is not UTF-8.
func invalidText(v reflect.Value) (string, bool) {
	switch v.Kind() {
	case reflect.String:
		return v.String(), !utf8.ValidString(v.String())
	case reflect.Pointer:
		if !v.IsNil() {
			return invalidText(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if bad, ok := invalidText(v.Field(i)); ok {
				return bad, true
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return "", false // bytes are encoded as they are
		}
		for i := range v.Len() {
			if bad, ok := invalidText(v.Index(i)); ok {
				return bad, true
			}
		}
	}
	return "", false
}
