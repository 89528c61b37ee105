// Package netstack connects a network namespace with the network of this
// process without privileges in it and without a helper: it answers on a TAP
// device as the gateway of the namespace would, with a TCP/IP stack in user
// space (gvisor's), and makes for every connection that comes out of the
// namespace an ordinary connection of this process.
//
// TCP, UDP and pings are forwarded, over IPv4 and IPv6; as a name server the
// gateway hands queries on to this machine's servers. What only this machine may
// reach (its loopback, link-local addresses, the metadata services of clouds)
// cannot be reached. The destinations may be limited to a list, which the name
// server enforces, too, and all of them are counted.
package netstack
