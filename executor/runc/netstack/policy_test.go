package netstack

import (
	"net/netip"
	"testing"
	"time"
)

func TestParseRule(t *testing.T) {
	for in, want := range map[string]string{
		"example.org":           "example.org",
		"Example.ORG.:443":      "example.org:443",
		"*.example.org":         "*.example.org",
		"localhost":             "localhost",
		"192.0.2.1":             "192.0.2.1",
		"192.0.2.1:80":          "192.0.2.1:80",
		"192.0.2.77/24":         "192.0.2.0/24",
		"192.0.2.77/24:53":      "192.0.2.0/24:53",
		"2001:db8::1":           "2001:db8::1",
		"[2001:db8::1]:80":      "[2001:db8::1]:80",
		"[2001:db8::1]":         "2001:db8::1",
		"[2001:db8::/32]:443":   "[2001:db8::/32]:443",
		"::ffff:192.0.2.1":      "192.0.2.1",
		"xn--bcher-kva.example": "xn--bcher-kva.example",
	} {
		r, err := ParseRule(in)
		if err != nil || r.String() != want {
			t.Errorf("%s: %s, %v, want %s", in, r, err, want)
			continue
		}
		if again, err := ParseRule(r.String()); err != nil || again != r {
			t.Errorf("%s is not read back: %v, %v", want, again, err)
		}
	}
	for _, in := range []string{
		"", ":80", "*", "*.", "a.*.org", "*a.org", "a..org", "a.org:0", "a.org:70000", "a.org:x", "a b.org", "bücher.example",
		"[::1", "[2001:db8::1]80", "fe80::1%eth0", "127.0.0.1", "169.254.169.254:80", "::ffff:127.0.0.1", "1.2.3", "300.1.1.1", "http://a.org",
	} {
		if r, err := ParseRule(in); err == nil {
			t.Errorf("%q is taken as %s", in, r)
		}
	}
}

func TestReachable(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "10.0.0.1": true, "192.168.1.1": true, "2606:4700::1": true, "fd12::1": true,
		"127.0.0.1": false, "127.255.255.254": false, "0.0.0.0": false, "0.1.2.3": false, "169.254.169.254": false,
		"224.0.0.1": false, "255.255.255.255": false, "100.100.100.200": false, "100.100.100.201": true,
		"::": false, "::1": false, "::7f00:1": false, "::ffff:127.0.0.1": false, "::ffff:8.8.8.8": true, "fe80::1": false,
		"febf::1": false, "ff02::1": false, "fd00:ec2::254": false, "64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false,
		"64:ff9b::808:808": true, "fd20:ce::254": false,
	} {
		if got := Reachable(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestLeases(t *testing.T) {
	rule, err := ParseRule("example.org:443")
	if err != nil {
		t.Fatal(err)
	}
	p := newPolicy([]Rule{rule})
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
