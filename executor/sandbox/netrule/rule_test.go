package netrule

import (
	"net/netip"
	"testing"
)

func TestParse(t *testing.T) {
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
		r, err := Parse(in)
		if err != nil || r.String() != want {
			t.Errorf("%s: %s, %v, want %s", in, r, err, want)
			continue
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Errorf("%s is not read back: %v, %v", want, again, err)
		}
	}
	for _, in := range []string{
		"", ":80", "*", "*.", "a.*.org", "*a.org", "a..org", "a.org:0", "a.org:70000", "a.org:x", "a b.org", "bücher.example",
		"[::1", "[2001:db8::1]80", "fe80::1%eth0", "127.0.0.1", "169.254.169.254:80", "::ffff:127.0.0.1", "1.2.3", "300.1.1.1", "http://a.org",
	} {
		if r, err := Parse(in); err == nil {
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
