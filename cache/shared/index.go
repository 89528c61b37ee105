package shared

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared/hide"
	"layered.build/builder/snapshot"
)

const (
	// indexVersion is the version of the format.
	indexVersion = 1
	// maxIndex is how many bytes an index may have, uncompressed.
	maxIndex = 256 << 20
	// maxRecords is how many records an index keeps, those that were used last.
	maxRecords = 50_000
	// maxDepth is how many layers a stack may have.
	maxDepth = 10_000
	// maxNamed is how many layers all records together may name, each as often as it is
	// named.
	maxNamed = 5_000_000
)

// MediaType is that of an index where a place asks for one.
const MediaType = "application/vnd.builder.cache.index.v1+json+zstd"

// index is what a scope holds. Records share layers and stacks.
type index struct {
	Version int
	Layers  []layer
	Stacks  []stack
	Records []*record
	// Mounts are contents of cache mounts. Programs that do not know them pass them over.
	Mounts []*Mount `json:",omitempty"`
	// Signatures are those of records.
	Signatures []*signature `json:",omitempty"`
}

// layer is a layer that records name.
type layer struct {
	DiffID  snapshot.DiffID
	Content digest.Digest // "": that of the layer of the base image, whatever it is
	Size    int64
	Created int64 // seconds since 1970; 0: unknown
	Empty   bool  `json:",omitempty"`
	// Image says that Blob is what an image says that holds the index: it is not signed.
	Image bool `json:",omitempty"`
	// Blob is the compressed form that the place has; nil: it has none, since the layer
	// is one of a base image.
	Blob *ocispec.Descriptor `json:",omitempty"`
	// Entries is the list of the layer's entries, if the place has it: who needs no file's
	// content fetches that instead of Blob.
	Entries *ocispec.Descriptor `json:",omitempty"`
}

// blobs are what the place keeps of the layer.
func (l *layer) blobs() []Blob {
	var out []Blob
	if l.Blob != nil {
		out = append(out, Blob{Descriptor: *l.Blob, DiffID: l.DiffID})
	}
	if l.Entries != nil {
		out = append(out, Blob{Descriptor: *l.Entries})
	}
	return out
}

// stack is a layer on top of another stack.
type stack struct {
	Below int // of an earlier stack; -1: scratch
	Layer int
}

// record is a cache.Record in an index.
type record struct {
	Key        cache.Key
	Definition cache.Key
	Created    int64 // seconds since 1970
	Used       int64 // the day of the last use, counted from 1970
	Duration   int64 `json:",omitempty"` // ms
	// Outputs are stacks; -1 is scratch.
	Outputs  []int
	Findings []cache.Finding `json:",omitempty"`
	hide.Hidden
	mark
}

var errIndex = errors.New("no index of a cache, or damaged")

// encode makes the bytes of an index.
func (x *index) encode() ([]byte, error) {
	x.Version = indexVersion
	b, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("write index: %w", err)
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("write index: %w", err)
	}
	return w.EncodeAll(b, nil), nil
}

// isTime reports whether seconds since 1970 are a time that can be written, of a year with
// four digits.
func isTime(seconds int64) bool {
	const year10000 = 253_402_300_800
	return seconds >= -62_135_596_800 && seconds < year10000
}

// layers lists the layers of a stack, lowest first.
func (x *index) layers(at int) []layer {
	var out []layer
	for ; at >= 0; at = x.Stacks[at].Below {
		out = append(out, x.Layers[x.Stacks[at].Layer])
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// outputs are the layers of a record.
func (x *index) outputs(r *record) [][]layer {
	out := make([][]layer, len(r.Outputs))
	for i, o := range r.Outputs {
		out[i] = x.layers(o)
	}
	return out
}

// byKey finds records.
func (x *index) byKey() map[cache.Key]*record {
	m := make(map[cache.Key]*record, len(x.Records))
	for _, r := range x.Records {
		m[r.Key] = r
	}
	return m
}

// blobs lists the blobs that the index names, each once: what the place keeps of layers, and
// what mounts are in.
func (x *index) blobs() []Blob {
	seen := map[digest.Digest]bool{}
	var out []Blob
	add := func(b Blob) {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			out = append(out, b)
		}
	}
	for _, l := range x.Layers {
		for _, b := range l.blobs() {
			add(b)
		}
	}
	for _, m := range x.Mounts {
		for _, b := range m.blobs() {
			add(b)
		}
	}
	return out
}
