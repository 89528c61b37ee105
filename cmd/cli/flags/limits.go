package flags

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	units "github.com/docker/go-units"
	"github.com/spf13/pflag"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
)

// limitFlags are the resource limits of build and run.
type limitFlags struct {
	memory, memorySwap     string
	reservation            string
	cpus                   float64
	cpuShares, cpuPeriod   int64
	cpuQuota               int64
	cpusetCPUs, cpusetMems string
	pids                   int64
	cgroupParent           string
	shmSize                string
	ulimit                 []string
	timeout                time.Duration
	io                     ioFlags
}

func (l *limitFlags) register(fs *pflag.FlagSet) {
	fs.StringVarP(&l.memory, "memory", "m", "", "memory limit of a process's container (512m, 2g)")
	fs.StringVar(&l.memorySwap, "memory-swap", "", "memory plus swap; -1 is unlimited swap")
	fs.StringVar(&l.reservation, "memory-reservation", "", "memory that the machine, when it lacks some, leaves to a process's container")
	fs.Float64Var(&l.cpus, "cpus", 0, "how many CPUs may be used (1.5)")
	fs.Int64VarP(&l.cpuShares, "cpu-shares", "c", 0, "relative weight of CPU time")
	fs.Int64Var(&l.cpuPeriod, "cpu-period", 0, "length of a CFS period in microseconds")
	fs.Int64Var(&l.cpuQuota, "cpu-quota", 0, "CPU time in a period in microseconds")
	fs.StringVar(&l.cpusetCPUs, "cpuset-cpus", "", "CPUs to use (0-3, 0,1)")
	fs.StringVar(&l.cpusetMems, "cpuset-mems", "", "memory nodes to use")
	fs.Int64Var(&l.pids, "pids-limit", 0, "how many processes and threads")
	fs.StringVar(&l.cgroupParent, "cgroup-parent", "", "the cgroup below which those of the processes are made")
	fs.StringVar(&l.shmSize, "shm-size", "", "size of /dev/shm (default 64m)")
	ArrayVar(fs, &l.ulimit, "ulimit", "", "resource limit, NAME=SOFT[:HARD]")
	fs.DurationVar(&l.timeout, "timeout", 0, "how long a process may take (90s, 15m)")
	l.io.register(fs)
}

// totalFlags limit a build as a whole.
type totalFlags struct {
	memory  string
	cpus    float64
	timeout time.Duration
	stats   bool
}

func (t *totalFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&t.memory, "build-memory", "", "memory limit of all processes of the build together")
	fs.Float64Var(&t.cpus, "build-cpus", 0, "how many CPUs all processes of the build may use together")
	fs.DurationVar(&t.timeout, "build-timeout", 0, "how long the build may take")
	fs.BoolVar(&t.stats, "stats", false, "print what each process used: CPU time, memory, IO, network")
}

func (t *totalFlags) limits() (dag.Limits, error) {
	out := dag.Limits{CPUs: t.cpus}
	if t.cpus < 0 || math.IsNaN(t.cpus) {
		return out, mistake.New("--build-cpus %v: want a positive number", t.cpus)
	}
	if t.timeout < 0 {
		return out, mistake.New("--build-timeout %s: want a positive duration", t.timeout)
	}
	var err error
	out.Memory, err = bytesFlag("--build-memory", t.memory)
	return out, err
}

