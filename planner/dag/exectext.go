package dag

import (
	"fmt"
	"strings"
)

// options writes what a process gets beside the Dockerfile's own wishes.
func (t *text) options(op *Exec) {
	if d := op.DNS; d != nil {
		t.list("dns", d.Servers)
		t.list("dns search", d.Search)
		t.list("dns option", d.Options)
	}
	t.list("network allow", op.NetworkAllow)
	t.list("cap add", op.CapAdd)
	t.list("cap drop", op.CapDrop)
	if c := op.Confine; c != nil {
		t.field("seccomp", c.Seccomp)
		t.field("apparmor", c.AppArmor)
		t.field("confine", strings.TrimSpace(word("no-new-privileges", c.NoNewPrivileges)))
		t.list("mask", c.Mask)
		t.list("unmask", c.Unmask)
	}
	for _, v := range op.Volumes {
		t.field("volume", fmt.Sprintf("%s -> %s%s%s", visible(v.Source), visible(v.Dest), word("ro", v.ReadOnly), word("overlay", v.Overlay)))
	}
	for _, d := range op.HostDevices {
		t.field("host device", fmt.Sprintf("%s -> %s %s", visible(d.Source), visible(d.Dest), d.Access))
	}
}
