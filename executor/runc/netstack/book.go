package netstack

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// Contact is a destination that the namespace talked to, or tried to.
type Contact struct {
	// Proto is tcp, udp or icmp; dns for a name that was refused.
	Proto string
	// Addr is invalid for a name; its port is 0 where there is none.
	Addr netip.AddrPort
	// Name is the name whose address this was, as the namespace looked it up; ""
	// if it used the address.
	Name string
	// Denied says that it was refused by the rules, or cannot be reached at all.
	Denied bool
	// Flows counts connections, or tries.
	Flows int64
	// Sent and Received are bytes of content, as seen from the namespace.
	Sent, Received int64
}

const (
	maxContacts = 1000
	maxNames    = 10_000
)

type contactKey struct {
	proto  string
	addr   netip.AddrPort
	name   string
	denied bool
}

// entry counts what goes to one destination.
type entry struct {
	flows, sent, received atomic.Int64
}

// book records the destinations.
type book struct {
	denied func(Contact) // told of each one once

	mu      sync.Mutex // guards all below
	entries map[contactKey]*entry
	names   map[netip.Addr]string
	rest    entry // what is too much to be told apart
}

func newBook(denied func(Contact)) *book {
	return &book{denied: denied, entries: map[contactKey]*entry{}, names: map[netip.Addr]string{}}
}

// learn notes what a name resolved to.
func (b *book) learn(name string, a netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.names[a]; known || len(b.names) < maxNames {
		b.names[a] = name
	}
}

// flow notes a connection and returns where its bytes are counted.
func (b *book) flow(proto string, to netip.AddrPort) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, _ := b.entry(contactKey{proto: proto, addr: to, name: b.names[to.Addr()]})
	return e
}

// deny notes a refused connection.
func (b *book) deny(proto string, to netip.AddrPort) {
	b.mu.Lock()
	key := contactKey{proto: proto, addr: to, name: b.names[to.Addr()], denied: true}
	_, fresh := b.entry(key)
	b.mu.Unlock()
	b.tell(key, fresh)
}

// denyName notes a name that may not be looked up.
func (b *book) denyName(name string) {
	b.mu.Lock()
	key := contactKey{proto: "dns", name: name, denied: true}
	_, fresh := b.entry(key)
	b.mu.Unlock()
	b.tell(key, fresh)
}

func (b *book) tell(key contactKey, fresh bool) {
	if fresh && b.denied != nil {
		b.denied(Contact{Proto: key.proto, Addr: key.addr, Name: key.name, Denied: true, Flows: 1})
	}
}

// entry needs mu.
func (b *book) entry(key contactKey) (_ *entry, fresh bool) {
	e, ok := b.entries[key]
	if !ok && len(b.entries) >= maxContacts {
		e, ok = &b.rest, true
	}
	if !ok {
		e, fresh = &entry{}, true
		b.entries[key] = e
	}
	e.flows.Add(1)
	return e, fresh
}

// contacts are the destinations, sorted; those that were too many are one without
// an address.
func (b *book) contacts() []Contact {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Contact
	for k, e := range b.entries {
		out = append(out, Contact{
			Proto: k.proto, Addr: k.addr, Name: k.name, Denied: k.denied,
			Flows: e.flows.Load(), Sent: e.sent.Load(), Received: e.received.Load(),
		})
	}
	slices.SortFunc(out, func(a, b Contact) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr), cmp.Compare(a.Proto, b.Proto))
	})
	if n := b.rest.flows.Load(); n > 0 {
		out = append(out, Contact{Proto: "other", Flows: n, Sent: b.rest.sent.Load(), Received: b.rest.received.Load()})
	}
	return out
}
