package object

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Question is a request to a service that gives credentials.
type Question struct {
	Method string // "": GET
	URL    string
	Header http.Header
	Body   []byte
	// Near says that the service is on this machine or beside it, if anywhere: no proxy
	// leads to it, and it answers quickly.
	Near bool
	// Sign, unless nil, completes the request.
	Sign func(r *http.Request)
}

const (
	nearDial = time.Second
	nearTime = 5 * time.Second
	farTime  = 30 * time.Second
	// answers are how often who gives credentials is asked.
	answers = 3
)

// Fetch asks who gives credentials, several times if need be. Errors hold nothing that was
// sent, and of what was answered only the names of errors.
func Fetch(ctx context.Context, q Question) ([]byte, error) {
	t := NewTransport(Timeouts{}, nil)
	limit := farTime
	if q.Near {
		t = NewTransport(Timeouts{Dial: nearDial, Idle: nearTime}, nil)
		t.Proxy, limit = nil, nearTime
	}
	defer t.CloseIdleConnections()
	u, err := url.Parse(q.URL)
	if err != nil || u.Host == "" {
		return nil, errors.New("the address of who gives credentials is no URL")
	}
	try := Retry{Attempts: answers}.begin(false)
	for {
		body, f := q.once(ctx, NewHTTP(t), limit)
		if f == nil {
			return body, nil
		}
		f.Op, f.Object = "ask", u.Host
		pause, ok := try.again(f)
		if !ok || ctx.Err() != nil {
			return nil, f
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func (q Question) once(ctx context.Context, client *http.Client, limit time.Duration) ([]byte, *Failure) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, cmp.Or(q.Method, http.MethodGet), q.URL, bytes.NewReader(q.Body))
	if err != nil {
		return nil, &Failure{err: err, text: "the address is no URL"}
	}
	for k, v := range q.Header {
		r.Header[k] = v
	}
	if q.Sign != nil {
		q.Sign(r)
	}
	resp, err := client.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, &Failure{err: err, text: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxText))
	if err != nil {
		return nil, &Failure{err: err, text: err.Error()}
	}
	if resp.StatusCode/100 != 2 {
		return nil, &Failure{Status: resp.StatusCode, Code: errorName(body)}
	}
	return body, nil
}

// errorName is the name of an error in the documents of AWS and Azure, "" if it is in none.
func errorName(body []byte) string {
	var x struct {
		Code string `xml:"Error>Code"`
	}
	var j struct{ Error, Code string }
	name := ""
	if xml.Unmarshal(body, &x) == nil {
		name = x.Code
	} else if json.Unmarshal(body, &j) == nil {
		name = cmp.Or(j.Error, j.Code)
	}
	if len(name) > 60 || strings.ContainsFunc(name, func(r rune) bool { return r > 'z' || r < '-' }) {
		return ""
	}
	return name
}
