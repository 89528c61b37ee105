package containerd

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/grpc"
)

// services is what the names of containerd's services begin with.
const services = "containerd.services."

// conn makes calls to a containerd, for a namespace of it.
type conn struct {
	grpc  *grpc.Conn
	lease string // "" before there is one
}

// dial returns a conn for a socket; it connects with the first call.
func dial(socket, namespace string) *conn {
	o := grpc.Options{Socket: socket, Header: map[string]string{"Containerd-Namespace": namespace}}
	return &conn{grpc: grpc.New("containerd", o)}
}

// under makes all further calls belong to a lease.
func (c *conn) under(lease string) {
	c.lease, c.grpc = lease, c.grpc.With("Containerd-Lease", lease)
}

// close ends the connection.
func (c *conn) close() { c.grpc.Close() }

func (c *conn) call(ctx context.Context, method string, msg grpc.Message) ([]byte, error) {
	return c.grpc.Call(ctx, services+method, msg)
}

// stream is a call of Content/Write.
type stream struct{ *grpc.Stream }

func (c *conn) open(ctx context.Context, method string) stream {
	return stream{c.grpc.Open(ctx, services+method)}
}

// numbers reads the numbers among a message's fields.
func numbers(raw []byte) (map[int]int64, error) {
	out := map[int]int64{}
	err := grpc.Read(raw, func(f grpc.Field) error {
		if f.Bytes == nil {
			out[f.Number] = int64(f.Varint)
		}
		return nil
	})
	return out, err
}

// descriptor is containerd.types.Descriptor.
func descriptor(d ocispec.Descriptor) grpc.Message {
	return grpc.Message(nil).Text(1, d.MediaType).Text(2, d.Digest.String()).Number(3, d.Size)
}
