package transport

import (
	"testing"

	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A registry in the internet must not make us ask a server inside.
func TestTokenServerElsewhere(t *testing.T) {
	for registry, realm := range map[string]string{"10.0.0.5:5000": "http://169.254.169.254/x", "example.com": "http://10.0.0.1/x", "8.8.8.8": "http://127.0.0.1/x"} {
		ch := &gcr.Challenge{Parameters: map[string]string{"realm": realm}}
		if _, got := internalRealm(nil, registry, ch); got != ch {
			t.Errorf("%s may send us to %s", registry, realm)
		}
	}
}
