/* table.h - the rows of the kernel tables, one per kern_*.c and int8_*.c that this machine's compiler builds. */
#ifndef KERN_TABLE_H
#define KERN_TABLE_H

#include "kern/int8.h"

extern const struct kern kern_plain;
extern const struct int8_kern int8_plain;
#if defined(__x86_64__)
extern const struct kern kern_avx2, kern_avx512;
extern const struct int8_kern int8_avx2, int8_avx512;
#elif defined(__aarch64__)
extern const struct kern kern_neon, kern_dotprod;
extern const struct int8_kern int8_neon, int8_dotprod;
#endif

#endif
