// Package program makes programs of a root file system executable where the kernel
// looks for their interpreters in the machine's: it reads what ELF files and scripts
// name, and copies programs so that they name something else.
package program
