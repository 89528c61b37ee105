package dag

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ID returns the step's name; it is computed once.
func (s *Step) ID() ID {
	s.once.Do(func() {
		h := sha256.New()
		h.Write(s.Canonical())
		s.id = ID("sha256:" + hex.EncodeToString(h.Sum(nil)))
	})
	return s.id
}

// Canonical is the encoding whose sha256 is the step's ID: JSON with the fields
// in the order of the types, inputs by ID. The step is valid (see Validate). See
// docs/FORMAT.md.
func (s *Step) Canonical() []byte {
	enc := struct {
		Kind     string
		Op       Op
		Inputs   []string
		Platform ocispec.Platform
	}{Kind: s.Op.Kind(), Op: s.Op, Platform: s.Platform}
	for _, in := range s.Inputs {
		if in.IsScratch() {
			enc.Inputs = append(enc.Inputs, "scratch")
			continue
		}
		enc.Inputs = append(enc.Inputs, fmt.Sprintf("%s/%d", in.Step.ID(), in.Output))
	}
	b, err := json.Marshal(enc)
	if err != nil { // the op types hold nothing that JSON cannot encode
		panic("dag: encode step: " + err.Error())
	}
	return b
}
