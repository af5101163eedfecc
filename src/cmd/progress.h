/* progress.h - a progress bar on stderr; silent where stderr is not a terminal but for the end. */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include <stdint.h>

struct progress { const char *what; uint64_t total; int64_t start, last; int tty; };

void progress_start(struct progress *p, const char *what, uint64_t total);
/* done of total; note is a short word on what is being worked on.
 * Draws at most 10 times a second. */
void progress_to(struct progress *p, uint64_t done, const char *note);
void progress_end(struct progress *p, uint64_t done);
void progress_stop(struct progress *p); /* only wipes the bar */

#endif
