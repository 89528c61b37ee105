// Package grpc makes gRPC calls over net/http's HTTP/2 (grpc/grpc, "PROTOCOL-HTTP2.md"),
// with messages that are written and read field by field. google.golang.org/grpc would
// make the program larger and its start slower than the few calls are worth
// (docs/adr/0020-containerd.md).
package grpc
