// Package netrule is the grammar of the hosts that a process of a build may talk to
// (--network-allow), and knows the addresses that no process ever reaches. Who
// enforces them is the sandbox.
package netrule

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Rule allows a destination.
type Rule struct {
	// Name is a host's name, or, with a dot in front, all names below it. Either it
	// or Prefix is set.
	Name   string
	Prefix netip.Prefix
	// Port is the port; 0 is every port.
	Port uint16
}

// Parse reads HOST[:PORT]. HOST is a name, a name with a wildcard
// (*.example.org: all names below example.org, not itself), an address or a
// subnet; IPv6 with a port is written in brackets.
func Parse(s string) (Rule, error) {
	host, port, err := splitPort(s)
	if err != nil {
		return Rule{}, err
	}
	r := Rule{Port: port}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return Rule{}, fmt.Errorf("%q: addresses with a zone are of this link only", s)
		}
		a = a.Unmap()
		r.Prefix = netip.PrefixFrom(a, a.BitLen())
	} else if p, err := netip.ParsePrefix(host); err == nil {
		r.Prefix = p.Masked()
	} else if r.Name, err = ruleName(host); err != nil {
		return Rule{}, err
	}
	if r.Prefix.IsValid() && r.Prefix.IsSingleIP() && !Reachable(r.Prefix.Addr()) {
		return Rule{}, fmt.Errorf("%s belongs to this machine or its link, which no process of a build reaches", r.Prefix.Addr())
	}
	return r, nil
}

func splitPort(s string) (host string, port uint16, err error) {
	host = s
	text, has := "", false
	if rest, ok := strings.CutPrefix(s, "["); ok {
		var after string
		if host, after, ok = strings.Cut(rest, "]"); !ok {
			return "", 0, fmt.Errorf("%q: the bracket is not closed", s)
		}
		if text, has = strings.CutPrefix(after, ":"); after != "" && !has {
			return "", 0, fmt.Errorf("%q: want [ADDRESS]:PORT", s)
		}
	} else if strings.Count(s, ":") == 1 {
		host, text, has = strings.Cut(s, ":")
	}
	if !has {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q: %q is not a port", s, text)
	}
	return host, uint16(n), nil
}

func ruleName(host string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	name, wild := strings.CutPrefix(name, "*.")
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", fmt.Errorf("%q is not a host name, an address or a subnet (a wildcard stands in front: *.example.org)", host)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", fmt.Errorf("%q is not an address", host)
	}
	if wild {
		name = "." + name
	}
	return name, nil
}

// String is the rule in the form that Parse reads.
func (r Rule) String() string {
	host := r.Name
	switch {
	case strings.HasPrefix(host, "."):
		host = "*" + host
	case host == "" && r.Prefix.IsSingleIP():
		host = r.Prefix.Addr().String()
	case host == "":
		host = r.Prefix.String()
	}
	if r.Port == 0 {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(r.Port))
}

// MatchesName reports whether the rule is about a host of this name, which is in
// lower case and without the dot at its end.
func (r Rule) MatchesName(name string) bool {
	if strings.HasPrefix(r.Name, ".") {
		return strings.HasSuffix(name, r.Name) && len(name) > len(r.Name)
	}
	return r.Name != "" && r.Name == name
}
