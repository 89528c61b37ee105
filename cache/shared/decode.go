package shared

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxEntry is how many bytes one entry of an index may have.
	maxEntry = 4 << 20
	// maxWindow is how far back the compression may refer.
	maxWindow = 32 << 20
	// maxStacks is how many stacks an index may have.
	maxStacks = 2_000_000
	// maxLayers is how many layers, and maxMounts how many mounts.
	maxLayers, maxMounts = 500_000, 50_000
	// maxOutputs is how many outputs a step may have.
	maxOutputs = 1000
	// maxMembers is how many kinds of things an index may hold.
	maxMembers = 100
	// maxSkipped is how much of what only later programs know is passed over.
	maxSkipped = 4_000_000
)

// decodeIndex reads an index that anybody may have written. It takes one entry after the
// other, and ends at the first that is none: a few bytes that stand for many empty entries
// would else take more memory than there is.
func decodeIndex(b []byte) (*index, error) {
	r, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxIndex), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	defer r.Close()
	in := &entryReader{r: io.LimitReader(r, maxIndex)}
	d := &indexDecoder{in: in, json: json.NewDecoder(in)}
	if err := d.decode(); err != nil {
		if errors.Is(err, errIndex) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	if d.x.Version != indexVersion {
		return nil, fmt.Errorf("an index of version %d; this program knows %d", d.x.Version, indexVersion)
	}
	return &d.x, d.x.check()
}

// entryReader ends with an error where an entry is too long.
type entryReader struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (e *entryReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, fmt.Errorf("%w: an entry of more than %d bytes", errIndex, maxEntry)
	}
	n, err := e.r.Read(p[:min(len(p), e.left)])
	e.left -= n
	return n, err
}

// indexDecoder reads an index.
type indexDecoder struct {
	in   *entryReader
	json *json.Decoder
	x    index

	skipped int // tokens
}

// value reads an entry.
func (d *indexDecoder) value(v any) error {
	d.in.left = maxEntry
	return d.json.Decode(v)
}

// token reads a brace, a bracket, or the name of a member.
func (d *indexDecoder) token() (json.Token, error) {
	d.in.left = maxEntry
	return d.json.Token()
}

func (d *indexDecoder) decode() error {
	if t, err := d.token(); err != nil || t != json.Delim('{') {
		return errors.Join(errIndex, err)
	}
	for n := 0; d.json.More(); n++ {
		name, err := d.token()
		if err == nil && n == maxMembers {
			err = fmt.Errorf("%w: more than %d members", errIndex, maxMembers)
		}
		if err == nil {
			err = d.member(name)
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.token(); err != nil { // the brace
		return err
	}
	if t, err := d.token(); err != io.EOF {
		return errors.Join(fmt.Errorf("%w: %v after its end", errIndex, t), err)
	}
	return nil
}

func (d *indexDecoder) member(name json.Token) (err error) {
	switch name {
	case "Version":
		err = d.value(&d.x.Version)
	case "Layers":
		d.x.Layers, err = readList(d, maxLayers, (*layer).check)
	case "Stacks":
		d.x.Stacks, err = readList(d, maxStacks, func(*stack) error { return nil })
	case "Records":
		d.x.Records, err = readList(d, maxRecords, func(r **record) error { return (*r).check() })
	case "Mounts":
		d.x.Mounts, err = readList(d, maxMounts, func(m **Mount) error { return (*m).check() })
	case "Signatures":
		d.x.Signatures, err = readList(d, maxRecords, func(**signature) error { return nil })
	default:
		err = d.skip()
	}
	return err
}

// readList reads a list of at most so many entries, which are checked one by one.
func readList[T any](d *indexDecoder, most int, check func(*T) error) (list []T, err error) {
	t, err := d.token()
	if err != nil || t == nil {
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, fmt.Errorf("%w: %v is no list", errIndex, t)
	}
	for d.json.More() {
		if len(list) == most {
			return nil, fmt.Errorf("%w: more than %d entries", errIndex, most)
		}
		var v T
		if err := d.value(&v); err != nil {
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

// skip passes over a value of a later program's.
func (d *indexDecoder) skip() error {
	for depth := 0; ; d.skipped++ {
		t, err := d.token()
		if err == nil && d.skipped == maxSkipped {
			err = fmt.Errorf("%w: too much that is not known", errIndex)
		}
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return fmt.Errorf("%w: too deep", errIndex)
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// isDigest is Validate of a digest; what nearly all are is found out quickly.
func isDigest(d digest.Digest) bool {
	hex, ok := strings.CutPrefix(string(d), "sha256:")
	if !ok || len(hex) != 64 {
		return d.Validate() == nil
	}
	for i := range len(hex) {
		if c := hex[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// check makes sure that an entry says what it has to. Of its blobs nothing is kept but what
// readers need.
func (l *layer) check() error {
	named := isDigest(l.Content) || l.Content == "" && !l.Image && l.Blob == nil
	if !isDigest(digest.Digest(l.DiffID)) || !named || l.Size < 0 || !isTime(l.Created) {
		return fmt.Errorf("%w: a layer", errIndex)
	}
	for _, b := range []**ocispec.Descriptor{&l.Blob, &l.Entries} {
		if *b == nil {
			continue
		}
		if !isDigest((*b).Digest) || (*b).Size < 0 {
			return fmt.Errorf("%w: blob of layer %s", errIndex, l.DiffID)
		}
		*b = plain(**b)
	}
	return nil
}

// check makes sure that an entry says what it has to.
func (r *record) check() error {
	if r == nil || !isDigest(digest.Digest(r.Key)) || !isTime(r.Created) {
		return fmt.Errorf("%w: a record", errIndex)
	}
	if len(r.Outputs) > maxOutputs {
		return fmt.Errorf("%w: record %s has %d outputs", errIndex, r.Key, len(r.Outputs))
	}
	return nil
}

// check makes sure that all numbers lead to what is there, that no stack is too high, and
// that not too much is named. It finds the signatures of entries.
func (x *index) check() error {
	depth := make([]int, len(x.Stacks))
	for i, s := range x.Stacks {
		if s.Below < -1 || s.Below >= i || s.Layer < 0 || s.Layer >= len(x.Layers) {
			return fmt.Errorf("%w: stack %d", errIndex, i)
		}
		depth[i] = 1
		if s.Below >= 0 {
			depth[i] += depth[s.Below]
		}
		if depth[i] > maxDepth {
			return fmt.Errorf("%w: a stack of more than %d layers", errIndex, maxDepth)
		}
	}
	named := 0
	for _, r := range x.Records {
		for _, o := range r.Outputs {
			if o < -1 || o >= len(x.Stacks) {
				return fmt.Errorf("%w: record %s", errIndex, r.Key)
			}
			if o >= 0 {
				named += depth[o]
			}
		}
		if named > maxNamed {
			return fmt.Errorf("%w: the records name more than %d layers", errIndex, maxNamed)
		}
		if err := r.find(x); err != nil {
			return err
		}
	}
	for _, m := range x.Mounts {
		if err := m.find(x); err != nil {
			return err
		}
	}
	return nil
}
