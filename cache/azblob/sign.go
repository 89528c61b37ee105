package azblob

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"layered.build/builder/cache/object"
	"layered.build/builder/parser/mistake"
)

// version is that of the REST API.
const version = "2021-08-06"

// login shows the service who asks.
type login interface {
	// About names where the credentials are from, for people.
	About() string
	// Sign completes a request whose other fields are complete.
	Sign(ctx context.Context, r *http.Request, size int) error
	// Forget reports whether others may be had in the place of credentials that were refused.
	Forget() bool
}

// login chooses between a key, a shared access signature and tokens.
func (o *options) login(getenv func(string) string, secrets *object.Secrets) (login, error) {
	switch {
	case o.key != "":
		key, err := base64.StdEncoding.DecodeString(o.key)
		secrets.Add(o.key)
		if err != nil {
			return nil, mistake.New("type=azblob: the account's key (secret_access_key) is not base64")
		}
		return sharedKey{account: o.name, key: key}, nil
	case o.sas != "":
		values, err := url.ParseQuery(o.sas)
		if err != nil || values.Get("sig") == "" {
			return nil, mistake.New("type=azblob: the shared access signature (the query of account_url, or $AZURE_STORAGE_SAS_TOKEN) has no sig=")
		}
		secrets.Add(o.sas, values.Get("sig"))
		return signature{query: o.sas}, nil
	}
	return findTokens(getenv, secrets), nil
}

// sharedKey signs with the key of the account.
type sharedKey struct {
	account string
	key     []byte
}

// About implements login.
func (sharedKey) About() string { return "the account's key" }

// Forget implements login.
func (sharedKey) Forget() bool { return false }

// Sign implements login ("Authorize with Shared Key").
func (k sharedKey) Sign(_ context.Context, r *http.Request, size int) error {
	length := ""
	if size > 0 {
		length = strconv.Itoa(size)
	}
	h := r.Header
	lines := []string{
		r.Method, h.Get("Content-Encoding"), h.Get("Content-Language"), length, h.Get("Content-MD5"), h.Get("Content-Type"),
		"", // the date is in a field of Azure's
		h.Get("If-Modified-Since"), h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since"), h.Get("Range"),
	}
	var own []string
	for name, v := range h {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-ms-") {
			own = append(own, lower+":"+strings.TrimSpace(strings.Join(v, ",")))
		}
	}
	slices.Sort(own)
	lines = append(append(lines, own...), "/"+k.account+r.URL.EscapedPath())
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	var params []string
	for name, v := range values {
		slices.Sort(v)
		params = append(params, strings.ToLower(name)+":"+strings.Join(v, ","))
	}
	slices.Sort(params)
	text := strings.Join(append(lines, params...), "\n")
	h.Set("Authorization", "SharedKey "+k.account+":"+k.mac(text))
	return nil
}

func (k sharedKey) mac(text string) string {
	m := hmac.New(sha256.New, k.key)
	m.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// signature is a shared access signature: a query that is part of every URL.
type signature struct{ query string }

// About implements login.
func (signature) About() string { return "the shared access signature" }

// Forget implements login.
func (signature) Forget() bool { return false }

// Sign implements login.
func (s signature) Sign(_ context.Context, r *http.Request, _ int) error {
	if r.URL.RawQuery != "" {
		r.URL.RawQuery += "&"
	}
	r.URL.RawQuery += s.query
	return nil
}

// service is an object.Service.
type service struct{ login login }

var _ object.Service = (*service)(nil)

// Sign implements object.Service.
func (s *service) Sign(ctx context.Context, r *http.Request, body []byte, clock *object.Clock) error {
	r.Header.Set("X-Ms-Version", version)
	r.Header.Set("X-Ms-Date", clock.Now().Format(http.TimeFormat))
	return s.login.Sign(ctx, r, len(body))
}

// Explain implements object.Service. Only the first line of a message is kept: the others
// name the request, and what was signed.
func (s *service) Explain(resp *http.Response, body []byte) (code, text string) {
	var doc struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}
	if xml.Unmarshal(body, &doc) == nil {
		text, _, _ = strings.Cut(strings.TrimSpace(doc.Message), "\n")
	} else if t := strings.TrimSpace(string(body)); !strings.HasPrefix(strings.TrimPrefix(t, "\ufeff"), "<") {
		text = t
	}
	if resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized {
		text = strings.TrimSpace(text + " (credentials of " + s.login.About() + ")")
	}
	return cmp.Or(resp.Header.Get("X-Ms-Error-Code"), doc.Code), text
}

// Renew implements object.Service.
func (s *service) Renew(f *object.Failure) bool {
	return f.Status == http.StatusUnauthorized && s.login.Forget()
}
