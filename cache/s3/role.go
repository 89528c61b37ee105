package s3

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"layered.build/builder/cache/object"
)

// tokenService is AWS's STS, which gives credentials for roles.
type tokenService struct{ url, region string }

const sessionName = "builder"

// ask makes a call; it is signed if keys are not nil.
func (s tokenService) ask(ctx context.Context, params map[string]string, keys *Keys) (Keys, error) {
	params["Version"] = "2011-06-15"
	address := cmp.Or(s.url, "https://sts."+s.region+"."+domain(s.region))
	u, err := url.Parse(address)
	if err != nil {
		return Keys{}, fmt.Errorf("$AWS_ENDPOINT_URL_STS: %w", errors.Unwrap(err))
	}
	u.Path = cmp.Or(u.Path, "/")
	q := object.Question{
		Method: http.MethodPost, URL: u.String(), Body: []byte(object.Query(params)),
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
	}
	if keys != nil {
		q.Sign = func(r *http.Request) { sign(r, q.Body, *keys, scope{s.region, "sts"}, time.Now().UTC()) }
	}
	body, err := object.Fetch(ctx, q)
	if err != nil {
		return Keys{}, err
	}
	return readRole(body)
}

func readRole(body []byte) (Keys, error) {
	type result struct {
		AccessKeyId, SecretAccessKey, SessionToken string //nolint:revive // AWS's names
		Expiration                                 time.Time
	}
	var doc struct {
		Web  result `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
		Role result `xml:"AssumeRoleResult>Credentials"`
	}
	if err := xml.Unmarshal(body, &doc); err != nil {
		return Keys{}, errors.New("the answer is no XML")
	}
	got := doc.Web
	if got.AccessKeyId == "" {
		got = doc.Role
	}
	if got.AccessKeyId == "" || got.SecretAccessKey == "" {
		return Keys{}, errors.New("the answer has no credentials")
	}
	return Keys{ID: got.AccessKeyId, Secret: got.SecretAccessKey, Token: got.SessionToken, Expires: got.Expiration}, nil
}

// webIdentity is a role that a token allows, such as a pod has (IRSA).
type webIdentity struct {
	sts                 tokenService
	file, role, session string
}

// About implements source.
func (w webIdentity) About() string { return "role " + w.role }

// Keys implements source.
func (w webIdentity) Keys(ctx context.Context) (Keys, error) {
	token, err := os.ReadFile(w.file)
	if err != nil {
		return Keys{}, fmt.Errorf("read the token: %w", err)
	}
	return w.sts.ask(ctx, map[string]string{
		"Action": "AssumeRoleWithWebIdentity", "RoleArn": w.role,
		"RoleSessionName": cmp.Or(w.session, sessionName), "WebIdentityToken": strings.TrimSpace(string(token)),
	}, nil)
}

// assumed is a role that other credentials allow.
type assumed struct {
	sts                     tokenService
	below                   source
	role, session, external string
}

// About implements source.
func (a assumed) About() string { return "role " + a.role + " by " + a.below.About() }

// Keys implements source.
func (a assumed) Keys(ctx context.Context) (Keys, error) {
	keys, err := a.below.Keys(ctx)
	if err != nil {
		return Keys{}, err
	}
	params := map[string]string{"Action": "AssumeRole", "RoleArn": a.role, "RoleSessionName": cmp.Or(a.session, sessionName)}
	if a.external != "" {
		params["ExternalId"] = a.external
	}
	return a.sts.ask(ctx, params, &keys)
}
