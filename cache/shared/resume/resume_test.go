package resume

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const text = "0123456789"

// What breaks off goes on at the offset; what gives nothing any more ends with an error.
func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		size  int64
		piece int // how much comes at a time; 0: nothing
		err   error
		want  string
	}{
		"breaks off":  {10, 3, io.ErrUnexpectedEOF, ""},
		"ends early":  {10, 4, nil, ""},
		"too long":    {9, 10, nil, "it is longer than 9 bytes"},
		"gives up":    {10, 0, io.ErrUnexpectedEOF, "read blob: unexpected EOF"},
		"not there":   {10, -1, fs.ErrNotExist, "read blob: file does not exist"},
		"is too much": {11, 10, nil, "read blob: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			b := Blob{Name: "blob", Size: c.size, Patience: time.Minute, Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
				if c.piece < 0 {
					return nil, c.err
				}
				part := text[min(int(offset), len(text)):min(int(offset)+c.piece, len(text))]
				r := io.Reader(strings.NewReader(part))
				if c.err != nil && (part != "" || c.piece == 0) {
					r = io.MultiReader(r, iotest.ErrReader(c.err))
				}
				return io.NopCloser(r), nil
			}}
			r, err := Open(t.Context(), b, 0)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				err = errors.Join(err, r.Close())
			}
			if c.want == "" && (err != nil || string(got) != text) {
				t.Errorf("got %q, %v", got, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
