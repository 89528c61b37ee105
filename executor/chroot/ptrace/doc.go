// Package ptrace reads and changes threads that are stopped at a system call: their
// registers and memory (ptrace(2), process_vm_readv(2)).
package ptrace
