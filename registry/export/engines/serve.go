package engines

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/progress"
	"layered.build/builder/snapshot"
)

// Served is an image that can be pulled from this process, by who knows the
// password, for as long as it is not closed. Its layers are not compressed, so that
// an engine that has a layer, whatever it was compressed with, need not fetch it.
type Served struct {
	// Name is what to pull; Host is the part of it that is the registry.
	Name, Host     string
	User, Password string

	srv  *http.Server
	done chan struct{}
}

// Serve offers an image on the loopback interface.
func Serve(ctx context.Context, c *registry.Client, img *registry.Image) (*Served, error) {
	h, err := newImageHandler(ctx, c, img)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve image: %w", err)
	}
	s := &Served{Host: l.Addr().String(), User: "builder", Password: rand.Text(), done: make(chan struct{})}
	s.Name = s.Host + "/image:" + img.ID.Encoded()
	h.user, h.password = s.User, s.Password
	s.srv = &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() {
		defer close(s.done)
		s.srv.Serve(l) //nolint:errcheck // ends with Close
	}()
	return s, nil
}

// Close ends the service.
func (s *Served) Close() error {
	err := s.srv.Close()
	<-s.done
	return err
}

// imageHandler is a registry that has one image (OCI distribution-spec, "Pull").
type imageHandler struct {
	c              *registry.Client
	user, password string
	small          map[digest.Digest]served // manifest and configuration
	layers         map[digest.Digest]snapshot.Layer
	manifest       digest.Digest
}

type served struct {
	mediaType string
	data      []byte
}

func newImageHandler(ctx context.Context, c *registry.Client, img *registry.Image) (*imageHandler, error) {
	if err := c.Attach(img.Stack); err != nil {
		return nil, err
	}
	if err := c.Store().Materialize(ctx, img.Stack); err != nil {
		return nil, err
	}
	h := &imageHandler{c: c, small: map[digest.Digest]served{}, layers: map[digest.Digest]snapshot.Layer{}}
	var layers []ocispec.Descriptor
	for _, l := range img.Stack {
		size, err := layout.LayerSize(ctx, c, l)
		if err != nil {
			return nil, err
		}
		d := digest.Digest(l.DiffID)
		l.Size = size
		h.layers[d] = l
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: size})
	}
	desc, raw, err := image.NewManifest(ocispec.Descriptor{Digest: img.ID, Size: int64(len(img.RawConfig))}, layers, image.Form{})
	if err != nil {
		return nil, err
	}
	h.small[desc.Digest] = served{desc.MediaType, raw}
	h.small[img.ID] = served{ocispec.MediaTypeImageConfig, img.RawConfig}
	h.manifest = desc.Digest
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *imageHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(h.user+":"+h.password)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="image"`)
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/image/"), "/")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "read only", http.StatusMethodNotAllowed)
	case r.URL.Path == "/v2/":
		w.WriteHeader(http.StatusOK)
	case kind == "manifests":
		if !strings.Contains(name, ":") { // there is only one
			name = h.manifest.String()
		}
		h.sendSmall(w, digest.Digest(name))
	case kind == "blobs":
		h.blob(w, r, digest.Digest(name))
	default:
		http.NotFound(w, r)
	}
}

func (h *imageHandler) sendSmall(w http.ResponseWriter, d digest.Digest) {
	s, ok := h.small[d]
	if !ok {
		doc, _ := json.Marshal(map[string]any{"errors": []map[string]string{{"code": "MANIFEST_UNKNOWN"}}})
		http.Error(w, string(doc), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", s.mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", strconv.Itoa(len(s.data)))
	w.Write(s.data) //nolint:errcheck // the reader is gone
}

func (h *imageHandler) blob(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	l, ok := h.layers[d]
	if !ok {
		h.sendSmall(w, d)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(l.Size, 10))
	if r.Method == http.MethodHead {
		return
	}
	layer, err := h.c.Store().Tar(r.Context(), l)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer layer.Close()
	n, err := io.Copy(&progress.Writer{W: w, To: progress.Of(r.Context()), Item: progress.Item(d), Total: l.Size}, layer)
	if err != nil || n != l.Size {
		panic(http.ErrAbortHandler) // the other side must not take it for the whole
	}
}
