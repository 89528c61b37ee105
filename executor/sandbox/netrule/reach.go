package netrule

import "net/netip"

// unreachable are the destinations that no process reaches: this machine's
// loopback, what only this machine or its link has (link-local addresses, at
// which clouds keep credentials), groups, and what is no destination. The
// services of clouds that have other addresses are named one by one.
var unreachable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"), // groups, reserved, broadcast
	netip.MustParsePrefix("::/96"),       // unspecified, loopback, IPv4-compatible
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fec0::/10"), // site-local, deprecated
	netip.MustParsePrefix("ff00::/8"),
	// Metadata services and the like.
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's WireServer
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud, classic
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS
	netip.MustParsePrefix("fd20:ce::/32"),       // Google Cloud
	netip.MustParsePrefix("fd00:42::42/128"),    // Scaleway
}

// nat64 is the well-known prefix of translators (RFC 6052): what it leads to is in
// the last 4 bytes.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// Reachable says whether a process may reach an address at all, whatever else is
// allowed.
func Reachable(a netip.Addr) bool {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, p := range unreachable {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsValid()
}
