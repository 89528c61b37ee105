package shared_test

import (
	"testing"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// TestCopySigned copies what is signed: of what is left out, no blobs are sent.
func TestCopySigned(t *testing.T) {
	k, other := newPair(t), newPair(t)
	here, there := &sharedtest.Memory{}, &sharedtest.Memory{}
	how := shared.To{Scope: "main", Mode: shared.ModeMax, Mounts: all, Signer: k.signer}
	export(t, here, how, &sender{texts: map[string]string{"npm": "good"}})
	how.Signer = other.signer
	export(t, here, how, &sender{texts: map[string]string{"npm key": "evil"}})
	newMachine().makes(t, to(here, "main", k.signer), "one", "two")
	newMachine().makes(t, to(here, "main", nil), "unsigned")
	newMachine().makes(t, to(here, "main", other.signer), "evil")
	c, err := shared.ReadContents(t.Context(), from(here, k.keys, "main"))
	if err != nil {
		t.Fatal(err)
	}
	problems := 0
	n, err := c.CopyTo(t.Context(), there, func(shared.Problem) { problems++ })
	if err != nil || n.Records != 2 || n.Mounts != 1 || n.Left != 3 || problems != 3 {
		t.Errorf("%+v, %v, %d problems", n, err, problems)
	}
	// A layer and a list of each step, and a mount.
	if blobs, size := there.Len(); blobs != 5 || size != n.Bytes {
		t.Errorf("%d blobs of %d bytes, told %d", blobs, size, n.Bytes)
	}
	missing, err := there.Missing(t.Context(), []shared.Blob{blobOf("one"), blobOf("two")})
	if err != nil || len(missing) > 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
}
