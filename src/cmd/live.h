/* live.h - the dashboard beside an inference (`run --live`, `profile --live`). */
#ifndef CMD_LIVE_H
#define CMD_LIVE_H

#include <moescope/err.h>

/*
 * In a child process: work(argc, argv), its output kept in temporary files. Here: the dashboard on
 * db. Ctrl-C ends both, the inference as it always ends on Ctrl-C; q closes the dashboard only, and
 * the inference is waited for. Then its output is printed. Returns the exit status of work, in the
 * parent; does not return in the child. -1 if the terminal cannot show the dashboard.
 */
int live_run(const char *db, int (*work)(int argc, char **argv, struct moe_err *e), int argc,
	char **argv, struct moe_err *e);

#endif
