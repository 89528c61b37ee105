package object

import (
	"net/http"
	"sync"
	"time"
)

// tolerance is how wrong a clock may be before it is corrected; services refuse signatures
// that are a quarter of an hour old.
const tolerance = 5 * time.Minute

// Clock is the time as a service sees it: this machine's until an answer shows that it is
// wrong. The zero value is ready.
type Clock struct {
	mu    sync.Mutex
	ahead time.Duration // guarded by mu
}

// Now returns the time, in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead).UTC()
}

// Learn takes the time of an answer if it differs by much, and reports whether it did.
func (c *Clock) Learn(h http.Header) bool {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	off := date.Sub(time.Now().Add(c.ahead))
	if off.Abs() < tolerance {
		return false
	}
	c.ahead += off
	return true
}

// offset is how far the service is ahead, as far as it is known.
func (c *Clock) offset() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}
