// Package credentials finds what is to be presented to registries where docker and
// podman keep it, when a registry asks for it.
package credentials

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Source finds credentials. It is safe for concurrent use.
type Source interface {
	// Get returns what is to be presented for a repository of a host[:port]; nothing is
	// the zero Credential. It is called when a registry asks for a login, and may take
	// long; the progress of ctx can be told. An error ends the request.
	Get(ctx context.Context, host, repo string) (Credential, error)
}

// Credential is what is presented to one registry.
type Credential struct {
	Auth authn.AuthConfig // the zero value is none
	// About says what is used, without the secret.
	About string
}

// Login is a user and a password; about says where they are from, for error messages.
func Login(user, password, about string) Credential {
	return Credential{Auth: authn.AuthConfig{Username: user, Password: password}, About: about}
}

// Authenticator presents the credential, or nothing if there is none.
func (c Credential) Authenticator() authn.Authenticator {
	if c.Auth == (authn.AuthConfig{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(c.Auth)
}

// Scrub removes the credential from a text.
func (c Credential) Scrub(text string) string {
	secrets := []string{c.Auth.Password, c.Auth.IdentityToken, c.Auth.RegistryToken}
	if c.Auth.Password != "" {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(c.Auth.Username+":"+c.Auth.Password)))
	}
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	return text
}
