/*
 * peak.h - what one thread of this machine can do at most, to put a measured speed beside: multiply-adds
 * out of registers with the widest instructions that the CPU has, and bytes read in a row.
 */
#ifndef KERN_PEAK_H
#define KERN_PEAK_H

#include <stddef.h>
#include <stdint.h>

enum peak { PEAK_INT8, PEAK_BF16, PEAK_FLOAT, PEAK_N };

/* The instruction that is counted: "vpdpbusd, 512 bits". */
const char *peak_name(enum peak p);
/* Runs about 2^20 multiply-adds per round, nothing else; returns how many exactly. */
uint64_t peak_run(enum peak p, uint64_t rounds);
/* Reads n bytes (a multiple of 64, 64-byte aligned) with nothing but loads, and, if `far` is not 0,
 * with asking for each line so many bytes early: the one or the other is what memory delivers
 * fastest to, depending on the processor. A value that depends on all of them. */
#define PEAK_FAR 3072
uint64_t peak_read(const void *p, size_t n, size_t far);

#endif
