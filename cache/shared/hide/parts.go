package hide

import (
	"bytes"
	"encoding/json"
)

// Parts are the components of a record as they are encoded. Who looks for a record does not
// need them, and they are most of an index.
type Parts []byte

// PartsOf encodes components.
func PartsOf(list []Part) (Parts, error) {
	if len(list) == 0 {
		return nil, nil
	}
	return json.Marshal(list)
}

// List decodes the components; what are none is left out.
func (p Parts) List() []Part {
	var list []Part
	if json.Unmarshal(p, &list) != nil {
		return nil
	}
	return list
}

// MarshalJSON implements json.Marshaler.
func (p Parts) MarshalJSON() ([]byte, error) {
	if len(p) == 0 {
		return []byte("null"), nil
	}
	return p, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Parts) UnmarshalJSON(text []byte) error {
	if *p = nil; string(text) != "null" {
		*p = bytes.Clone(text)
	}
	return nil
}
