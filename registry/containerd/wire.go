package containerd

import (
	"fmt"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a protocol buffer that is being written. Fields that are empty are left
// out, as proto3 wants it.
type message []byte

func (m message) bytes(field protowire.Number, v []byte) message {
	if len(v) == 0 {
		return m
	}
	return m.sub(field, v)
}

func (m message) text(field protowire.Number, v string) message { return m.bytes(field, []byte(v)) }

// sub adds a message, also an empty one.
func (m message) sub(field protowire.Number, v message) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), v)
}

func (m message) number(field protowire.Number, v int64) message {
	if v == 0 {
		return m
	}
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), uint64(v))
}

// table adds a map of strings.
func (m message) table(field protowire.Number, v map[string]string) message {
	for _, k := range slices.Sorted(maps.Keys(v)) {
		m = m.sub(field, message(nil).text(1, k).text(2, v[k]))
	}
	return m
}

// mask adds a google.protobuf.FieldMask: what an update is about.
func (m message) mask(field protowire.Number, paths ...string) message {
	var mask message
	for _, p := range paths {
		mask = mask.text(1, p)
	}
	return m.sub(field, mask)
}

// numbers reads the numbers among a message's fields.
func numbers(raw []byte) (map[protowire.Number]int64, error) {
	out := map[protowire.Number]int64{}
	for len(raw) > 0 {
		field, kind, n := protowire.ConsumeTag(raw)
		if n >= 0 {
			raw = raw[n:]
			if kind == protowire.VarintType {
				var v uint64
				v, n = protowire.ConsumeVarint(raw)
				out[field] = int64(v)
			} else {
				n = protowire.ConsumeFieldValue(field, kind, raw)
			}
		}
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", errNotGRPC, protowire.ParseError(n))
		}
		raw = raw[n:]
	}
	return out, nil
}

// descriptor is containerd.types.Descriptor.
func descriptor(d ocispec.Descriptor) message {
	return message(nil).text(1, d.MediaType).text(2, d.Digest.String()).number(3, d.Size)
}
