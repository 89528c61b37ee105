// Package engines gives images to other engines of this machine, docker, containerd and
// podman, and reads images of them. What an engine has already is not sent.
package engines
