/*
 * panel.h - the screens of the dashboard: one file and one const struct each, one table in panel.c.
 *
 * To add a screen: write tui/NAME.c exporting `const struct tui_panel tui_panel_NAME`, and add a
 * row to the table in panel.c; its number key, tab, hints and help follow from it. A panel draws
 * from snapshots into a grid and answers keys; it never touches the database or the terminal.
 */
#ifndef TUI_PANEL_H
#define TUI_PANEL_H

#include "tui/data.h"
#include "tui/grid.h"

/* Keys: characters as themselves, the rest from here. */
enum tui_key {
	TUI_KEY_NONE = 0,
	TUI_KEY_UP = 0x110000, TUI_KEY_DOWN, TUI_KEY_LEFT, TUI_KEY_RIGHT, TUI_KEY_HOME, TUI_KEY_END,
	TUI_KEY_PGUP, TUI_KEY_PGDN, TUI_KEY_TAB, TUI_KEY_BACKTAB, TUI_KEY_ENTER, TUI_KEY_ESC,
	TUI_KEY_F1, TUI_KEY_F10
};

#define TUI_MAX_PANEL 16

/* What the user does with the screen; owned by the thread that draws. The cursors are shared: what
 * is chosen on one screen is what the next one opens with. */
struct tui_state {
	const char *path;      /* the database, for messages */
	int screen;            /* index in the panel table */
	int help, paused, quit;
	int window;            /* index in tui_windows */
	struct tui_want want;
	size_t layer, expert, domain, alarm; /* cursors; kept in range by tui_render */
	int mem[TUI_MAX_PANEL][4]; /* what a panel wants to remember; zero at first */
	int64_t now;           /* ns since 1970 */
	int spec_busy;         /* the specialisation is being computed */
	char verdict[1024];
	char message[512];     /* "" or what went wrong, or what is being waited for */
};

/* One frame. d, alarms and spec may be NULL: not read yet. */
struct tui_ctx {
	struct tui_grid *g;
	struct tui_state *s;
	const struct tui_data *d;
	const struct view_alarms *alarms;
	const struct tui_spec *spec;
};

struct tui_hint { const char *key, *what; };
struct tui_panel {
	const char *name;       /* on its tab */
	const char *question;   /* that it answers; for help */
	int min_w, min_h;       /* of the terminal */
	int empty;              /* 1: also drawn when the selection holds no decision */
	struct tui_hint hints[5]; /* its own keys, for the last line; ends with an empty row */
	void (*draw)(struct tui_ctx *c, struct tui_rect r, int *mem); /* d is there */
	int (*key)(struct tui_ctx *c, int key, int *mem); /* 1 = understood; may be NULL */
};
extern const struct tui_panel *const tui_panels[]; /* ends with NULL */

struct tui_window { const char *name; int64_t ns; };
extern const struct tui_window tui_windows[]; /* ends with an empty row */

/* Draw everything. Pure but for the cursors and mem in c->s. */
void tui_render(struct tui_ctx *c);
/* A key from the user. Returns 1 if c->s->want changed. */
int tui_key(struct tui_ctx *c, int key);

/* ---- shared by panels ---- */

/* Text over the whole rectangle, centred; for "nothing here, because". */
void tui_say(struct tui_grid *g, struct tui_rect r, enum tui_style style, const char *text);
/* A cursor moved by an arrow, hjkl, page or end key along n items: 1 if the key was one of them.
 * Without `x` the horizontal keys are not taken, without `y` the vertical ones are not. */
int tui_move(int key, size_t *x, size_t nx, size_t *y, size_t ny, size_t page);
/* Style and sign of a severity. */
enum tui_style tui_severity(enum view_severity s, uint32_t *sign);
/* Draw one alarm: its text and when and by how much; returns the lines used. */
int tui_alarm(struct tui_ctx *c, struct tui_rect r, const struct view_alarm *a);
void tui_help(struct tui_ctx *c);

/* The layer x expert map (map.c). */
struct tui_map {
	const size_t *row;  /* [n_row] indexes into layers */
	size_t n_row;
	int first_col;      /* first column shown */
	int tall;           /* lines per layer, from tui_map_tall() */
	int cursor;         /* draw the cursor at (s->layer, s->expert) */
};
struct tui_mapfit;
void tui_map_draw(struct tui_ctx *c, struct tui_rect r, const struct tui_mapfit *fit,
	const struct tui_map *m);
/* Lines that a layer can have so that n_row of them fit in h: colour fills more than one. */
int tui_map_tall(const struct tui_grid *g, int h, size_t n_row);
/* The colour scale in one line; returns the columns used, 0 if it does not fit. */
int tui_map_scale(struct tui_grid *g, int x, int y, int w);
/* Largest n_expert of the layers. */
int tui_map_experts(const struct view_layers *l);

#endif
