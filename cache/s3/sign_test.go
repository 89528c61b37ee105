package s3

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/object"
)

// The examples of AWS's "Signature calculations for the Authorization header".
func TestSign(t *testing.T) {
	keys := Keys{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		query, signature string
	}{
		{object.Query(map[string]string{"lifecycle": ""}), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{object.Query(map[string]string{"prefix": "J", "max-keys": "2"}), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		r, err := http.NewRequest(http.MethodGet, "https://examplebucket.s3.amazonaws.com/?"+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		sign(r, nil, keys, scope{"us-east-1", "s3"}, now)
		if got := r.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+c.signature) {
			t.Errorf("%s: got %s", c.query, got)
		}
	}
}
