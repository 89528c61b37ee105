package s3

import (
	"context"
	"fmt"
	"sync"
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

// soon is how long before their end credentials are asked for anew.
const soon = 5 * time.Minute

// rest is how long a source is left alone that gave none.
const rest = 30 * time.Second

// ring keeps the credentials of a source while they are valid.
type ring struct {
	source  source
	secrets *object.Secrets

	mu   sync.Mutex
	have bool // guarded by mu
	keys Keys // guarded by mu
	// failed is why there are none, so that not every request has to find out.
	failed error     // guarded by mu
	since  time.Time // guarded by mu
}

func (r *ring) about() string { return r.source.About() }

func (r *ring) get(ctx context.Context) (Keys, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.have && (r.keys.Expires.IsZero() || time.Until(r.keys.Expires) > soon) {
		return r.keys, nil
	}
	if r.failed != nil && time.Since(r.since) < rest {
		return Keys{}, r.failed
	}
	keys, err := r.source.Keys(ctx)
	if err != nil {
		err = fmt.Errorf("get credentials of %s: %w", r.source.About(), err)
		if ctx.Err() == nil {
			r.failed, r.since = err, time.Now()
		}
		return Keys{}, err
	}
	r.failed = nil
	r.secrets.Add(keys.ID, keys.Secret, keys.Token)
	r.have, r.keys = true, keys
	return keys, nil
}

// forget forgets credentials that end some time: the source may have others.
func (r *ring) forget() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys.Expires.IsZero() {
		return false
	}
	r.have = false
	return true
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
