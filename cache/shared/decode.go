package shared

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache/shared/stream"
)

const (
	// maxWindow is how far back the compression may refer.
	maxWindow = 32 << 20
	// maxStacks is how many stacks an index may have.
	maxStacks = 2_000_000
	// maxLayers is how many layers, and maxMounts how many mounts.
	maxLayers, maxMounts = 500_000, 50_000
	// maxOutputs is how many outputs a step may have.
	maxOutputs = 1000
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
	x := &index{}
	d := stream.New(io.LimitReader(r, maxIndex))
	if err := d.Object(func(name string) error { return x.member(d, name) }); err != nil {
		if errors.Is(err, errIndex) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	if x.Version != indexVersion {
		return nil, fmt.Errorf("an index of version %d; this program knows %d", x.Version, indexVersion)
	}
	return x, x.check()
}

// member reads a member.
func (x *index) member(d *stream.Decoder, name string) (err error) {
	switch name {
	case "Version":
		err = d.Value(&x.Version)
	case "Layers":
		x.Layers, err = stream.List(d, maxLayers, (*layer).check)
	case "Stacks":
		x.Stacks, err = stream.List(d, maxStacks, func(*stack) error { return nil })
	case "Records":
		x.Records, err = stream.List(d, maxRecords, func(r **record) error { return (*r).check() })
	case "Mounts":
		x.Mounts, err = stream.List(d, maxMounts, func(m **Mount) error { return (*m).check() })
	case "Signatures":
		x.Signatures, err = stream.List(d, maxRecords, func(**signature) error { return nil })
	default:
		err = d.Skip()
	}
	return err
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
