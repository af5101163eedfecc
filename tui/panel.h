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
#include "tui/palette.h"
#include "tui/snap.h"

/* Keys: characters as themselves, the rest from here. */
enum tui_key {
	TUI_KEY_NONE = 0,
	TUI_KEY_UP = 0x110000, TUI_KEY_DOWN, TUI_KEY_LEFT, TUI_KEY_RIGHT, TUI_KEY_HOME, TUI_KEY_END,
	TUI_KEY_PGUP, TUI_KEY_PGDN, TUI_KEY_TAB, TUI_KEY_BACKTAB, TUI_KEY_ENTER, TUI_KEY_ESC,
	TUI_KEY_F1, TUI_KEY_F2, TUI_KEY_F3, TUI_KEY_F4, TUI_KEY_F5, TUI_KEY_F6, TUI_KEY_F7, TUI_KEY_F8,
	TUI_KEY_F9, TUI_KEY_F10,
	TUI_KEY_CLICK, TUI_KEY_WHEEL_UP, TUI_KEY_WHEEL_DOWN, /* at the mouse's place in the state */
	TUI_KEY_BACKSPACE
};

#define TUI_MAX_PANEL 16
/* In the order of the table in panel.c. */
enum tui_screen { TUI_SCREEN_OVERVIEW, TUI_SCREEN_HEATMAP, TUI_SCREEN_LAYER, TUI_SCREEN_EXPERT,
	TUI_SCREEN_DOMAINS, TUI_SCREEN_STREAM, TUI_SCREEN_WHATIF, TUI_SCREEN_ALARMS };

/* What a click on a rectangle of the last frame does: the panels leave these while they draw. */
enum tui_hit_kind { TUI_HIT_SCREEN, TUI_HIT_KEY, TUI_HIT_CELL, TUI_HIT_DOMAIN, TUI_HIT_ALARM,
	TUI_HIT_SLOT };
struct tui_hit {
	struct tui_rect r;
	enum tui_hit_kind kind;
	size_t a, b;           /* screen; key; layer, expert; domain; alarm; first slot */
	int cell, group;       /* b (slot: a) grows by `group` every `cell` columns; 0 = it does not */
};
enum { TUI_HITS = 640 };

/* What the user does with the screen; owned by the thread that draws. The cursors are shared: what
 * is chosen on one screen is what the next one opens with. */
struct tui_state {
	const char *path;      /* the database, for messages */
	const char *base_path; /* the file of the baseline, or NULL: the same */
	int screen;            /* index in the panel table */
	int help, paused, quit;
	int window;            /* index in tui_windows */
	struct tui_want want;
	size_t layer, expert, domain, alarm; /* cursors; kept in range by tui_render */
	int chosen;            /* the user has moved to a layer or an expert */
	int64_t base;          /* the baseline that b switches on and off; 0 = none was named */
	int64_t sequence, pos; /* that the stream shows: 0, -1 = the newest, its end; see
	                          want.sequence */
	unsigned asks;         /* 1 << enum tui_part: what the last frame would have liked to show */
	int timing, playing;   /* on the timeline; moving along it */
	size_t slot;           /* there */
	int finding;           /* the search line is open */
	char find[64];
	int save;              /* asked for: 's' text, 'S' CSV, 'P' picture */
	int palette, light;    /* enum tui_palette; for a light background */
	int repaint;           /* they were changed */
	int again;             /* asked for: compute again, whatever the budget */
	char note[256];        /* for the last line until the next key */
	int mouse_x, mouse_y;
	struct tui_hit hit[TUI_HITS];
	size_t n_hit;
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
	const struct view_alarms *base_alarms; /* of the baseline, or NULL */
	const struct tui_spec *spec;
	const struct tui_snap *snap[TUI_N_PART]; /* newest, or NULL; see tui_part() */
};

enum tui_filter { TUI_BY_WINDOW = 1, TUI_BY_DOMAIN = 2, TUI_BY_PHASE = 4, TUI_BY_REQUEST = 8,
	TUI_BY_ALL = 15 };

struct tui_hint { const char *key, *what; };
struct tui_panel {
	const char *name;       /* on its tab */
	const char *question;   /* that it answers; for help */
	int min_w, min_h;       /* of the terminal */
	int empty;              /* 1: also drawn when the selection holds no decision */
	unsigned applies;       /* which filters it follows: enum tui_filter; */
	const char *instead;    /* what it shows where it does not */
	struct tui_hint hints[6]; /* its own keys, for the last line; ends with an empty row */
	void (*draw)(struct tui_ctx *c, struct tui_rect r, int *mem); /* d is there */
	int (*key)(struct tui_ctx *c, int key, int *mem); /* 1 = understood; may be NULL */
	/* What it shows as a table, for CSV; may be NULL. The caller frees the table. */
	int (*table)(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e);
};
extern const struct tui_panel *const tui_panels[]; /* ends with NULL */

struct tui_window { const char *name; int64_t ns; };
extern const struct tui_window tui_windows[]; /* ends with an empty row */

/* Draw everything. Pure but for the cursors and mem in c->s. */
void tui_render(struct tui_ctx *c);
/* A key from the user. Returns 1 if c->s->want changed. */
int tui_key(struct tui_ctx *c, int key);

/* Half a second has passed: 1 if c->s->want changed (playing). */
int tui_tick(struct tui_ctx *c);
/* The key of what this screen shows, for tui_feed_ask. */
struct tui_ask tui_asking(const struct tui_ctx *c);

/* ---- shared by panels ---- */

/* The part's snapshot if it answers what the screen shows now, else NULL (and it is asked for).
 * With `any` also one of another key of the same run: older figures are better than none. */
const struct tui_snap *tui_part(struct tui_ctx *c, enum tui_part part, int any);
void tui_hit(struct tui_ctx *c, const struct tui_hit *h);
/* Look for c->s->find: "L3 E7", a domain or an alarm; moves the cursors. 1 = found. */
int tui_find(struct tui_ctx *c);
/* The timeline bar (time.c): drawing, keys; 1 = key understood. */
void tui_time_draw(struct tui_ctx *c, struct tui_rect r);
int tui_time_key(struct tui_ctx *c, int key);
void tui_time_go(struct tui_ctx *c, size_t slot);
/* Write the view of grid c->g, or its table, to a new file of a name of its own in the working
 * folder; *note says which. */
int tui_save(struct tui_ctx *c, int kind, char *note, size_t size);

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
/* Domains in an order of domains.c: [n_domain], the caller frees; layer: of
 * the cursor, index into sp->layer. */
enum { TUI_CLEAREST = 1 }; /* the clearest claim first */
size_t *tui_domain_order(const struct view_spec *sp, int sort, size_t layer);
/* The experts of the chosen layer, on other screens than that of all layers, as a table. */
int tui_table_experts(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e);

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
/* The colour scale in one line, of fair shares or with `base` of the baseline; returns the columns
 * used, 0 if it does not fit. */
int tui_map_scale(struct tui_grid *g, int x, int y, int w, int base);
/* Largest n_expert of the layers. */
int tui_map_experts(const struct view_layers *l);

#endif
