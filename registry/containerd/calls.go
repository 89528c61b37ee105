package containerd

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/grpc"
)

// createLease makes a lease: what it is asked to hold is not collected before it is
// deleted, or a while has passed.
func (c *conn) createLease(ctx context.Context, id string, expire time.Time) error {
	labels := map[string]string{"containerd.io/gc.expire": expire.UTC().Format(time.RFC3339)}
	_, err := c.call(ctx, "leases.v1.Leases/Create", grpc.Message(nil).Text(1, id).Table(3, labels))
	return err
}

// deleteLease deletes it; sync waits for the collection of what it held.
func (c *conn) deleteLease(ctx context.Context, id string, sync bool) error {
	msg := grpc.Message(nil).Text(1, id)
	if sync {
		msg = msg.Number(2, 1)
	}
	_, err := c.call(ctx, "leases.v1.Leases/Delete", msg)
	return err
}

// hold makes the lease hold a blob, whether it is there yet or not.
func (c *conn) hold(ctx context.Context, d digest.Digest) error {
	resource := grpc.Message(nil).Text(1, d.String()).Text(2, "content")
	_, err := c.call(ctx, "leases.v1.Leases/AddResource", grpc.Message(nil).Text(1, c.lease).Sub(2, resource))
	return err
}

// has reports whether the namespace has a blob. One that is there is held by the
// lease from now on.
func (c *conn) has(ctx context.Context, d digest.Digest) (bool, error) {
	if err := c.hold(ctx, d); err != nil {
		return false, err
	}
	_, err := c.call(ctx, "content.v1.Content/Info", grpc.Message(nil).Text(1, d.String()))
	if grpc.CodeOf(err) == grpc.NotFound {
		return false, nil
	}
	return err == nil, err
}

// abort removes what has been sent of a blob.
func (c *conn) abort(ctx context.Context, ref string) error {
	_, err := c.call(ctx, "content.v1.Content/Abort", grpc.Message(nil).Text(1, ref))
	return err
}

// label sets labels of a blob; others that it has stay.
func (c *conn) label(ctx context.Context, d digest.Digest, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	var paths []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		paths = append(paths, "labels."+k)
	}
	info := grpc.Message(nil).Text(1, d.String()).Table(5, labels)
	_, err := c.call(ctx, "content.v1.Content/Update", grpc.Message(nil).Sub(1, info).Mask(2, paths...))
	return err
}

// putImage makes a name mean an image, whatever it meant. Labels of the name stay.
func (c *conn) putImage(ctx context.Context, name string, target ocispec.Descriptor) error {
	image := grpc.Message(nil).Text(1, name).Sub(3, descriptor(target))
	_, err := c.call(ctx, "images.v1.Images/Create", grpc.Message(nil).Sub(1, image))
	if grpc.CodeOf(err) == grpc.AlreadyExists {
		_, err = c.call(ctx, "images.v1.Images/Update", grpc.Message(nil).Sub(1, image).Mask(2, "target"))
	}
	return err
}
