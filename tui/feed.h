/*
 * feed.h - the snapshots that the dashboard shows, read in the background.
 *
 * A thread with its own reader for each of: figures, alarms, specialisation, and what single
 * screens ask for (snap.h), which sleep until they are asked. Each looks twice a
 * second whether the database or the selection changed. What the user asks for is read at once; for
 * following a live run each has a budget of CPU time (feed.c), all together below a hundredth of a
 * core, and what is dearer than its budget comes less often. The
 * thread that draws never waits for the database. Functions here are called by that thread.
 */
#ifndef TUI_FEED_H
#define TUI_FEED_H

#include "tui/snap.h"

struct tui_feed;

/* A byte is written to wake_fd whenever there is something to take. With `wait` a missing file is
 * waited for, and a run newer than `after`. base_path: another file that the baseline is in, or
 * NULL. Both must live as long as the feed. */
struct tui_feed *tui_feed_start(const char *path, const char *base_path, int wait, int64_t after,
	const struct tui_want *want, int wake_fd, struct moe_err *e);
/* Ends the threads; one that is deep in a computation is left to end with the process. */
void tui_feed_stop(struct tui_feed *f);

void tui_feed_want(struct tui_feed *f, const struct tui_want *want);
/* Compute everything again, also what the budget would let wait. */
void tui_feed_again(struct tui_feed *f);
/* What the screen needs beyond the figures. */
void tui_feed_ask(struct tui_feed *f, const struct tui_ask *ask);

/* Newest snapshots, or NULL if nothing newer; the caller owns and frees (tui_..._free, free). */
struct tui_data *tui_feed_data(struct tui_feed *f);
struct tui_alarms *tui_feed_alarms(struct tui_feed *f);
struct tui_spec *tui_feed_spec(struct tui_feed *f);
struct tui_snap *tui_feed_snap(struct tui_feed *f, enum tui_part part); /* tui_snap_free */
/* "" or what is waited for or went wrong last; busy: the specialisation is being computed. */
void tui_feed_status(struct tui_feed *f, char *msg, size_t size, int *busy);

#endif
