package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	longDate  = "20060102T150405Z"
	shortDate = "20060102"
)

// scope is what a signature is for.
type scope struct{ region, service string }

// sign signs a request with version 4 of AWS's signatures ("Create a signed AWS API
// request"). The path and the query are sent as they are signed: request.URL has them
// escaped already, the query in the order of its keys. Signed are the host and all fields
// that begin with x-amz-.
func sign(r *http.Request, body []byte, key Keys, s scope, now time.Time) {
	sum := sha256.Sum256(body)
	r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	r.Header.Set("X-Amz-Date", now.Format(longDate))
	if key.Token != "" {
		r.Header.Set("X-Amz-Security-Token", key.Token)
	}
	names := []string{"host"}
	values := map[string]string{"host": r.URL.Host}
	for name, v := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			names = append(names, lower)
			values[lower] = strings.Join(strings.Fields(strings.Join(v, ",")), " ")
		}
	}
	slices.Sort(names)
	var fields strings.Builder
	for _, n := range names {
		fmt.Fprintf(&fields, "%s:%s\n", n, values[n])
	}
	signed := strings.Join(names, ";")
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), r.URL.RawQuery, fields.String(), signed, r.Header.Get("X-Amz-Content-Sha256"),
	}, "\n")
	day := now.Format(shortDate)
	where := strings.Join([]string{day, s.region, s.service, "aws4_request"}, "/")
	digest := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{algorithm, now.Format(longDate), where, hex.EncodeToString(digest[:])}, "\n")
	k := []byte("AWS4" + key.Secret)
	for _, part := range []string{day, s.region, s.service, "aws4_request", text} {
		k = mac(k, part)
	}
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%x", algorithm, key.ID, where, signed, k))
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
