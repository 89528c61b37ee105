// Package watch looks at the processes of a running container from outside: it counts
// them and what they use, keeps limits of memory and processes where no cgroup does,
// and knows who is who when the kernel kills one.
package watch
