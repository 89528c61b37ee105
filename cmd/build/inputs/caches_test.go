package inputs

import (
	"strings"
	"testing"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/engine"
)

// Of a place with several names all are read, and the first is written to.
func TestSeveralNames(t *testing.T) {
	h, err := engine.NewHost(engine.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Open(t.Context(), engine.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	attrs := func() []*shared.Attrs {
		a, err := shared.ParseAttrs(`type=s3,bucket=b,region=r,name=one;two;three,access_key_id=id,secret_access_key=key`)
		if err != nil {
			t.Fatal(err)
		}
		return []*shared.Attrs{a}
	}
	c, err := Caches{From: attrs(), To: attrs()}.Open(e)
	if err != nil || len(c.From) != 3 || len(c.To) != 1 {
		t.Fatalf("%d places to read, %d to write, %v", len(c.From), len(c.To), err)
	}
	if got := c.From[2].String(); !strings.HasSuffix(got, "three") {
		t.Errorf("the last is %s", got)
	}
}
