package sandboxtest

import (
	"testing"

	"layered.build/builder/executor/sandbox"
)

// Run runs the suite on sandboxes that newSandbox makes.
func Run(t *testing.T, newSandbox func(t *testing.T) sandbox.Sandbox) {
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
		{"Confinement", testConfinement},
		{"Devices", testDevices},
		{"Insecure", testInsecure},
		{"ReadOnlyRoot", testReadOnlyRoot},
		{"Mounts", testMounts},
		{"SnapshotMount", testSnapshotMount},
		{"NestedMounts", testNestedMounts},
		{"MountpointsVanish", testMountpointsVanish},
		{"MountpointThroughLink", testMountpointThroughLink},
		{"Etc", testEtc},
		{"Shm", testShm},
		{"Ulimits", testUlimits},
		{"MemoryLimit", testMemoryLimit},
		{"PidsLimit", testPidsLimit},
		{"CPULimit", testCPULimit},
		{"Cpuset", testCpuset},
		{"Usage", testUsage},
		{"NoNetwork", testNoNetwork},
		{"HostNetwork", testHostNetwork},
		{"NetworkTCP", testNetworkTCP},
		{"NetworkUDP", testNetworkUDP},
		{"NetworkRefused", testNetworkRefused},
		{"HostLoopback", testHostLoopback},
		{"Concurrent", testConcurrent},
		{"Leaks", testLeaks},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.f(t, NewEnv(t, newSandbox(t))) })
	}
}
