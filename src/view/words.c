/*
 * words.c - the token ids that each expert is most the expert of.
 *
 * Of the ids that occur at least LEAST times, those that raise an expert's share of the picks most:
 * ranked by n(x,e) * ln [P(e|x) / P(e)], picks of the expert for the id times what one pick tells.
 * An id that does not raise it (P(e|x) <= P(e)) is not listed. Memory: one count per kept id and
 * expert of the layer, layer after layer, so that a large model takes no more than a small one.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trace/scan.h"
#include "view/decisions.h"
#include "view/table.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))
#define CELLS ((size_t)24 << 20) /* counts held at a time */
enum { LEAST = 8, MOST_ID = 1 << 20 };

static const struct view_col cols[] = {
	VIEW_HEAD, { "layer", "layer", VIEW_INT, 0 }, { "expert", "expert", VIEW_INT, 0 },
	{ "rank", NULL, VIEW_INT, 0 }, { "token", "token id", VIEW_INT, 0 },
	{ "text", "token", VIEW_TEXT, 0 }, { "seen", "occurs", VIEW_INT, 0 },
	{ "count", "picks", VIEW_INT, 0 }, { "p_expert_given_token", "P(expert|token)", VIEW_REAL, 3 },
	{ "p_expert", "P(expert)", VIEW_REAL, 3 },
};

struct words {
	size_t n_id, n_kept;
	uint32_t *seen;            /* [n_id] */
	int32_t *slot, *id;        /* [n_id] -1 = not kept; [n_kept] */
	size_t layer0, n_layer;    /* layers of this pass: indices */
	size_t *at, width;         /* [n_layer + 1] of all layers: where a layer's experts start */
	uint32_t *count;           /* [n_kept][width] */
};

static int tally(void *ctx, struct scan_chunk *c)
{
	struct words *w = ctx;

	for (uint32_t t = 0; t < c->n; t++)
		if (c->tokens[t] >= 0 && (size_t)c->tokens[t] < w->n_id)
			w->seen[c->tokens[t]]++;
	return 0;
}

static void block(void *ctx, const struct scan_block *b)
{
	struct words *w = ctx;

	if (b->li < w->layer0 || b->li >= w->layer0 + w->n_layer)
		return;
	for (uint32_t t = 0; t < b->chunk->n; t++) {
		int32_t x = b->chunk->tokens[t];
		size_t row;

		if (b->flags && (b->flags[t] & MOE_EV_NAN))
			continue;
		if (x < 0 || (size_t)x >= w->n_id || w->slot[x] < 0)
			continue;
		row = (size_t)w->slot[x] * w->width + w->at[b->li] - w->at[w->layer0];
		for (unsigned i = 0; i < b->layer.k; i++)
			w->count[row + b->experts[t * b->layer.k + i]]++;
	}
}

/* The ids that are kept: all that occur often enough, or the first of these if there are very
 * many. */
static int choose(struct words *w, size_t most, struct moe_err *e)
{
	w->slot = malloc((w->n_id + 1) * sizeof *w->slot);
	w->id = malloc((w->n_id + 1) * sizeof *w->id);
	if (!w->slot || !w->id)
		return err_nomem(e, w->n_id * 8, "token ids");
	for (size_t x = 0; x < w->n_id; x++) {
		w->slot[x] = -1;
		if (w->seen[x] >= LEAST && w->n_kept < most) {
			w->id[w->n_kept] = (int32_t)x;
			w->slot[x] = (int32_t)w->n_kept++;
		}
	}
	return 0;
}

struct best { double gain; size_t i; };

