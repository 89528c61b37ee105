package actions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"layered.build/builder/cache/object"
)

// version is that of entries; the service keeps those of different versions apart. It is the
// sha256 of "builder cache 1".
const version = "5e3432385f001a1852a2702a4460c03e4c19117e2172b296b8d95fed2e24c222"

// api is the service.
type api struct {
	client *object.Client
	at     *url.URL
}

// found is an entry.
type found struct {
	key, url string
}

// call makes a call of the service. An error that names a missing object is none of a cache
// without the object: the service itself is not there.
func (s *api) call(ctx context.Context, op, key, method string, question, answer any) error {
	data, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	u := *s.at
	u.Path += "/twirp/github.actions.results.api.v1.CacheService/" + method
	_, body, err := s.client.Call(ctx, object.Request{
		Op: op, Object: key, Method: http.MethodPost, URL: &u, Body: data,
		Header: http.Header{"Content-Type": {"application/json"}},
	})
	var f *object.Failure
	if errors.As(err, &f) && f.Status == http.StatusNotFound {
		return fmt.Errorf("%s; is there a cache service of version 2 at %s?", f.Error(), s.at.Host)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%s %s: the answer is no JSON", op, key)
	}
	return nil
}

// errTaken says that somebody else has made an entry, or is about to.
var errTaken = errors.New("the entry was made by somebody else")

// create makes an entry, and returns the URL that its content goes to. The error is errTaken
// if there is one.
func (s *api) create(ctx context.Context, key string) (string, error) {
	var answer struct {
		OK      bool   `json:"ok"`
		Snake   string `json:"signed_upload_url"`
		Camel   string `json:"signedUploadUrl"`
		Message string `json:"message"`
	}
	err := s.call(ctx, "create", key, "CreateCacheEntry", map[string]string{"key": key, "version": version}, &answer)
	var f *object.Failure
	if errors.As(err, &f) && (f.Status == http.StatusConflict || f.Code == "already_exists") {
		return "", errTaken
	}
	if err != nil {
		return "", err
	}
	address := cmp.Or(answer.Snake, answer.Camel)
	if !answer.OK || address == "" {
		return "", s.refused("create", key, answer.Message)
	}
	return address, nil
}

// finalize ends an entry, which is found from then on.
func (s *api) finalize(ctx context.Context, key string, size int64) error {
	var answer struct {
		OK      bool   `json:"ok"`
		Message string `json:"message"`
	}
	err := s.call(ctx, "finalize", key, "FinalizeCacheEntryUpload",
		map[string]string{"key": key, "version": version, "size_bytes": strconv.FormatInt(size, 10)}, &answer)
	if err == nil && !answer.OK {
		err = s.refused("finalize", key, answer.Message)
	}
	if err == nil {
		return nil
	}
	// The first answer may have been lost.
	if e, ferr := s.find(ctx, key); ferr == nil && e != nil && e.key == key {
		return nil
	}
	return err
}

// find returns the entry of a key, else the newest one whose key begins so; nil if there is
// none.
func (s *api) find(ctx context.Context, key string) (*found, error) {
	var answer struct {
		OK       bool   `json:"ok"`
		URL      string `json:"signed_download_url"`
		CamelURL string `json:"signedDownloadUrl"`
		Key      string `json:"matched_key"`
		CamelKey string `json:"matchedKey"`
	}
	question := struct {
		Key     string   `json:"key"`
		Restore []string `json:"restore_keys"`
		Version string   `json:"version"`
	}{key, []string{key}, version}
	if err := s.call(ctx, "look for", key, "GetCacheEntryDownloadURL", question, &answer); err != nil || !answer.OK {
		return nil, err
	}
	e := &found{cmp.Or(answer.Key, answer.CamelKey), cmp.Or(answer.URL, answer.CamelURL)}
	if e.url == "" {
		return nil, fmt.Errorf("look for %s: the answer has no address", key)
	}
	return e, nil
}

func (s *api) refused(op, key, message string) error {
	if message == "" {
		message = "the service refuses it"
	}
	return fmt.Errorf("%s %s: %s", op, key, s.client.Secrets.Scrub(message))
}

// login is an object.Service.
type login struct {
	token string
	ends  time.Time
}

var _ object.Service = (*login)(nil)

// Sign implements object.Service.
func (l *login) Sign(_ context.Context, r *http.Request, _ []byte, _ *object.Clock) error {
	r.Header.Set("Authorization", "Bearer "+l.token)
	return nil
}

// Explain implements object.Service with the errors of Twirp.
func (l *login) Explain(resp *http.Response, body []byte) (code, text string) {
	var doc struct{ Code, Msg, Message string }
	if json.Unmarshal(body, &doc) == nil {
		text = cmp.Or(doc.Msg, doc.Message)
	} else if t := strings.TrimSpace(string(body)); !strings.HasPrefix(t, "<") {
		text = t
	}
	denied := resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
	if denied && !l.ends.IsZero() && time.Now().After(l.ends) {
		text = strings.TrimSpace(text + " (the token ended at " + l.ends.UTC().Format(time.RFC3339) + ")")
	}
	return doc.Code, text
}

// Renew implements object.Service.
func (l *login) Renew(*object.Failure) bool { return false }
