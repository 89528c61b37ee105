package azblob

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/parser/mistake"
)

// resource is what tokens are for.
const resource = "https://storage.azure.com/"

// tokens shows tokens of Entra ID.
type tokens struct {
	about string
	held  object.Held[string]
}

// About implements login.
func (t *tokens) About() string { return t.about }

// Forget implements login.
func (t *tokens) Forget() bool { return t.held.Forget() }

// Sign implements login.
func (t *tokens) Sign(ctx context.Context, r *http.Request, _ int) error {
	token, err := t.held.Get(ctx)
	if err == nil {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// findTokens chooses who gives tokens: Entra ID for a secret or for the token of a pod, else
// the identity of the machine or of the service that runs this.
func findTokens(getenv func(string) string, secrets *object.Secrets) *tokens {
	t := &tokens{}
	var ask func(ctx context.Context) (object.Question, error)
	client, secret, file := getenv("AZURE_CLIENT_ID"), getenv("AZURE_CLIENT_SECRET"), getenv("AZURE_FEDERATED_TOKEN_FILE")
	tenant := getenv("AZURE_TENANT_ID")
	authority := strings.TrimSuffix(cmp.Or(getenv("AZURE_AUTHORITY_HOST"), "https://login.microsoftonline.com"), "/")
	form := map[string]string{"client_id": client, "grant_type": "client_credentials", "scope": resource + ".default"}
	url := authority + "/" + tenant + "/oauth2/v2.0/token"
	switch {
	case tenant != "" && client != "" && secret != "":
		t.about = "$AZURE_CLIENT_ID"
		ask = func(context.Context) (object.Question, error) {
			form["client_secret"] = secret
			return post(url, form), nil
		}
	case tenant != "" && client != "" && file != "":
		t.about = "the workload's identity"
		ask = func(context.Context) (object.Question, error) {
			assertion, err := os.ReadFile(file)
			if err != nil {
				return object.Question{}, fmt.Errorf("$AZURE_FEDERATED_TOKEN_FILE: %w", err)
			}
			form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
			form["client_assertion"] = strings.TrimSpace(string(assertion))
			return post(url, form), nil
		}
	default:
		t.about = "the machine's identity"
		ask = func(context.Context) (object.Question, error) { return managed(getenv, client), nil }
	}
	t.held.Ask = func(ctx context.Context) (string, time.Time, error) {
		q, err := ask(ctx)
		var token string
		var ends time.Time
		if err == nil {
			token, ends, err = fetchToken(ctx, q)
		}
		if err != nil {
			return "", time.Time{}, noToken(ctx, t.about, q.Near, err)
		}
		secrets.Add(token)
		return token, ends, nil
	}
	return t
}

// noToken says that there are no credentials at all if nobody is where they may be.
func noToken(ctx context.Context, about string, near bool, err error) error {
	var f *object.Failure
	if near && ctx.Err() == nil && errors.As(err, &f) && f.Status == 0 {
		return mistake.New("type=azblob: there are no credentials (%w)", err).
			WithHint("give secret_access_key=… (the account's key), a shared access signature in account_url, or set $AZURE_STORAGE_CONNECTION_STRING")
	}
	return fmt.Errorf("get a token of %s: %w", about, err)
}

func post(url string, form map[string]string) object.Question {
	return object.Question{
		Method: http.MethodPost, URL: url, Body: []byte(object.Query(form)),
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
	}
}

// managed asks for the managed identity: of an App Service or the like, or of the machine.
func managed(getenv func(string) string, client string) object.Question {
	params := map[string]string{"resource": resource, "api-version": "2018-02-01"}
	if client != "" {
		params["client_id"] = client
	}
	q := object.Question{Near: true, Header: http.Header{"Metadata": {"true"}}}
	base := strings.TrimSuffix(cmp.Or(getenv("AZURE_POD_IDENTITY_AUTHORITY_HOST"), "http://169.254.169.254"), "/") + "/metadata/identity/oauth2/token"
	if endpoint := getenv("IDENTITY_ENDPOINT"); endpoint != "" {
		base, params["api-version"] = endpoint, "2019-08-01"
		q.Header = http.Header{"X-Identity-Header": {getenv("IDENTITY_HEADER")}}
	}
	q.URL = base + "?" + object.Query(params)
	return q
}

func fetchToken(ctx context.Context, q object.Question) (string, time.Time, error) {
	body, err := object.Fetch(ctx, q)
	if err != nil {
		return "", time.Time{}, err
	}
	var doc struct {
		Token string      `json:"access_token"`
		In    json.Number `json:"expires_in"`
		On    json.Number `json:"expires_on"`
	}
	if err := json.Unmarshal(body, &doc); err != nil || doc.Token == "" {
		return "", time.Time{}, errors.New("the answer has no token")
	}
	ends := time.Now().Add(time.Hour)
	if n, err := strconv.ParseInt(doc.In.String(), 10, 64); err == nil {
		ends = time.Now().Add(time.Duration(n) * time.Second)
	} else if n, err := strconv.ParseInt(doc.On.String(), 10, 64); err == nil {
		ends = time.Unix(n, 0)
	}
	return doc.Token, ends, nil
}
