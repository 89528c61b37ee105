package object

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

// Bucket is a store of objects by name. Errors match fs.ErrNotExist if an object is not
// there; those that a service gives are a *Failure.
type Bucket interface {
	// Stat describes an object.
	Stat(ctx context.Context, key string) (Info, error)
	// Get reads an object from an offset, which lies within it unless it is 0.
	Get(ctx context.Context, key string, offset int64) (io.ReadCloser, Info, error)
	// Put writes a whole object. Of a store whose objects cannot be replaced the error
	// matches fs.ErrExist if somebody else has written it meanwhile.
	Put(ctx context.Context, key string, p Put) error
	// Upload begins an object that is written in parts; the error is as that of Put.
	Upload(ctx context.Context, key string) (Upload, error)
}

// Toucher is implemented by buckets whose objects may be set to expire some time after they
// were written.
type Toucher interface {
	// Touch makes an object of a size as if it were written now.
	Touch(ctx context.Context, key string, size int64) error
}

// Info is what is known of an object.
type Info struct {
	Size     int64 // -1: not known
	ETag     string
	Modified time.Time
	// Note is what Put.Note was; "" for services that keep none.
	Note string
	// Header is what the service said of it.
	Header http.Header
}

// InfoOf reads the fields that HTTP has for it.
func InfoOf(h http.Header) Info {
	// A proxy that compresses makes an ETag weak, of which no condition can be made.
	info := Info{Size: number(h.Get("Content-Length")), ETag: strings.TrimPrefix(h.Get("ETag"), "W/"), Header: h}
	info.Modified, _ = http.ParseTime(h.Get("Last-Modified"))
	return info
}

// Put is an object that is written at once.
type Put struct {
	Data []byte
	// None is the condition that there is no such object, Match, unless "", that its ETag
	// is this one.
	None  bool
	Match string
	// Note is kept with the object if the service can.
	Note string
}

// Conditions are the header fields for None and Match.
func (p Put) Conditions() http.Header {
	h := http.Header{}
	switch {
	case p.None:
		h.Set("If-None-Match", "*")
	case p.Match != "":
		h.Set("If-Match", p.Match)
	}
	return h
}

// Upload is an object that is written in parts. It is there when Complete has succeeded.
type Upload interface {
	// Part writes a part; they count from 0, and several may be written at once.
	Part(ctx context.Context, n int, data []byte) error
	// Complete makes the object of as many parts.
	Complete(ctx context.Context, parts int) error
	// Abort forgets the parts, unless they are complete.
	Abort(ctx context.Context) error
}
