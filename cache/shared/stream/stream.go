// Package stream reads JSON that anybody may have written: one entry of a list after the
// other, and no more than bounds allow.
package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	// MaxEntry is how many bytes one entry may have.
	MaxEntry = 4 << 20
	// MaxMembers is how many members the object may have.
	MaxMembers = 100
	// MaxSkipped is how much is passed over that nobody asks for: values, brackets, names.
	MaxSkipped = 4_000_000
	// maxDepth is how deep that may be.
	maxDepth = 10_000
)

// ErrBounds is the error for what is larger than it may be, or no object.
var ErrBounds = errors.New("too large, or not what it should be")

// Decoder reads one object.
type Decoder struct {
	in      *limited
	json    *json.Decoder
	skipped int
}

// New returns a Decoder; the caller bounds how much r gives.
func New(r io.Reader) *Decoder {
	in := &limited{r: r}
	return &Decoder{in: in, json: json.NewDecoder(in)}
}

// limited ends with an error where an entry is too long.
type limited struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, fmt.Errorf("%w: an entry of more than %d bytes", ErrBounds, MaxEntry)
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// Value reads a value, of at most MaxEntry bytes.
func (d *Decoder) Value(v any) error {
	d.in.left = MaxEntry
	return d.json.Decode(v)
}

func (d *Decoder) token() (json.Token, error) {
	d.in.left = MaxEntry
	return d.json.Token()
}

// Object calls member for each member of the object, which reads its value with Value, List
// or Skip. Errors are those of member, of JSON, or match ErrBounds.
func (d *Decoder) Object(member func(name string) error) error {
	if t, err := d.token(); err != nil || t != json.Delim('{') {
		return errors.Join(ErrBounds, err)
	}
	for n := 0; d.json.More(); n++ {
		t, err := d.token()
		if err != nil {
			return err
		}
		if n == MaxMembers {
			return fmt.Errorf("%w: more than %d members", ErrBounds, MaxMembers)
		}
		if err := member(t.(string)); err != nil {
			return err
		}
	}
	if _, err := d.token(); err != nil { // the brace
		return err
	}
	if t, err := d.token(); err != io.EOF {
		return errors.Join(fmt.Errorf("%w: %v after its end", ErrBounds, t), err)
	}
	return nil
}

// List reads a list of at most so many entries, which are checked one by one.
func List[T any](d *Decoder, most int, check func(*T) error) (list []T, err error) {
	t, err := d.token()
	if err != nil || t == nil {
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, fmt.Errorf("%w: %v is no list", ErrBounds, t)
	}
	for d.json.More() {
		if len(list) == most {
			return nil, fmt.Errorf("%w: more than %d entries", ErrBounds, most)
		}
		var v T
		if err := d.Value(&v); err != nil {
			return nil, err
		}
		if err := check(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err = d.token() // the bracket
	return list, err
}

// Skip passes over a value.
func (d *Decoder) Skip() error {
	for depth := 0; ; d.skipped++ {
		t, err := d.token()
		if err == nil && d.skipped == MaxSkipped {
			err = fmt.Errorf("%w: too much that is not known", ErrBounds)
		}
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return fmt.Errorf("%w: too deep", ErrBounds)
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
