package transport

import (
	"net/http"
	"strings"

	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// challengeOf reads how a host wants to be talked to from an answer that says 401.
func challengeOf(resp *http.Response) *gcr.Challenge {
	ch := &gcr.Challenge{Insecure: resp.Request.URL.Scheme == "http"}
	ch.Scheme, ch.Parameters = pickChallenge(resp.Header.Values("WWW-Authenticate"))
	return ch
}

// pickChallenge parses WWW-Authenticate headers (RFC 9110, section 11.6.1) and
// returns a scheme that is understood, bearer before basic.
func pickChallenge(headers []string) (string, map[string]string) {
	scheme, params := "", map[string]string(nil)
	for _, h := range headers {
		s, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
		switch strings.ToLower(s) {
		case "bearer":
			return "bearer", challengeParams(rest)
		case "basic":
			scheme, params = "basic", challengeParams(rest)
		}
	}
	return scheme, params
}

func challengeParams(s string) map[string]string {
	params := map[string]string{}
	for s = strings.TrimLeft(s, " ,"); s != ""; s = strings.TrimLeft(s, " ,") {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		value, s = challengeValue(rest)
		params[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return params
}

// challengeValue reads a token or a quoted string.
func challengeValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexByte(s, ','); i >= 0 {
			return strings.TrimSpace(s[:i]), s[i:]
		}
		return strings.TrimSpace(s), ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
