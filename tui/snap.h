/*
 * snap.h - what single screens ask for beyond the figures, each a snapshot with the key that it
 * answers: the timeline, one expert, one sequence, the what-if curves.
 *
 * To add one: a name in enum tui_part, a member of the union, a row in the table of snap.c.
 */
#ifndef TUI_SNAP_H
#define TUI_SNAP_H

#include "tui/data.h"
#include "view/expert.h"
#include "view/stream.h"
#include "view/timeline.h"
#include "view/whatif.h"

enum tui_part { TUI_TIMELINE, TUI_EXPERT, TUI_STREAM, TUI_WHATIF, TUI_N_PART };

/* What a snapshot answers; what its part does not look at is zero. */
struct tui_query {
	int64_t run, domain;   /* as struct tui_want, but the run is known */
	int phase;
	uint32_t layer, expert; /* indexes */
	int64_t sequence, pos; /* as view_stream */
	int64_t base;          /* as struct tui_want */
};

/* What the screen wants now. */
struct tui_ask {
	unsigned parts;        /* 1 << enum tui_part */
	struct tui_query key;    /* the run is ignored */
};

enum { TUI_SLOTS = 60, TUI_DEGREES = 5, TUI_STREAM_MOST = 4096 };
#define TUI_EXPERT_MOST UINT64_C(1000000) /* decisions of a layer that a card is made from */

/* Picks that the what-if curves are made from: a first look, and the most that a screen waits for.
 * On more, every n-th request is read, and the screen says so. */
#define TUI_WHATIF_FIRST UINT64_C(400000)
#define TUI_WHATIF_MOST UINT64_C(4000000)

/* Curves over what the sliders of the what-if screen can be set to. */
struct tui_whatif {
	uint64_t tokens, n_all;      /* read, of how many; the same = no sample */
	int64_t run;
	struct whatif_drops drops;
	struct whatif_hits hits;
	struct whatif_places places[TUI_DEGREES];
	size_t ranks[TUI_DEGREES], n_degree;
};

struct tui_snap {
	enum tui_part part;
	struct tui_query key;
	int more;              /* a better one of the same key is being made */
	int64_t cost_ns;
	char error[256];       /* "" or why there is nothing */
	union {
		struct view_timeline timeline;
		struct view_expert expert;
		struct view_stream stream;
		struct tui_whatif whatif;
	} u;
	/* The baseline's answer to the same question, where the part has one; else its reason. */
	int with_base;
	char base_why[160];
	union {
		struct view_stream stream; /* the request of the same number, the same positions */
		struct tui_whatif whatif;
	} base;
};

/* The key with what the part does not look at set to zero. */
struct tui_query tui_query_for(enum tui_part part, const struct tui_query *k);
int tui_query_same(const struct tui_query *a, const struct tui_query *b);

/* Read it; NULL only without memory. An error becomes the snapshot's `error`. first: a part that
 * takes long may take a first look and set `more`. */
struct tui_snap *tui_snap_load(struct tui_source *src, enum tui_part part,
	const struct tui_query *k, int first);
void tui_snap_free(struct tui_snap *s);

#endif
