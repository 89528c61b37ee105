// Package carry carries the contents of cache mounts between this machine and shared caches:
// the mounts that a build has used are sent when it ends, and one that is empty is restored
// when a process is about to use it. Nothing that goes wrong there is an error of the build.
package carry
