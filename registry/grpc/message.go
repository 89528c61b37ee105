package grpc

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Message is a protocol buffer that is being written: each method returns it with a field
// more. Fields that are empty are left out, as proto3 wants it.
type Message []byte

// Bytes adds bytes.
func (m Message) Bytes(field int, v []byte) Message {
	if len(v) == 0 {
		return m
	}
	return m.Sub(field, v)
}

// Text adds a string.
func (m Message) Text(field int, v string) Message { return m.Bytes(field, []byte(v)) }

// Sub adds a message, also an empty one.
func (m Message) Sub(field int, v Message) Message {
	return protowire.AppendBytes(protowire.AppendTag(m, protowire.Number(field), protowire.BytesType), v)
}

// Number adds an integer, a member of an enumeration or a boolean.
func (m Message) Number(field int, v int64) Message {
	if v == 0 {
		return m
	}
	return protowire.AppendVarint(protowire.AppendTag(m, protowire.Number(field), protowire.VarintType), uint64(v))
}

// Flag adds a boolean.
func (m Message) Flag(field int, v bool) Message {
	if !v {
		return m
	}
	return m.Number(field, 1)
}

// Table adds a map of strings.
func (m Message) Table(field int, v map[string]string) Message {
	for _, k := range slices.Sorted(maps.Keys(v)) {
		m = m.Sub(field, Message(nil).Text(1, k).Text(2, v[k]))
	}
	return m
}

// Mask adds a google.protobuf.FieldMask: what an update is about.
func (m Message) Mask(field int, paths ...string) Message {
	var mask Message
	for _, p := range paths {
		mask = mask.Text(1, p)
	}
	return m.Sub(field, mask)
}

// Field is a field of a message that is being read.
type Field struct {
	Number int
	// Varint is the value of a number, 0 for any other kind.
	Varint uint64
	// Bytes are those of bytes, strings, messages and packed numbers; nil for any other
	// kind. They are part of the message.
	Bytes []byte
}

// Read calls each for every field of a message in its order; fields of kinds that Field
// has not are passed over. Errors are those of each, or match ErrNotGRPC.
func Read(raw []byte, each func(Field) error) error {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		f, known := Field{Number: int(number)}, false
		if n >= 0 {
			raw = raw[n:]
			switch kind {
			case protowire.VarintType:
				f.Varint, n = protowire.ConsumeVarint(raw)
				known = true
			case protowire.BytesType:
				f.Bytes, n = protowire.ConsumeBytes(raw)
				known = true
			default:
				n = protowire.ConsumeFieldValue(number, kind, raw)
			}
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrNotGRPC, protowire.ParseError(n))
		}
		raw = raw[n:]
		if !known {
			continue
		}
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}

// Numbers returns the numbers of a field, each for itself or packed.
func (f Field) Numbers() []uint64 {
	if f.Bytes == nil {
		return []uint64{f.Varint}
	}
	var out []uint64
	for raw := f.Bytes; len(raw) > 0; {
		v, n := protowire.ConsumeVarint(raw)
		if n < 0 {
			break
		}
		out, raw = append(out, v), raw[n:]
	}
	return out
}
