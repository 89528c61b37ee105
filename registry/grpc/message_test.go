package grpc

import (
	"errors"
	"slices"
	"testing"
)

// TestMessage compares with bytes put together by hand (protobuf.dev, "Encoding").
func TestMessage(t *testing.T) {
	got := Message(nil).Number(1, 2).Text(2, "").Number(3, 300).Sub(4, nil).Flag(5, false).Flag(6, true).
		Table(7, map[string]string{"b": "2", "a": "1"}).Mask(8, "x")
	want := "\x08\x02\x18\xac\x02\x22\x00\x30\x01\x3a\x06\x0a\x01a\x12\x011\x3a\x06\x0a\x01b\x12\x012\x42\x03\x0a\x01x"
	if string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	var numbers []int
	var sum uint64
	err := Read(got, func(f Field) error {
		numbers, sum = append(numbers, f.Number), sum+f.Varint
		return nil
	})
	if want := []int{1, 3, 4, 6, 7, 7, 8}; err != nil || !slices.Equal(numbers, want) || sum != 303 {
		t.Errorf("fields %v, numbers %d, %v", numbers, sum, err)
	}
	stop := errors.New("stop")
	if err := Read(got, func(Field) error { return stop }); err != stop {
		t.Errorf("got %v", err)
	}
}

func TestPacked(t *testing.T) {
	if got := (Field{Bytes: []byte("\x01\xac\x02\x80")}).Numbers(); !slices.Equal(got, []uint64{1, 300}) {
		t.Errorf("got %v", got)
	}
	if got := (Field{Varint: 7}).Numbers(); !slices.Equal(got, []uint64{7}) {
		t.Errorf("got %v", got)
	}
}

// FuzzRead reads what another program sends.
func FuzzRead(f *testing.F) {
	f.Add([]byte("\x08\x02\x18\xac\x02\x22\x00"))
	f.Add([]byte("\x0b\x0c\xff"))
	f.Add([]byte("\x09\x01\x02\x03\x04\x05\x06\x07\x08\x10\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		err := Read(raw, func(f Field) error {
			f.Numbers()
			return nil
		})
		if err != nil && !errors.Is(err, ErrNotGRPC) {
			t.Errorf("error %v", err)
		}
		retryDelay(raw) //nolint:errcheck // must come back
	})
}
