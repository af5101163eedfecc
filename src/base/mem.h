/* mem.h - how much memory there is, so that what cannot fit is refused instead of killed. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdint.h>

/* Bytes that can be had without swapping, as the kernel estimates; physical memory where it gives
 * no estimate. Never 0. */
uint64_t mem_available(void);

#endif
