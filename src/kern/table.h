/* table.h - the rows of the kernel table, one per kern_*.c that this machine's compiler builds. */
#ifndef KERN_TABLE_H
#define KERN_TABLE_H

#include "kern/kern.h"

extern const struct kern kern_plain;
#if defined(__x86_64__)
extern const struct kern kern_avx2, kern_avx512;
#endif

#endif
