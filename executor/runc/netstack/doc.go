// Package netstack connects a network namespace with the network of this
// process without privileges in it and without a helper: it answers on a TAP
// device as the gateway of the namespace would, with a TCP/IP stack in user
// space (gvisor's), and makes for every connection that comes out of the
// namespace an ordinary connection of this process.
//
// IPv4 TCP and UDP are forwarded; the gateway answers pings and, as a name
// server, hands queries on to this machine's servers. What only this machine
// may reach (its loopback, link-local addresses) cannot be reached.
package netstack
