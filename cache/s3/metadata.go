package s3

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"layered.build/builder/cache/object"
)

// document is how the metadata services of AWS give credentials.
type document struct {
	Code, Message                       string
	AccessKeyId, SecretAccessKey, Token string //nolint:revive // AWS's names
	Expiration                          time.Time
}

func (d document) keys() (Keys, error) {
	if d.AccessKeyId == "" || d.SecretAccessKey == "" {
		return Keys{}, fmt.Errorf("the answer has none: %s", strings.TrimSpace(d.Code+" "+d.Message))
	}
	return Keys{ID: d.AccessKeyId, Secret: d.SecretAccessKey, Token: d.Token, Expires: d.Expiration}, nil
}

// container is the role of an ECS task or, by EKS Pod Identity, of a pod.
type container struct{ url, token, tokenFile string }

// containerSource is nil where there is none.
func containerSource(getenv func(string) string) source {
	c := container{url: getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), token: getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"), tokenFile: getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")}
	if path := getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		c.url = "http://169.254.170.2" + path
	}
	if c.url == "" {
		return nil
	}
	return c
}

// About implements source.
func (c container) About() string { return "the container's role" }

// Keys implements source.
func (c container) Keys(ctx context.Context) (Keys, error) {
	h := http.Header{}
	if c.tokenFile != "" {
		b, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return Keys{}, fmt.Errorf("$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", err)
		}
		c.token = strings.TrimSpace(string(b))
	}
	if c.token != "" {
		h.Set("Authorization", c.token)
	}
	return fetchKeys(ctx, c.url, h)
}

func fetchKeys(ctx context.Context, address string, h http.Header) (Keys, error) {
	body, err := object.Fetch(ctx, object.Question{URL: address, Header: h, Near: true})
	if err != nil {
		return Keys{}, err
	}
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		return Keys{}, errors.New("the answer is no JSON")
	}
	return d.keys()
}

// machine is the role of an EC2 instance (IMDSv2).
type machine struct{ url string }

// About implements source.
func (machine) About() string { return "the machine's role" }

// Keys implements source. On other machines than AWS's nobody answers.
func (m machine) Keys(ctx context.Context) (Keys, error) {
	base := strings.TrimSuffix(cmp.Or(m.url, "http://169.254.169.254"), "/") + "/latest/"
	token, err := object.Fetch(ctx, object.Question{
		Method: http.MethodPut, URL: base + "api/token", Near: true,
		Header: http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"300"}},
	})
	if err != nil {
		if ctx.Err() != nil {
			return Keys{}, context.Cause(ctx)
		}
		return Keys{}, fmt.Errorf("%w (%w)", noCredentials(), err)
	}
	h := http.Header{"X-Aws-Ec2-Metadata-Token": {string(token)}}
	role, err := object.Fetch(ctx, object.Question{URL: base + "meta-data/iam/security-credentials/", Header: h, Near: true})
	if err != nil {
		return Keys{}, fmt.Errorf("the machine has no role: %w", err)
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(role)), "\n")
	return fetchKeys(ctx, base+"meta-data/iam/security-credentials/"+url.PathEscape(name), h)
}
