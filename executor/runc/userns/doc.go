// Package userns makes user namespaces for containers, each of which owns its network,
// IPC and host name, and shows folders with the ids that a container has in its own.
package userns
