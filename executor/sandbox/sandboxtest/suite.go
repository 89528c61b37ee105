package sandboxtest

import (
	"os"
	"testing"

	"layered.build/builder/executor/sandbox"
)

// Promises says what of the suite does not hold for a sandbox.
type Promises struct {
	// Plain: root file systems and mounts are directories, since nothing can be
	// mounted, and there are no namespaces: processes have this machine's numbers.
	Plain bool
	// Lacks names tests, and says what the sandbox does not promise.
	Lacks map[string]string
}

// Run runs the suite on sandboxes that newSandbox makes.
func Run(t *testing.T, newSandbox func(t *testing.T) sandbox.Sandbox) {
	RunWith(t, Promises{}, newSandbox)
}

// RunWith is Run for a sandbox that promises less.
func RunWith(t *testing.T, p Promises, newSandbox func(t *testing.T) sandbox.Sandbox) {
	tests := []struct {
		name string
		f    func(*testing.T, *Env)
	}{
		{"ExitCodes", testExitCodes},
		{"NotExecutable", testNotExecutable},
		{"Environment", testEnvironment},
		{"Files", testFiles},
		{"Stdin", testStdin},
		{"WorkingDirectory", testWorkingDirectory},
		{"User", testUser},
		{"Hostname", testHostname},
		{"Terminal", testTerminal},
		{"Daemon", testDaemon},
		{"Cancel", testCancel},
		{"Signals", testSignals},
		{"Confinement", testConfinement},
		{"Devices", testDevices},
		{"Insecure", testInsecure},
		{"ReadOnlyRoot", testReadOnlyRoot},
		{"Mounts", testMounts},
		{"SnapshotMount", testSnapshotMount},
		{"NestedMounts", testNestedMounts},
		{"MountsInPlace", testMountsInPlace},
		{"MountpointsVanish", testMountpointsVanish},
		{"MountpointThroughLink", testMountpointThroughLink},
		{"Etc", testEtc},
		{"Shm", testShm},
		{"Ulimits", testUlimits},
		{"MemoryLimit", testMemoryLimit},
		{"PidsLimit", testPidsLimit},
		{"CPULimit", testCPULimit},
		{"CPUShares", testCPUShares},
		{"Cpuset", testCpuset},
		{"IOLimit", testIOLimit},
		{"Usage", testUsage},
		{"Accounting", testAccounting},
		{"NoNetwork", testNoNetwork},
		{"HostNetwork", testHostNetwork},
		{"NetworkTCP", testNetworkTCP},
		{"NetworkUDP", testNetworkUDP},
		{"NetworkRefused", testNetworkRefused},
		{"HostLoopback", testHostLoopback},
		{"Concurrent", testConcurrent},
		{"Leaks", testLeaks},
	}
	known := map[string]bool{}
	for _, test := range tests {
		known[test.name] = true
		t.Run(test.name, func(t *testing.T) {
			if why := p.Lacks[test.name]; why != "" {
				t.Skip("not promised: " + why)
			}
			if !p.Plain && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			e := NewEnv(t, newSandbox(t))
			e.plain = p.Plain
			test.f(t, e)
		})
	}
	for name := range p.Lacks {
		if !known[name] {
			t.Errorf("there is no test %s", name)
		}
	}
}
