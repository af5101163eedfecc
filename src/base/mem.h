/* mem.h - how much memory there is, so that what cannot fit is refused instead of killed. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdint.h>

/* Bytes that can be had without swapping, as the kernel estimates (physical memory where it gives
 * no estimate), and within the limits of the process's control groups. */
uint64_t mem_available(void);

/* Bytes below the tightest limit of the control groups that the file `list` names
 * (/proc/self/cgroup), mounted at `mount`, version 1 or 2; UINT64_MAX where nothing is limited. */
uint64_t mem_group_room(const char *list, const char *mount);

#endif
