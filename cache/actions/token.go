package actions

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// The permissions of a scope.
const (
	mayRead  = 1
	mayWrite = 2
)

// scope is a branch or the like whose entries a job sees.
type scope struct {
	Scope      string
	Permission int
}

// claims are what a token says: the service checks it, we only want to know.
type claims struct {
	scopes []scope
	ends   time.Time // zero: not known
}

// readToken reads a JSON web token (RFC 7519). Of others, such as services like GitHub's may
// have, nothing is known.
func readToken(token string) claims {
	var doc struct {
		Access  string `json:"ac"` // a JSON text
		Expires int64  `json:"exp"`
	}
	var c claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || json.Unmarshal(data, &doc) != nil {
		return c
	}
	if doc.Expires > 0 {
		c.ends = time.Unix(doc.Expires, 0)
	}
	if json.Unmarshal([]byte(doc.Access), &c.scopes) != nil {
		c.scopes = nil
	}
	return c
}

// branches are the scopes of a token: the one that is written to first, the others that are
// read in the token's order. Without any there is one without a name.
func (c claims) branches() []scope {
	if len(c.scopes) == 0 {
		return []scope{{Permission: mayRead | mayWrite}}
	}
	own := 0
	for i, s := range c.scopes {
		if s.Permission&mayWrite != 0 {
			own = i
		}
	}
	out := []scope{c.scopes[own]}
	for i, s := range c.scopes {
		if i != own && s.Permission&mayRead != 0 {
			out = append(out, s)
		}
	}
	return out
}
