package program

import "debug/elf"

// machine is that of the programs that can be executed here.
const machine = elf.EM_AARCH64
