/*
 * tui.h - the dashboard: `moescope top`, on a terminal or once as text or JSON.
 *
 * It only reads the database, so it works the same on a live, a finished and an imported run.
 */
#ifndef TUI_TUI_H
#define TUI_TUI_H

#include "tui/data.h"
#include "tui/style.h"

struct tui_opt {
	struct tui_want want;
	const char *base_path; /* another file that want.base is a run of, or NULL */
	int wait;    /* wait for the file to appear */
	int64_t after; /* and for a run newer than this one; 0 = show what there is */
	int no_mouse;
	int palette, light; /* enum tui_palette; colours for a light background */
	/* The inference beside the dashboard, or NULL: 0 = still running, 1 = ended well, -1 = ended
	 * badly, which closes the dashboard. Asked twice a second. */
	int (*beside)(void *ctx);
	void *ctx;
};

/* Show the dashboard until the user quits. Returns 0, -1 with the error, or the number of the
 * signal that ended it (the terminal is already restored). setlocale() has been called. */
int tui_run(const char *path, const struct tui_opt *opt, struct moe_err *e);

/* The overview as plain text of w x h, without escape sequences, to a FILE. */
int tui_once_text(const char *path, const struct tui_opt *opt, int w, int h, void *file,
	struct moe_err *e);
/* {"summary": {..}, "verdict": "..", "layers": [..], "alarms": [..], "domains": [..],
 * "domains_why": ".."}: layers and alarms are the tables of `stat`; domains has a row
 * per domain and layer. */
int tui_once_json(const char *path, const struct tui_opt *opt, void *file, struct moe_err *e);

#endif
