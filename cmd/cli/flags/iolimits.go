package flags

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	units "github.com/docker/go-units"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
)

// ioFlags limit the use of block devices, as docker run's flags do.
type ioFlags struct {
	weight                                 uint16
	readBPS, writeBPS, readIOPS, writeIOPS []string
}

func (f *ioFlags) register(fs *pflag.FlagSet) {
	fs.Uint16Var(&f.weight, "blkio-weight", 0, "relative weight of block IO, 10 to 1000")
	ArrayVar(fs, &f.readBPS, "device-read-bps", "", "bytes a second that are read from a device, PATH:RATE (/dev/sda:1mb)")
	ArrayVar(fs, &f.writeBPS, "device-write-bps", "", "bytes a second that are written to a device, PATH:RATE")
	ArrayVar(fs, &f.readIOPS, "device-read-iops", "", "reads a second from a device, PATH:NUMBER")
	ArrayVar(fs, &f.writeIOPS, "device-write-iops", "", "writes a second to a device, PATH:NUMBER")
}

// limits is nil if nothing is limited.
func (f *ioFlags) limits() (*dag.IOLimits, error) {
	out := &dag.IOLimits{Weight: f.weight}
	if f.weight != 0 && (f.weight < 10 || f.weight > 1000) {
		return nil, mistake.New("--blkio-weight %d: want a number from 10 to 1000", f.weight)
	}
	any := f.weight != 0
	for _, r := range []struct {
		flag   string
		values []string
		to     *[]dag.DeviceRate
		bytes  bool
	}{
		{"--device-read-bps", f.readBPS, &out.ReadBPS, true}, {"--device-write-bps", f.writeBPS, &out.WriteBPS, true},
		{"--device-read-iops", f.readIOPS, &out.ReadIOPS, false}, {"--device-write-iops", f.writeIOPS, &out.WriteIOPS, false},
	} {
		for _, v := range r.values {
			rate, err := parseRate(r.flag, v, r.bytes)
			if err != nil {
				return nil, err
			}
			*r.to = append(*r.to, rate)
			any = true
		}
	}
	if !any {
		return nil, nil
	}
	return out, nil
}

// parseRate reads PATH:RATE. A partition stands for its disk, which is what the
// kernel limits.
func parseRate(flag, v string, bytes bool) (dag.DeviceRate, error) {
	i := strings.LastIndexByte(v, ':')
	if i <= 0 {
		return dag.DeviceRate{}, mistake.New("%s %q: want PATH:RATE", flag, v)
	}
	path, text := v[:i], v[i+1:]
	var rate uint64
	var err error
	if bytes {
		var n int64
		n, err = units.RAMInBytes(text)
		rate = uint64(max(0, n))
	} else {
		rate, err = strconv.ParseUint(text, 10, 32)
	}
	if err != nil || rate == 0 {
		return dag.DeviceRate{}, mistake.New("%s %q: %q is no rate", flag, v, text)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return dag.DeviceRate{}, mistake.New("%s %q: %w", flag, v, &os.PathError{Op: "stat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return dag.DeviceRate{}, mistake.New("%s %q: %s is no block device", flag, v, path)
	}
	major, minor := wholeDisk(unix.Major(st.Rdev), unix.Minor(st.Rdev))
	return dag.DeviceRate{Major: int64(major), Minor: int64(minor), Rate: rate}, nil
}

// wholeDisk is the disk that a partition is on, or the device itself.
func wholeDisk(major, minor uint32) (uint32, uint32) {
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + strconv.Itoa(int(major)) + ":" + strconv.Itoa(int(minor)))
	if err != nil {
		return major, minor
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return major, minor
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "dev"))
	if err != nil {
		return major, minor
	}
	a, c, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
	maj, err1 := strconv.ParseUint(a, 10, 32)
	mnr, err2 := strconv.ParseUint(c, 10, 32)
	if err1 != nil || err2 != nil {
		return major, minor
	}
	return uint32(maj), uint32(mnr)
}