func (l *limitFlags) limits() (dag.Limits, error) {
	out := dag.Limits{
		CPUs: l.cpus, CPUQuota: l.cpuQuota, CpusetCPUs: l.cpusetCPUs, CpusetMems: l.cpusetMems,
		Pids: max(0, l.pids), Parent: l.cgroupParent, Timeout: l.timeout,
	}
	if strings.Contains(l.cgroupParent, ":") || slices.Contains(strings.Split(l.cgroupParent, "/"), "..") {
		return out, mistake.New("--cgroup-parent %s: want a path below /sys/fs/cgroup", l.cgroupParent).WithHint("a slice of systemd is its path too: system.slice")
	}
	if l.timeout < 0 {
		return out, mistake.New("--timeout %s: want a positive duration", l.timeout)
	}
	for _, n := range []struct {
		flag  string
		value int64
		to    *uint64
	}{{"--cpu-shares", l.cpuShares, &out.CPUShares}, {"--cpu-period", l.cpuPeriod, &out.CPUPeriod}} {
		if n.value < 0 {
			return out, mistake.New("%s %d: want a positive number", n.flag, n.value)
		}
		*n.to = uint64(n.value)
	}
	if l.cpus < 0 || math.IsNaN(l.cpus) {
		return out, mistake.New("--cpus %v: want a positive number", l.cpus)
	}
	if l.cpus > 0 && (l.cpuPeriod != 0 || l.cpuQuota != 0) {
		return out, mistake.New("--cpus cannot be combined with --cpu-period and --cpu-quota")
	}
	var err error
	if out.Memory, err = bytesFlag("--memory", l.memory); err != nil {
		return out, err
	}
	if out.MemoryReservation, err = bytesFlag("--memory-reservation", l.reservation); err != nil {
		return out, err
	}
	if out.Memory > 0 && out.MemoryReservation > out.Memory {
		return out, mistake.New("--memory-reservation must not be more than --memory")
	}
	if out.IO, err = l.io.limits(); err != nil {
		return out, err
	}
	if l.memorySwap == "-1" {
		out.MemorySwap = -1
	} else if out.MemorySwap, err = bytesFlag("--memory-swap", l.memorySwap); err != nil {
		return out, err
	}
	if out.MemorySwap > 0 && out.Memory == 0 {
		return out, mistake.New("--memory-swap needs --memory")
	}
	if out.MemorySwap > 0 && out.MemorySwap < out.Memory {
		return out, mistake.New("--memory-swap must not be less than --memory: it is memory plus swap")
	}
	return out, nil
}

func (l *limitFlags) shm() (int64, error) { return bytesFlag("--shm-size", l.shmSize) }

func (l *limitFlags) ulimits() ([]dag.Ulimit, error) {
	var out []dag.Ulimit
	for _, s := range l.ulimit {
		u, err := units.ParseUlimit(s)
		if err != nil {
			return nil, mistake.New("--ulimit %s: %w", s, err).WithHint("write NAME=SOFT[:HARD], as in nofile=1024:4096")
		}
		out = append(out, dag.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out, nil
}

func bytesFlag(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return 0, mistake.New("%s %q is not a size", flag, s).WithHint("write a number with b, k, m or g: 512m")
	}
	return n, nil
}

// parseHosts reads --add-host values: NAME[;NAME…]:IP, also with = for the colon.
func parseHosts(values []string) ([]dag.HostAlias, error) {
	var out []dag.HostAlias
	for _, v := range values {
		names, ip, ok := strings.Cut(v, "=")
		if !ok {
			names, ip, ok = strings.Cut(v, ":")
		}
		if !ok {
			return nil, mistake.New("--add-host %q: want NAME:IP", v)
		}
		addr, err := hostAddress(ip)
		if err != nil {
			return nil, mistake.New("--add-host %q: %w", v, err)
		}
		for name := range strings.SplitSeq(names, ";") {
			if name == "" || strings.ContainsAny(name, " \t\r\n#") {
				return nil, mistake.New("--add-host %q: %q is not a host's name", v, name).WithHint("write NAME:IP or NAME:host-gateway")
			}
			out = append(out, dag.HostAlias{Host: name, IP: addr.String()})
		}
	}
	return out, nil
}

// hostAddress reads the address of --add-host.
func hostAddress(ip string) (netip.Addr, error) {
	if ip == "host-gateway" {
		return hostGateway()
	}
	addr, err := netip.ParseAddr(strings.Trim(ip, "[]"))
	if err != nil {
		return addr, fmt.Errorf("%q is not an IP address", ip)
	}
	return addr, nil
}
