package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/view"
)

// hiddenPaths of /proc and /sys tell about the machine; fixedPaths change it. They
// are those that containers mask, and make read-only.
func hiddenPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func fixedPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// system shows the machine's /proc and /sys.
func (l *Layout) system() error {
	for _, dir := range []string{"/proc", "/sys"} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := l.bind(dir, dir, dir == "/sys"); err != nil {
			return err
		}
	}
	empty := filepath.Join(l.opts.Dir, "empty")
	if err := os.Mkdir(empty, 0o555); err != nil {
		return err
	}
	for _, p := range fixedPaths() {
		if _, err := os.Lstat(p); err == nil {
			l.view = append(l.view, view.Binding{Guest: p, Host: p, ReadOnly: true})
		}
	}
	for _, p := range hiddenPaths() {
		fi, err := os.Lstat(p)
		switch {
		case err != nil:
		case fi.IsDir():
			l.view = append(l.view, view.Binding{Guest: p, Host: empty, ReadOnly: true})
		default:
			l.view = append(l.view, view.Binding{Guest: p, Host: "/dev/null", ReadOnly: true})
		}
	}
	return nil
}

// devices makes /dev of the few devices that every container has.
func (l *Layout) devices() error {
	dev := filepath.Join(l.opts.Dir, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	if err := l.bind("/dev", dev, false); err != nil {
		return err
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts"} {
		host := "/dev/" + name
		if _, err := os.Stat(host); err != nil {
			continue
		}
		if err := l.bind("/dev/"+name, host, false); err != nil {
			return err
		}
	}
	shm, err := l.memory()
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(shm, 0o1777), l.bind("/dev/shm", shm, false))
}

// memory makes a directory that is in memory, if the machine lets it.
func (l *Layout) memory() (string, error) {
	var st unix.Statfs_t
	if unix.Statfs("/dev/shm", &st) == nil && st.Type == unix.TMPFS_MAGIC && unix.Access("/dev/shm", unix.W_OK) == nil {
		if dir, err := os.MkdirTemp("/dev/shm", "builder-shm-"); err == nil {
			l.temp = append(l.temp, dir)
			return dir, nil
		}
	}
	return os.MkdirTemp(l.opts.Dir, "shm-")
}

// etc writes /etc/hosts and /etc/resolv.conf for this run.
func (l *Layout) etc() error {
	conf, err := l.resolvConf()
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"resolv.conf": conf, "hosts": l.hosts()} {
		file := filepath.Join(l.opts.Dir, name)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
		if err := l.bind("/etc/"+name, file, true); err != nil {
			return err
		}
	}
	return nil
}

func (l *Layout) hosts() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", l.Hostname())
	for _, h := range l.spec.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Host)
	}
	return b.Bytes()
}

// resolvConf is this machine's, changed as the build says.
func (l *Layout) resolvConf() ([]byte, error) {
	b, err := os.ReadFile(l.opts.ResolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dns := l.spec.DNS
	if dns == nil {
		return b, nil
	}
	var out bytes.Buffer
	replaced := map[string]bool{
		"nameserver": len(dns.Servers) > 0, "search": len(dns.Search) > 0, "domain": len(dns.Search) > 0, "options": len(dns.Options) > 0,
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && !replaced[f[0]] {
			out.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	for _, s := range dns.Servers {
		fmt.Fprintf(&out, "nameserver %s\n", s)
	}
	if len(dns.Search) > 0 {
		out.WriteString("search " + strings.Join(dns.Search, " ") + "\n")
	}
	if len(dns.Options) > 0 {
		out.WriteString("options " + strings.Join(dns.Options, " ") + "\n")
	}
	return out.Bytes(), nil
}
