package source

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/files"
)

// The folders of downloads: contents by digest, and what is known of a URL.
const (
	httpBlobs = "http/blobs"
	httpMeta  = "http/urls"
)

// maxEntries is how many versions of one URL are remembered.
const maxEntries = 8

// httpEntry is one download of a URL.
type httpEntry struct {
	ETag         string `json:",omitempty"` // without W/
	LastModified string `json:",omitempty"` // as the server wrote it
	Filename     string
	Digest       digest.Digest
	Size         int64
}

// modTime is when the server says the file was changed, zero if it does not.
func (e *httpEntry) modTime() time.Time {
	t, err := http.ParseTime(e.LastModified)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// urlMeta is the file that remembers the downloads of one URL, newest first.
type urlMeta struct {
	Version int
	Entries []*httpEntry
}

const metaVersion = 1

func (r *Remote) blobPath(d digest.Digest) string { return r.path(httpBlobs, d.Encoded()) }

// metaPath is named by a hash: a URL may hold a password.
func (r *Remote) metaPath(url string) string {
	h := sha256.Sum256([]byte(url))
	return r.path(httpMeta, hex.EncodeToString(h[:]))
}

// readMeta returns the downloads of a URL whose contents are here. A file that
// cannot be read is none.
func (r *Remote) readMeta(url string) []*httpEntry {
	b, err := os.ReadFile(r.metaPath(url))
	if err != nil {
		return nil
	}
	var m urlMeta
	if json.Unmarshal(b, &m) != nil || m.Version != metaVersion {
		return nil
	}
	var out []*httpEntry
	for _, e := range m.Entries {
		if e == nil || e.Digest.Validate() != nil || e.Filename != safeName(e.Filename) {
			continue
		}
		if fi, err := os.Stat(r.blobPath(e.Digest)); err == nil && fi.Size() == e.Size {
			touch(r.blobPath(e.Digest))
			out = append(out, e)
		}
	}
	touch(r.metaPath(url))
	return out
}

// knownDownload returns a download of a URL that has a digest, if it is here.
func (r *Remote) knownDownload(url string, d digest.Digest) *httpEntry {
	for _, e := range r.readMeta(url) {
		if e.Digest == d {
			return e
		}
	}
	return nil
}

func (r *Remote) writeMeta(url string, known []*httpEntry, e *httpEntry) error {
	m := urlMeta{Version: metaVersion, Entries: []*httpEntry{e}}
	for _, k := range known {
		if len(m.Entries) < maxEntries && (k.ETag != e.ETag || k.ETag == "" && k.Digest != e.Digest) {
			m.Entries = append(m.Entries, k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return files.Replace(r.metaPath(url), b, files.Replacement{Sync: true})
}

// saveBlob stores a content under its digest.
func (r *Remote) saveBlob(body io.Reader) (digest.Digest, int64, error) {
	h := sha256.New()
	f, err := files.NewPending(files.Replacement{Temp: r.path(httpBlobs), Sync: true})
	if err != nil {
		return "", 0, err
	}
	// It is held while it arrives: a server may be silent for long.
	var n int64
	if err = files.TryFlock(f.File, files.Exclusive); err == nil {
		n, err = io.Copy(io.MultiWriter(f, h), body)
	}
	if err != nil {
		return "", 0, errors.Join(err, f.Discard())
	}
	d := digest.NewDigest(digest.SHA256, h)
	return d, n, f.Commit(r.blobPath(d))
}

// fileName is what a download is called: as the server says, else as the URL ends.
func fileName(raw, disposition string) string {
	if _, params, err := mime.ParseMediaType(disposition); err == nil {
		if name := params["filename"]; name != "" && !strings.HasSuffix(name, "/") {
			return safeName(name)
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return safeName("")
	}
	return safeName(path.Base(u.Path))
}

// safeName makes a name that stays in its folder, and in JSON.
func safeName(s string) string {
	name := path.Base(strings.ToValidUTF8(strings.TrimSpace(s), "\uFFFD"))
	if name == "." || name == ".." || name == "/" || strings.ContainsFunc(name, unicode.IsControl) {
		return "download"
	}
	return name
}

// fileMode is the mode of a download.
func fileMode(mode string) string {
	if mode == "" {
		return "0600"
	}
	return mode
}

// fileError says that a download cannot be read.
func fileError(name string, err error) error { return fmt.Errorf("download %s: %w", name, err) }
