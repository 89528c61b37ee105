package netstack

import (
	"net/netip"
	"testing"
	"time"

	"layered.build/builder/executor/sandbox/netrule"
)

func TestLeases(t *testing.T) {
	rule, err := netrule.Parse("example.org:443")
	if err != nil {
		t.Fatal(err)
	}
	p := newPolicy([]netrule.Rule{rule})
	a := netip.MustParseAddr("192.0.2.1")
	p.lease(a, p.ports("example.org"), 0)
	if !p.allows(netip.AddrPortFrom(a, 443)) || p.allows(netip.AddrPortFrom(a, 80)) {
		t.Error("the lease is not for the rule's port")
	}
	p.leases[netip.AddrPortFrom(a, 443)] = time.Now().Add(-time.Second)
	if p.allows(netip.AddrPortFrom(a, 443)) {
		t.Error("a lease does not end")
	}
	for i := range 3 * maxLeases {
		p.lease(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), []uint16{443}, time.Hour)
	}
	if len(p.leases) > maxLeases {
		t.Errorf("%d leases", len(p.leases))
	}
	for name, want := range map[string]int{"example.org": 1, "a.example.org": 0, "xexample.org": 0, "": 0} {
		if got := p.ports(name); len(got) != want {
			t.Errorf("%q: ports %v", name, got)
		}
	}
}
