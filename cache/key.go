package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"layered.build/builder/planner/dag"
)

// FormatVersion is part of every key: a change of what is hashed makes all older records
// misses.
const FormatVersion = 1

// revision is part of the keys of a kind of step where it is not 0: it counts the changes
// of what such steps do, for which older records are wrong.
func revision(op dag.Op) int {
	f, ok := op.(*dag.File)
	if !ok {
		return 0
	}
	for _, a := range f.Actions {
		if a.Copy != nil && a.Copy.Unpack {
			return 3 // links in archives, and headers of hard links
		}
	}
	return 1 // folders below a set-group-ID folder
}

// Input is what one input contributes to a key. The zero Input is scratch.
type Input struct {
	// Definition is the definition key of the step that makes the input.
	Definition Key
	Output     int
	// Content, if set, takes the place of Definition: it is a digest of what the
	// step reads of the input.
	Content digest.Digest
	// Details say what Content was made of. They are not hashed again.
	Details []Part
}

// DefinitionKey names a step's result by what the step is and by the definition
// keys of its inputs; inputs that have no definition (local sources) have Content.
func DefinitionKey(step *dag.Step, inputs []Input) (Key, []Part, error) {
	return key("definition", step, inputs)
}

// ResultKey names a step's result by what the step is and by the content of its
// inputs. Every input but scratch has Content.
func ResultKey(step *dag.Step, inputs []Input) (Key, []Part, error) {
	return key("result", step, inputs)
}

// NameKey is a key that no step has: it stands for a name, in a Locker.
func NameKey(name string) Key {
	sum := sha256.Sum256([]byte("name " + name))
	return Key("sha256:" + hex.EncodeToString(sum[:]))
}

func key(kind string, step *dag.Step, inputs []Input) (Key, []Part, error) {
	h := hasher{h: sha256.New()}
	h.add("salt", fmt.Sprintf("builder/%d/%s", FormatVersion, kind))
	h.add("platform", platforms.FormatAll(step.Platform))
	if err := h.addOp(step.Op); err != nil {
		return "", nil, err
	}
	var details []Part
	for i, in := range inputs {
		name := fmt.Sprintf("input %d", i)
		h.add(name, in.value())
		for _, d := range in.Details {
			details = append(details, Part{Name: name + " " + d.Name, Value: d.Value})
		}
	}
	return h.key(), append(h.parts, details...), nil
}

func (in Input) value() string {
	switch {
	case in.Content != "":
		return "content " + string(in.Content)
	case in.Definition != "":
		return fmt.Sprintf("%s output %d", in.Definition, in.Output)
	default:
		return "scratch"
	}
}

// hasher hashes named components so that no two lists of them read the same.
type hasher struct {
	h     hash.Hash
	parts []Part
}

func (h *hasher) add(name, value string) {
	fmt.Fprintf(h.h, "%d %s %d ", len(name), name, len(value))
	io.WriteString(h.h, value)
	h.parts = append(h.parts, Part{Name: name, Value: value})
}

func (h *hasher) key() Key { return Key("sha256:" + hex.EncodeToString(h.h.Sum(nil))) }

// addOp adds the fields of an operation one by one, so that it can be told which
// of them changed.
func (h *hasher) addOp(op dag.Op) error {
	h.add("op", op.Kind())
	if n := revision(op); n > 0 {
		h.add("revision", strconv.Itoa(n))
	}
	b, err := json.Marshal(identity(op))
	if err != nil {
		return fmt.Errorf("encode %s: %w", op.Kind(), err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return fmt.Errorf("encode %s: %w", op.Kind(), err)
	}
	names := make([]string, 0, len(fields))
	for n := range fields {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		h.add(strings.ToLower(n), string(fields[n]))
	}
	return nil
}

// identity leaves out of an operation what does not change its output.
func identity(op dag.Op) dag.Op {
	src, ok := op.(*dag.Source)
	if !ok {
		return op
	}
	if src.Git != nil || src.HTTP != nil { // the input's content names it
		return &dag.Source{}
	}
	if src.OCILayout != nil { // the same image, wherever it is
		src = &dag.Source{Image: &dag.ImageSource{Digest: src.OCILayout.Digest}}
	}
	if src.Image == nil {
		return op
	}
	img := *src.Image
	if img.Digest != "" { // a tag that moved to the same image is the same image
		img.Ref = ""
	}
	return &dag.Source{Image: &img}
}
