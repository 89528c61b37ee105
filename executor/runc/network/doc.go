// Package network gives a container its network: the interface in its network
// namespace with addresses and routes, the resolver's configuration, and the stack that
// serves the other end (package netstack).
package network
