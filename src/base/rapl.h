/*
 * rapl.h - the energy that a machine's processor packages use, by the counters of Linux's powercap
 * tree.
 *
 * The tree (Linux, Documentation/power/powercap/powercap.rst) has a folder a zone: `name`,
 * `energy_uj`, a counter of microjoules, and `max_energy_range_uj`, the value at which that begins
 * again at 0. Read are the zones intel-rapl:N whose name begins with "package" (AMD's have these
 * names, too): their parts (core, uncore, dram) are zones below them, `psys` is the whole platform,
 * and intel-rapl-mmio shows the same packages a second time, so none of these is added.
 *
 * What is measured is all that the machine does meanwhile, not one process's part. Counters move
 * about every millisecond. Two wraps between two looks cannot be told from one: look at least every
 * few minutes.
 */
#ifndef BASE_RAPL_H
#define BASE_RAPL_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#define RAPL_TREE "/sys/class/powercap"
enum { RAPL_MOST = 32 }; /* packages */

struct rapl_zone { char dir[24], name[32]; uint64_t last, range; /* microjoules */ };
struct rapl {
	char root[256];
	size_t n;
	struct rapl_zone zone[RAPL_MOST]; /* by number */
};

/* Find the packages below root and take a first look. -1: there are none, or one cannot be read,
 * because a sum of only some would be too low; e says which and why. */
int rapl_open(struct rapl *r, const char *root, struct moe_err *e);

/* Microjoules of all packages since the last look. */
int rapl_look(struct rapl *r, uint64_t *uj, struct moe_err *e);

#endif
