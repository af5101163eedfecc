/*
 * show.h - names that come from outside (paths, models, domains) on a terminal: escaped, cut.
 *
 *	printf("written to %s\n", show(path).s);
 */
#ifndef CMD_SHOW_H
#define CMD_SHOW_H

struct shown { char s[1024]; };

/* What acts on a terminal or cannot be seen becomes \x1b, \u202e and so on; a longer name ends in
 * "...". NULL is "". */
struct shown show(const char *name);

#endif
