package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"layered.build/builder/planner/dag"
)

// resolvPath is the resolv.conf of a network: a namespace that ip-netns(8) made may
// have one of its own.
func resolvPath(path string, network dag.Network) string {
	ns, ok := network.Namespace()
	if !ok {
		return path
	}
	if dir := filepath.Dir(filepath.Clean(ns)); dir != "/run/netns" && dir != "/var/run/netns" {
		return path
	}
	own := filepath.Join("/etc/netns", filepath.Base(ns), "resolv.conf")
	if _, err := os.Stat(own); err != nil {
		return path
	}
	return own
}

// ResolvConf is this machine's file, at path, changed as dns says; in a network of its
// own the container asks the gateway, which asks the servers (they may listen on
// loopback). It has an address for each of them, up to three, which is as many as
// resolvers take: the options on how long to wait, how often and for whom first mean
// in the container what they mean here.
func ResolvConf(path string, network dag.Network, dns *dag.DNS) ([]byte, error) {
	path = resolvPath(path, network)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if !Own(network) && dns == nil {
		return b, nil
	}
	if dns == nil {
		dns = &dag.DNS{}
	}
	var out bytes.Buffer
	replaced := map[string]bool{"search": len(dns.Search) > 0, "domain": len(dns.Search) > 0, "options": len(dns.Options) > 0}
	switch {
	case Own(network):
		fmt.Fprintf(&out, "nameserver %s\n", gatewayAddr())
		for _, a := range otherNames()[:min(len(servers(path, dns)), 1+len(otherNames()))-1] {
			fmt.Fprintf(&out, "nameserver %s\n", a)
		}
		replaced["nameserver"] = true
	case len(dns.Servers) > 0:
		for _, s := range dns.Servers {
			fmt.Fprintf(&out, "nameserver %s\n", s)
		}
		replaced["nameserver"] = true
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || replaced[f[0]] {
			continue
		}
		switch f[0] {
		case "search", "options", "domain", "nameserver":
			out.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	if len(dns.Search) > 0 {
		out.WriteString("search " + strings.Join(dns.Search, " ") + "\n")
	}
	if len(dns.Options) > 0 {
		out.WriteString("options " + strings.Join(dns.Options, " ") + "\n")
	}
	return out.Bytes(), nil
}

// servers are the name servers of a container.
func servers(path string, dns *dag.DNS) []netip.AddrPort {
	var out []netip.AddrPort
	if dns != nil {
		for _, s := range dns.Servers {
			if a, err := netip.ParseAddr(s); err == nil {
				out = append(out, netip.AddrPortFrom(a, 53))
			}
		}
	}
	if len(out) == 0 {
		return nameservers(path)
	}
	return out
}

// nameservers reads the servers of a resolv.conf; none means this machine.
func nameservers(path string) []netip.AddrPort {
	b, _ := os.ReadFile(path)
	var out []netip.AddrPort
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	if len(out) == 0 {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53))
	}
	return out
}

// patience is how long the options of a container's resolv.conf let a name server think;
// 0 if they do not say.
func patience(path string, dns *dag.DNS) time.Duration {
	var options []string
	if dns != nil {
		options = dns.Options
	}
	if len(options) == 0 {
		b, _ := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 0 && f[0] == "options" {
				options = append(options, f[1:]...)
			}
		}
	}
	var wait time.Duration
	for _, o := range options {
		if s, ok := strings.CutPrefix(o, "timeout:"); ok {
			if n, err := strconv.Atoi(s); err == nil && n > 0 {
				wait = min(time.Duration(n), 30) * time.Second // resolv.conf(5)
			}
		}
	}
	return wait
}
