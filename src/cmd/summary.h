/* summary.h - what a run found, in a screenful for people: printed after `profile` and `demo`. */
#ifndef CMD_SUMMARY_H
#define CMD_SUMMARY_H

#include <stdint.h>

#include <moescope/err.h>

/* To stdout; run 0 = the newest. */
int summary_print(const char *db, int64_t run, struct moe_err *e);

#endif
