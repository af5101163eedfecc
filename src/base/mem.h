/* mem.h - how much memory there is, so that what cannot fit is refused instead of killed; how it
 * is written for others to read. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#define MEM_HUGE_PAGE ((size_t)2 << 20) /* what MADV_HUGEPAGE makes of aligned memory */

/* Bytes that can be had without swapping, as the kernel estimates (physical memory where it gives
 * no estimate), and within the limits of the process's control groups. */
uint64_t mem_available(void);

/* Bytes below the tightest limit of the control groups that the file `list` names
 * (/proc/self/cgroup), mounted at `mount`, version 1 or 2; UINT64_MAX where nothing is limited. */
uint64_t mem_group_room(const char *list, const char *mount);

/* memcpy() of what this processor will not read again: past its caches where it can do that, so
 * that what is overwritten need not be fetched first. Whoever gets it by a lock sees all of it. */
void mem_copy_out(void *to, const void *from, size_t n);

#endif
