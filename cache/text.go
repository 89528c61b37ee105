package cache

import (
	"encoding/json"
	"unicode/utf8"

	"layered.build/builder/planner/dag"
)

// text is a string in JSON that may be a name of a file, and so need not be UTF-8: JSON
// would make other bytes equal. Such a string is kept in base64, in a field of its own.
type text struct {
	plain string
	raw   []byte
}

func newText(s string) text {
	if utf8.ValidString(s) {
		return text{plain: s}
	}
	return text{raw: []byte(s)}
}

func (t text) String() string { return t.plain + string(t.raw) } // one of them is empty

type partJSON struct {
	Name     string
	NameRaw  []byte `json:",omitempty"`
	Value    string
	ValueRaw []byte `json:",omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (p Part) MarshalJSON() ([]byte, error) {
	name, value := newText(p.Name), newText(p.Value)
	return json.Marshal(partJSON{name.plain, name.raw, value.plain, value.raw})
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Part) UnmarshalJSON(b []byte) error {
	var j partJSON
	err := json.Unmarshal(b, &j)
	p.Name, p.Value = text{j.Name, j.NameRaw}.String(), text{j.Value, j.ValueRaw}.String()
	return err
}

type findingJSON struct {
	Rule    dag.Rule
	Text    string
	TextRaw []byte `json:",omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (f Finding) MarshalJSON() ([]byte, error) {
	t := newText(f.Text)
	return json.Marshal(findingJSON{f.Rule, t.plain, t.raw})
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *Finding) UnmarshalJSON(b []byte) error {
	var j findingJSON
	err := json.Unmarshal(b, &j)
	f.Rule, f.Text = j.Rule, text{j.Text, j.TextRaw}.String()
	return err
}
