// Package rootfs makes what a container sees as its files: the root file system with
// /dev, /proc, /sys, files in /etc and mounts in it. What it makes in the root only to
// mount on it is taken away again, so that nothing of it stays in a layer.
package rootfs
