package s3

import (
	"context"
	"fmt"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/parser/mistake"
)

// Keys are credentials.
type Keys struct {
	ID, Secret, Token string
	// Expires is when they end; zero: never.
	Expires time.Time
}

// source gives credentials.
type source interface {
	// About names it for people.
	About() string
	// Keys gives them; it is called again when they have ended or were refused.
	Keys(ctx context.Context) (Keys, error)
}

// ring keeps the credentials of a source while they are valid.
type ring struct {
	source source
	held   object.Held[Keys]
}

// newRing makes one; credentials become secrets.
func newRing(from source, secrets *object.Secrets) *ring {
	r := &ring{source: from}
	r.held.Ask = func(ctx context.Context) (Keys, time.Time, error) {
		keys, err := from.Keys(ctx)
		if err != nil {
			return Keys{}, time.Time{}, fmt.Errorf("get credentials of %s: %w", from.About(), err)
		}
		secrets.Add(keys.ID, keys.Secret, keys.Token)
		return keys, keys.Expires, nil
	}
	return r
}

// fixed are credentials that were given.
type fixed struct {
	about string
	keys  Keys
}

// About implements source.
func (f fixed) About() string { return f.about }

// Keys implements source.
func (f fixed) Keys(context.Context) (Keys, error) { return f.keys, nil }

// findSource chooses where credentials come from, in the order of the AWS tools: options,
// variables, the token of a pod, profiles, the container's role, the machine's.
func findSource(a *shared.Attrs, getenv func(string) string, files *profiles, region string) (source, error) {
	given := Keys{ID: a.Take("access_key_id"), Secret: a.Take("secret_access_key"), Token: a.Take("session_token")}
	if given.ID != "" || given.Secret != "" {
		if given.ID == "" || given.Secret == "" {
			return nil, mistake.New("type=s3: access_key_id and secret_access_key go together")
		}
		return fixed{"the options", given}, nil
	}
	id, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	if id != "" && secret != "" {
		return fixed{"$AWS_ACCESS_KEY_ID", Keys{ID: id, Secret: secret, Token: getenv("AWS_SESSION_TOKEN")}}, nil
	}
	sts := tokenService{url: getenv("AWS_ENDPOINT_URL_STS"), region: region}
	if file := getenv("AWS_WEB_IDENTITY_TOKEN_FILE"); file != "" && getenv("AWS_ROLE_ARN") != "" {
		return webIdentity{sts: sts, file: file, role: getenv("AWS_ROLE_ARN"), session: getenv("AWS_ROLE_SESSION_NAME")}, nil
	}
	if s, err := files.source(sts); s != nil || err != nil {
		return s, err
	}
	if s := containerSource(getenv); s != nil {
		return s, nil
	}
	if getenv("AWS_EC2_METADATA_DISABLED") == "true" {
		return nil, noCredentials()
	}
	return machine{url: getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")}, nil
}

func noCredentials() error {
	return mistake.New("type=s3: there are no credentials").
		WithHint("set $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, or $AWS_PROFILE, or give access_key_id=… and secret_access_key=…")
}
