// Package containerd gives images to a containerd by its gRPC services (content,
// images, leases): what its content store lacks is sent, and kept from its garbage
// collector. docs/adr/0020-containerd.md says why neither its client nor gRPC's
// library is used.
package containerd