static int write_expert(struct reader *r, const struct load_filter *f, const char *domain,
	const struct run_info *u, const struct words *w, const struct view_layer *l, size_t li,
	unsigned x, unsigned top, struct view_table *out, struct moe_err *e)
{
	double p = l->tokens ? (double)l->counts[x] / (double)l->tokens : 0;
	struct best best[16];
	unsigned n = 0;

	top = top < 16 ? top : 16;
	for (size_t i = 0; i < w->n_kept; i++) {
		uint32_t c = w->count[i * w->width + w->at[li] - w->at[w->layer0] + x];
		double q = (double)c / w->seen[w->id[i]], gain = c && p > 0 ? c * log(q / p) : 0;
		unsigned k;

		if (!(gain > 0) || (n == top && gain <= best[n - 1].gain))
			continue;
		k = n < top ? n++ : n - 1;
		for (; k > 0 && best[k - 1].gain < gain; k--)
			best[k] = best[k - 1];
		best[k] = (struct best){ gain, i };
	}
	for (unsigned k = 0; k < n; k++) {
		struct view_cell *c = view_table_row(out, e);
		int32_t id = w->id[best[k].i];
		uint32_t got = w->count[best[k].i * w->width + w->at[li] - w->at[w->layer0] + x];
		char text[64];
		int len;

		if (!c || view_table_head(c, u->id, domain, f->phase, e) ||
		    reader_token(r, u->model, id, text, sizeof text - 1, &len, e))
			return -1;
		c += VIEW_N_HEAD;
		if (len >= 0) { /* bytes that hold a NUL end there */
			text[len] = 0;
			if (view_set_text(c + 4, text, e))
				return -1;
		}
		view_set_int(c, l->layer);
		view_set_int(c + 1, x);
		view_set_int(c + 2, k + 1);
		view_set_int(c + 3, id);
		view_set_int(c + 5, w->seen[id]);
		view_set_int(c + 6, got);
		view_set_real(c + 7, (double)got / w->seen[id]);
		view_set_real(c + 8, p);
	}
	return 0;
}

/* Count ids, and where each layer's experts begin. */
static int words_open(struct words *w, const struct run_info *u, struct moe_err *e)
{
	w->n_id = u->n_vocab && u->n_vocab < MOST_ID ? u->n_vocab : MOST_ID;
	w->seen = calloc(w->n_id, sizeof *w->seen);
	w->at = calloc(u->n_moe_layer + 1, sizeof *w->at);
	if (!w->seen || !w->at)
		return err_nomem(e, w->n_id * sizeof *w->seen, "token ids");
	for (uint32_t i = 0; i < u->n_moe_layer; i++)
		w->at[i + 1] = w->at[i] + u->layers[i].n_expert;
	return 0;
}

static void words_close(struct words *w)
{
	free(w->seen);
	free(w->slot);
	free(w->id);
	free(w->at);
	free(w->count);
}

/* Picks of the kept ids in as many layers from layer0 on, of n, as fit: n_layer of them. */
static int words_pass(struct words *w, struct reader *r, const struct load_filter *f, size_t n,
	struct moe_err *e)
{
	struct scan_calls calls = { .ctx = w, .block = block };

	for (w->n_layer = 1; w->layer0 + w->n_layer < n; w->n_layer++)
		if ((w->at[w->layer0 + w->n_layer + 1] - w->at[w->layer0]) * w->n_kept > CELLS)
			break;
	w->width = w->at[w->layer0 + w->n_layer] - w->at[w->layer0];
	free(w->count);
	w->count = calloc(w->n_kept * w->width, sizeof *w->count);
	if (!w->count)
		return err_nomem(e, w->n_kept * w->width * sizeof *w->count, "picks by token id");
	return scan_run(r, f, 0, &calls, e);
}

int view_words(struct reader *r, const struct load_filter *f, unsigned top, unsigned layers,
	struct view_table *out, struct moe_err *e)
{
	struct words w = { 0 };
	struct scan_calls calls = { .ctx = &w, .chunk = tally };
	struct run_info *u = NULL;
	struct view_layers l = { 0 };
	const char *domain;
	char name[64];
	size_t widest = 1, n;
	int status;

	view_table_init(out, cols, N_COLS(cols));
	status = view_decisions_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (status <= 0)
		goto out;
	status = -1;
	for (uint32_t i = 0; i < u->n_moe_layer; i++)
		widest = u->layers[i].n_expert > widest ? u->layers[i].n_expert : widest;
	if (words_open(&w, u, e) || view_layers(r, f, &l, e) || scan_run(r, f, 0, &calls, e) ||
	    choose(&w, CELLS / widest, e))
		goto out;
	n = layers && layers < u->n_moe_layer ? layers : u->n_moe_layer;
	domain = view_domain_name(r, f, name, sizeof name);
	for (; w.layer0 < n && w.n_kept; w.layer0 += w.n_layer) {
		if (words_pass(&w, r, f, n, e))
			goto out;
		for (size_t li = w.layer0; li < w.layer0 + w.n_layer; li++)
			for (unsigned x = 0; x < l.layer[li].n_expert; x++)
				if (write_expert(r, f, domain, u, &w, &l.layer[li], li, x, top, out, e))
					goto out;
	}
	if (!w.n_kept)
		snprintf(out->why, sizeof out->why, "no token id occurs %d times in this selection", LEAST);
	status = 0;
out:
	words_close(&w);
	view_layers_free(&l);
	free(u);
	if (status)
		view_table_free(out);
	return status;
}
