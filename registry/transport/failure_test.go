package transport

import (
	"errors"
	"net/http"
	"testing"
	"time"
)

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	in := time.Now().Add(3 * time.Minute).UTC()
	for value, want := range map[string][2]time.Duration{
		"120":                           {120 * time.Second, 120 * time.Second},
		in.Format(http.TimeFormat):      {2 * time.Minute, 3 * time.Minute},
		"Mon, 02 Jan 2006 15:04:05 GMT": {0, 0},
		"soon":                          {0, 0},
	} {
		resp := &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {value}}, Body: http.NoBody}
		var e *statusError
		if err := ResponseError(resp); !errors.As(err, &e) || e.retryAfter < want[0] || e.retryAfter > want[1] {
			t.Errorf("%q: %+v, want %v", value, e, want)
		}
	}
}
