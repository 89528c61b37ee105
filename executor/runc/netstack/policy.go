package netstack

import (
	"net/netip"
	"sync"
	"time"

	"layered.build/builder/executor/sandbox/netrule"
)

const (
	minLease  = time.Minute // programs keep addresses longer than a short TTL says
	maxLeases = 4096
)

// policy says which destinations are allowed. Names are allowed by rule; their
// addresses as long as the answers that named them are valid.
type policy struct {
	rules []netrule.Rule // none: everything is allowed

	mu     sync.Mutex // guards leases
	leases map[netip.AddrPort]time.Time
}

func newPolicy(rules []netrule.Rule) *policy {
	return &policy{rules: rules, leases: map[netip.AddrPort]time.Time{}}
}

func (p *policy) open() bool { return len(p.rules) == 0 }

// ports are the ports (0: all) at which a name may be reached; none if it may not.
func (p *policy) ports(name string) []uint16 {
	var out []uint16
	for _, r := range p.rules {
		if r.MatchesName(name) {
			out = append(out, r.Port)
		}
	}
	return out
}

// lease allows an address for the time that an answer is valid.
func (p *policy) lease(a netip.Addr, ports []uint16, ttl time.Duration) {
	now := time.Now()
	until := now.Add(max(ttl, minLease))
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.leases) >= maxLeases {
		for k, t := range p.leases {
			if t.Before(now) {
				delete(p.leases, k)
			}
		}
	}
	for _, port := range ports {
		k := netip.AddrPortFrom(a, port)
		if _, known := p.leases[k]; known || len(p.leases) < maxLeases {
			p.leases[k] = until
		}
	}
}

// allows decides on an address; port 0 is for what has no ports.
func (p *policy) allows(to netip.AddrPort) bool {
	if p.open() {
		return true
	}
	for _, r := range p.rules {
		if r.Prefix.IsValid() && r.Prefix.Contains(to.Addr()) && (r.Port == 0 || r.Port == to.Port()) {
			return true
		}
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, port := range []uint16{to.Port(), 0} {
		if t, ok := p.leases[netip.AddrPortFrom(to.Addr(), port)]; ok && now.Before(t) {
			return true
		}
	}
	return false
}
