package progress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestWriter(t *testing.T) {
	var told []string
	ctx := With(t.Context(), func(item string, current, total int64) { told = append(told, fmt.Sprint(item, current, total)) })
	var got bytes.Buffer
	w := &Writer{W: &got, To: Of(ctx), Item: "x", Done: 10, Total: -1}
	for _, s := range []string{"abc", "", "de"} {
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
	}
	if s := strings.Join(told, " "); got.String() != "abcde" || s != "x13 -1 x13 -1 x15 -1" {
		t.Errorf("%q, told %q", got.String(), s)
	}
	pr, pw := io.Pipe()
	pr.CloseWithError(io.ErrUnexpectedEOF)
	w.W = pw
	if n, err := w.Write([]byte("lost")); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) || w.Done != 15 {
		t.Errorf("%d, %v; %d are done", n, err, w.Done)
	}
}

// Who wants to be told nothing need not be asked.
func TestNobody(t *testing.T) {
	told := false
	ctx := With(t.Context(), func(string, int64, int64) { told = true })
	Of(t.Context())("x", 1, 2)
	Of(With(ctx, nil))("x", 1, 2)
	if told {
		t.Error("told who does not want to know")
	}
}

func TestItem(t *testing.T) {
	d := digest.FromString("x")
	if got := Item(d); len(got) != 12 || !strings.HasPrefix(d.Encoded(), got) {
		t.Errorf("%s is called %q", d, got)
	}
}
