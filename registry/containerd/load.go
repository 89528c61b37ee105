package containerd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/grpc"
	"layered.build/builder/registry/progress"
)

const (
	// DefaultAddress is where containerd listens if nothing else is said.
	DefaultAddress = "/run/containerd/containerd.sock"
	// DefaultNamespace is ctr's and nerdctl's; Kubernetes uses k8s.io.
	DefaultNamespace = "default"
)

const (
	// leaseTime is how long containerd keeps what a process sent that was killed.
	leaseTime = 24 * time.Hour
	// patience is how long the first answer may take, and cleaning up.
	patience = 10 * time.Second
)

// Endpoint is a containerd and a namespace in it.
type Endpoint struct {
	// Address is the path of its socket, perhaps after unix://; "" is
	// DefaultAddress.
	Address string
	// Namespace has the images; "" is DefaultNamespace.
	Namespace string
}

// socket is the path of the socket.
func (e Endpoint) socket() (string, error) {
	path := strings.TrimPrefix(e.Address, "unix://")
	switch {
	case e.Address == "":
		return DefaultAddress, nil
	case path == "" || strings.Contains(path, "://"):
		return "", fmt.Errorf("containerd address %q: %w: want the path of a socket", e.Address, registry.ErrInvalid)
	}
	return path, nil
}

// Sent is what a Load had to send.
type Sent struct {
	// Layers is how many layers were sent, Bytes the size of all blobs that were.
	Layers int
	Bytes  int64
}

// loader is a registry.Destination.
type loader struct {
	c     *conn
	names []string

	mu   sync.Mutex
	sent Sent // guarded by mu
}

var _ registry.Destination = (*loader)(nil)

// Load gives an image, or one for several platforms, to containerd under its names.
// Blobs that the namespace has are not sent, nor fetched from elsewhere to be sent.
// If it fails, what was sent is removed again.
func Load(ctx context.Context, e Endpoint, c *registry.Client, x *registry.Index, names []string) (Sent, error) {
	socket, err := e.socket()
	if err != nil {
		return Sent{}, err
	}
	if e.Namespace == "" {
		e.Namespace = DefaultNamespace
	}
	l := &loader{c: dial(socket, e.Namespace), names: names}
	defer l.c.close()
	if err := l.load(ctx, c, x); err != nil {
		return l.sent, fmt.Errorf("load into containerd at %s, namespace %s: %w", socket, e.Namespace, err)
	}
	return l.sent, nil
}

// load copies the image under a lease.
func (l *loader) load(ctx context.Context, c *registry.Client, x *registry.Index) (err error) {
	id := "builder-" + rand.Text()
	if err := l.lease(ctx, id); err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		err = errors.Join(err, l.c.deleteLease(end, id, err != nil))
	}()
	src, err := c.LazySource(ctx, x)
	if err != nil {
		return err
	}
	opts := registry.CopyOptions{Parallel: 4}
	_, err = registry.Copy(ctx, l, src, opts)
	var lost *sourceError
	if !errors.As(err, &lost) || ctx.Err() != nil {
		return err
	}
	// A blob that is known cannot be had any more: then it becomes another one.
	whole, werr := c.StoreSource(ctx, x)
	if werr != nil {
		return errors.Join(err, werr)
	}
	_, err = registry.Copy(ctx, l, whole, opts)
	return err
}

// lease makes the lease; it is the first call.
func (l *loader) lease(ctx context.Context, id string) error {
	first, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer in %s: %w", patience, grpc.ErrNotGRPC))
	defer cancel()
	err := l.c.createLease(first, id, time.Now().Add(leaseTime))
	var said *grpc.Status
	switch {
	case err == nil:
		l.c.under(id)
	case grpc.CodeOf(err) == grpc.InvalidArgument: // the namespace is all that was said
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	case !errors.As(err, &said) && ctx.Err() == nil:
		return &ConnectError{err}
	}
	return err
}

// ConnectError is the failure to find a containerd where it was said to be.
type ConnectError struct{ err error }

// Error implements error.
func (e *ConnectError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.err }

// Blob implements registry.Destination.
func (l *loader) Blob(ctx context.Context, desc ocispec.Descriptor, src registry.Source) error {
	labels := map[string]string{}
	if known, ok := src.(interface {
		Origins(digest.Digest) []registry.Reference
	}); ok {
		labels = sourceLabels(known.Origins(desc.Digest))
	}
	b := blob{desc: desc, labels: labels, open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return src.Open(ctx, desc, offset)
	}}
	if err := l.put(ctx, b, isLayer(desc)); err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	return nil
}

// isLayer tells a layer from a configuration.
func isLayer(desc ocispec.Descriptor) bool {
	return strings.Contains(desc.MediaType, ".layer.") || strings.Contains(desc.MediaType, ".rootfs.")
}

func (l *loader) put(ctx context.Context, b blob, layer bool) error {
	name := progress.Item(b.desc.Digest)
	tell := progress.Of(ctx)
	b.seen = func(n int64) { tell(name, n, b.desc.Size) }
	there, err := l.c.has(ctx, b.desc.Digest)
	if err != nil {
		return err
	}
	if there {
		b.seen(b.desc.Size)
		return l.c.label(ctx, b.desc.Digest, b.labels)
	}
	n, err := l.c.put(ctx, b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent.Bytes += n
	if layer && n > 0 {
		l.sent.Layers++
	}
	return err
}

// Manifest implements registry.Destination.
func (l *loader) Manifest(ctx context.Context, desc ocispec.Descriptor, raw []byte, root bool) error {
	labels, err := childLabels(raw)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	b := blob{desc: desc, labels: labels, open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw[offset:])), nil
	}}
	if err := l.put(ctx, b, false); err != nil {
		return fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if !root {
		return nil
	}
	for _, n := range l.names {
		ref, err := registry.ParseReference(n)
		if err == nil {
			err = l.c.putImage(ctx, ref.String(), desc)
		}
		if err != nil {
			return fmt.Errorf("name %s: %w", n, err)
		}
	}
	return nil
}

// childLabels tell the garbage collector what a manifest or an index needs
// (containerd, docs/garbage-collection.md; images.ChildGCLabels).
func childLabels(raw []byte) (map[string]string, error) {
	var doc struct {
		Config            *ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	const prefix = "containerd.io/gc.ref.content."
	labels := map[string]string{}
	if doc.Config != nil {
		labels[prefix+"config"] = doc.Config.Digest.String()
	}
	for kind, descs := range map[string][]ocispec.Descriptor{"l.": doc.Layers, "m.": doc.Manifests} {
		for i, d := range descs {
			labels[prefix+kind+strconv.Itoa(i)] = d.Digest.String()
		}
	}
	return labels, nil
}

// maxLabel is how long a label may be with its name.
const maxLabel = 4096

// sourceLabels say which repositories have a blob, so that containerd can mount it
// when it pushes, instead of sending it.
func sourceLabels(refs []registry.Reference) map[string]string {
	labels := map[string]string{}
	for _, r := range refs {
		key, paths := "containerd.io/distribution.source."+r.Domain, r.Path
		if before := labels[key]; before != "" {
			paths = before + "," + paths
		}
		if len(key)+len(paths) <= maxLabel {
			labels[key] = paths
		}
	}
	return labels
}
