package remote

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// encodingOf returns what a proxy has put around what it passes on, though nobody asked for
// that (RFC 9110, section 8.4); "" if it has not.
func encodingOf(resp *http.Response) string {
	switch e := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); e {
	case "gzip", "x-gzip":
		return "gzip"
	case "zstd", "deflate":
		return e
	}
	return "" // whoever verifies the content will see
}

// isEncoded reports whether a blob of a size comes encoded. Some registries only say so of
// what is compressed itself.
func isEncoded(resp *http.Response, size int64) bool {
	length := resp.ContentLength
	if _, all, ok := strings.Cut(resp.Header.Get("Content-Range"), "/"); ok {
		length, _ = strconv.ParseInt(all, 10, 64)
	}
	return encodingOf(resp) != "" && length != size
}

// decoded undoes an encoding. Who closes it closes r.
func decoded(encoding string, r io.ReadCloser) (io.ReadCloser, error) {
	var plain io.ReadCloser
	var err error
	switch encoding {
	case "gzip":
		plain, err = gzip.NewReader(r)
	case "deflate":
		plain, err = zlib.NewReader(r)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r); err == nil {
			plain = z.IOReadCloser()
		}
	default:
		return r, nil
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &decoder{plain, r}, nil
}

type decoder struct {
	io.ReadCloser
	inner io.Closer
}

// Close implements io.Closer.
func (d *decoder) Close() error { return errors.Join(d.ReadCloser.Close(), d.inner.Close()) }

// readDocument reads a JSON document that is at most so long.
func readDocument(resp *http.Response, limit int64) ([]byte, error) {
	raw, err := ReadLimited(resp.Body, limit)
	encoding := encodingOf(resp)
	if err != nil || encoding == "" || bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return raw, err
	}
	r, err := decoded(encoding, io.NopCloser(bytes.NewReader(raw)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return ReadLimited(r, limit)
}
