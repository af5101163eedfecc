/* table.h - the rows of the kernel tables, one per kern_*.c and int8_*.c that this machine's compiler builds. */
#ifndef KERN_TABLE_H
#define KERN_TABLE_H

#include "kern/int8.h"

#define KERN_UNPACKED 4096 /* floats: rows of a tile times the elements that are unpacked at a time */

extern const struct kern kern_plain;
extern const struct int8_kern int8_plain;
#if defined(__x86_64__)
extern const struct kern kern_avx2, kern_avx512, kern_amx;
extern const struct kern_bf16 bf16_avx512; /* where the CPU has AVX-512 BF16 */
extern const struct int8_kern int8_avx2, int8_avx512, int8_amx;
int amx_supported(void); /* asks the system for the right to use it */
#elif defined(__aarch64__)
extern const struct kern kern_neon, kern_dotprod;
extern const struct int8_kern int8_neon, int8_dotprod;
#endif

#endif
