package shared

import (
	"bytes"
	"encoding/json"
)

// parts are the components of a record as they are encoded. Who looks for a record does not
// need them, and they are most of an index.
type parts []byte

// partsOf encodes components.
func partsOf(list []part) (parts, error) {
	if len(list) == 0 {
		return nil, nil
	}
	return json.Marshal(list)
}

// list decodes the components; what are none is left out.
func (p parts) list() []part {
	var list []part
	if json.Unmarshal(p, &list) != nil {
		return nil
	}
	return list
}

// MarshalJSON implements json.Marshaler.
func (p parts) MarshalJSON() ([]byte, error) {
	if len(p) == 0 {
		return []byte("null"), nil
	}
	return p, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *parts) UnmarshalJSON(text []byte) error {
	if *p = nil; string(text) != "null" {
		*p = bytes.Clone(text)
	}
	return nil
}
