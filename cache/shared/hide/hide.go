// Package hide keeps from others the values that explain why a step was not found in a
// cache: with a salt equal values have equal hashes, for those who have the salt.
package hide

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"layered.build/builder/cache"
)

// maxParts is how many components of a key are kept; of more only those of the key itself
// are, not what is behind the digests of its inputs.
const maxParts = 200

// Hidden is what an index says of a record for explanations (docs/FORMAT.md).
type Hidden struct {
	// Salt names the salt with which the others are hashed.
	Salt string `json:",omitempty"`
	// Names are those of cache.Record, of a definition key.
	Names []string `json:",omitempty"`
	Parts Parts    `json:",omitempty"`
}

// Part is a component of the key, whose value is a hash.
type Part struct{ Name, Hash string }

// Salt hides values.
type Salt struct {
	salt []byte
	id   string
}

// New returns what hides with a salt.
func New(salt []byte) Salt {
	sum := sha256.Sum256(salt)
	return Salt{salt, hex.EncodeToString(sum[:4])}
}

func (s Salt) hash(value string) string {
	m := hmac.New(sha256.New, s.salt)
	io.WriteString(m, value)
	return hex.EncodeToString(m.Sum(nil)[:8])
}

// Record hides a record. It has names under its definition key only.
func (s Salt) Record(key cache.Key, rec *cache.Record) (Hidden, error) {
	if len(rec.Parts) == 0 {
		return Hidden{}, nil
	}
	h := Hidden{Salt: s.id}
	var err error
	if h.Parts, err = PartsOf(s.parts(rec.Parts, nil)); err != nil {
		return h, err
	}
	if key == rec.Definition {
		for _, n := range rec.Names {
			h.Names = append(h.Names, s.name(n))
		}
	}
	return h, nil
}

// Of returns what reports whether a record that this salt has hidden is of a step of a name.
func (s Salt) Of(name string) func(Hidden) bool {
	hidden := s.name(name)
	return func(h Hidden) bool { return h.Salt == s.id && slices.Contains(h.Names, hidden) }
}

func (s Salt) name(n string) string { return s.hash("step " + n) }

// envPart begins the name of a part that stands for one variable of the part "env".
const envPart = "env "

// parts hides values, and the names of variables. Variables, unless nil, gets these by what
// stands for them.
func (s Salt) parts(parts []cache.Part, variables map[string]string) []Part {
	var out []Part
	for _, p := range parts {
		if strings.HasSuffix(p.Name, " "+cache.FilesPart) || len(parts) > maxParts && strings.Count(p.Name, " ") > 1 {
			continue
		}
		out = append(out, Part{p.Name, s.hash(p.Value)})
		if p.Name != "env" {
			continue
		}
		var env []string
		_ = json.Unmarshal([]byte(p.Value), &env) // a value that is no list has no variables
		for _, kv := range env {
			name, value, _ := strings.Cut(kv, "=")
			hidden := s.hash("variable " + name)
			if variables != nil {
				variables[hidden] = name
			}
			out = append(out, Part{envPart + hidden, s.hash(value)})
		}
	}
	return out
}

// Compare returns what was hashed into the key of a record that is hidden, and what is now,
// both hidden. Variables have their names if there are such now.
func (s Salt) Compare(h Hidden, now []cache.Part) (before, after []cache.Part) {
	variables := map[string]string{}
	after = shown(s.parts(now, variables), variables)
	return shown(h.Parts.List(), variables), after
}

func shown(parts []Part, variables map[string]string) []cache.Part {
	out := make([]cache.Part, len(parts))
	for i, p := range parts {
		out[i] = cache.Part{Name: p.Name, Value: p.Hash}
		if hidden, ok := strings.CutPrefix(p.Name, envPart); ok {
			name, known := variables[hidden]
			if !known {
				name = "(" + hidden + ")"
			}
			out[i].Name = envPart + name
		}
	}
	return out
}
