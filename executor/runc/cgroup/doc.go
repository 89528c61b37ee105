// Package cgroup makes the cgroups of containers, on cgroup v1 and v2, as far as this
// process may: it sets limits in them, lets them say which devices may be used, asks
// them what a container used and why the kernel killed one of its processes, and
// removes them, also those of processes that were killed themselves.
//
// What no cgroup keeps, it tells: the sandbox keeps that by other means.
package cgroup
