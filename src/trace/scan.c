/*
 * scan.c - see scan.h.
 *
 * The owner's thread reads the rows of SCAN_GROUP chunks, then all threads unpack and hand out
 * their blocks, a layer each: a layer's blocks of a group are one unit of work, so their order
 * holds.
 */
#include "trace/scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pool.h"
#include "trace/pack.h"
#include "trace/steps.h"

/* The columns that are read, and the row of one chunk, copied as it lies in the file. */
enum blob { TOKENS, EXPERTS, FLAGS, WEIGHTS, MARGINS, LOGITS, N_BLOB };

static const struct { const char *name; unsigned want; int may_lack; } blobs[N_BLOB] = {
	[TOKENS] = { "tokens", 0, 0 }, [EXPERTS] = { "experts", 0, 0 }, [FLAGS] = { "flags", 0, 1 },
	[WEIGHTS] = { "weights", SCAN_WEIGHTS, 1 }, [MARGINS] = { "margins", SCAN_MARGINS, 1 },
	[LOGITS] = { "logits", SCAN_LOGITS, 1 },
};

struct slot {
	struct scan_chunk chunk;
	int64_t codec;
	unsigned char *blob[N_BLOB]; /* NULL = absent */
	unsigned char *mem[N_BLOB];
	size_t size[N_BLOB], len[N_BLOB];
};

/* What a worker unpacks into. */
struct room {
	uint16_t *ids, *next;   /* [LAYOUT_CHUNK * largest k] */
	uint8_t flags[2][LAYOUT_CHUNK];
	float *weights, *logits; /* [LAYOUT_CHUNK * largest k], [LAYOUT_CHUNK * most experts], or
	                            NULL */
	float margins[LAYOUT_CHUNK];
};

/* The first damage that a layer's unit met; what: N_BLOB = none. li: the layer that is damaged,
 * which may be the next one. */
struct damage { enum blob what; size_t slot, li, token, expert; };

struct scan {
	struct steps s;
	unsigned want;
	const struct scan_calls *calls; /* NULL = by hand */
	struct slot slot[SCAN_GROUP];
	size_t n;               /* filled slots */
	int workers;
	struct room *room;      /* [workers] */
	struct damage *bad;     /* [layers] */
};

/* ---- reading ---- */

/* Bytes that a blob must have; 0 = only its unpacker can tell. */
static size_t want_bytes(const struct scan *x, enum blob which, size_t n)
{
	const struct layout *l = &x->s.lay;
	int packed = x->s.codec > 1;

	switch (which) {
	case TOKENS: return n * sizeof(int32_t);
	case EXPERTS: return packed ? pack_experts_bytes(l, n) : n * l->k_row * 2;
	case WEIGHTS: return packed ? 0 : n * l->k_row * sizeof(float);
	case MARGINS: return packed ? 0 : n * l->n * sizeof(float);
	case LOGITS: return n * l->e_row * sizeof(float);
	default: return n * l->n;
	}
}

static int take_blob(struct scan *x, struct slot *s, enum blob which, struct moe_err *e)
{
	sqlite3_stmt *st = x->s.st;
	int col = STEPS_COLUMN + (int)which;
	const void *p;
	size_t have, want = want_bytes(x, which, s->chunk.n);

	s->blob[which] = NULL;
	s->len[which] = 0;
	if ((blobs[which].want & x->want) != blobs[which].want)
		return 0;
	if (blobs[which].may_lack && sqlite3_column_type(st, col) == SQLITE_NULL)
		return 0;
	p = sqlite3_column_blob(st, col);
	have = (size_t)sqlite3_column_bytes(st, col);
	if (!p || (want && have != want))
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: %s has %zu bytes, %u tokens take %zu",
			(long long)s->chunk.id, blobs[which].name, have, s->chunk.n, want);
	if (have > s->size[which]) {
		free(s->mem[which]);
		s->size[which] = 0;
		s->mem[which] = malloc(have);
		if (!s->mem[which])
			return err_nomem(e, have, "a chunk");
		s->size[which] = have;
	}
	s->blob[which] = memcpy(s->mem[which], p, have);
	s->len[which] = have;
	return 0;
}

static int take(void *ctx, struct moe_err *e)
{
	struct scan *x = ctx;
	const struct steps *s = &x->s;
	struct slot *slot = &x->slot[x->n];

	slot->codec = s->codec;
	slot->chunk = (struct scan_chunk){ .id = s->id, .sequence = s->sequence, .domain = s->domain,
		.document = s->document, .seq = (uint64_t)s->seq, .pos = (uint32_t)s->pos,
		.n = (uint32_t)s->n, .phase = s->phase };
	if (take_blob(x, slot, TOKENS, e))
		return -1;
	slot->chunk.tokens = (const int32_t *)(const void *)slot->blob[TOKENS];
	if (x->calls && ((x->calls->chunk && !x->calls->chunk(x->calls->ctx, &slot->chunk)) ||
	    (!x->calls->block && !x->calls->end)))
		return 0;
	for (int b = EXPERTS; b < N_BLOB; b++)
		if (take_blob(x, slot, (enum blob)b, e))
			return -1;
	x->n++;
	return 0;
}

int scan_fill(struct scan *x, struct moe_err *e)
{
	int got = 1;

	x->n = 0;
	while (x->n < SCAN_GROUP && got > 0)
		got = steps_next(&x->s, take, x, e);
	return got < 0 ? -1 : x->n > 0;
}

size_t scan_n(const struct scan *x)
{
	return x->n;
}

const struct scan_chunk *scan_at(const struct scan *x, size_t i)
{
	return &x->slot[i].chunk;
}

/* ---- unpacking ---- */

/* One layer of a chunk: ids [n][k]. */
static void layer_ids(const struct layout *l, const struct slot *s, size_t li, uint16_t *ids)
{
	const unsigned char *in = s->blob[EXPERTS];
	size_t n = s->chunk.n, k = l->layer[li].k, len;

	if (s->codec == 1) {
		for (size_t t = 0; t < n; t++)
			memcpy(ids + t * k, in + (t * l->k_row + l->k_at[li]) * 2, k * 2);
		return;
	}
	for (size_t i = 0; i < li; i++)
		in += pack_layer_bytes(l, i, n);
	len = pack_layer_bytes(l, li, n);
	unpack_ids(in, len, pack_bits(l->layer[li].n_expert), n * k, ids);
}

/* One layer's flags; NULL where there are none. */
static const uint8_t *layer_flags(const struct layout *l, const struct slot *s, size_t li,
	uint8_t *room)
{
	if (!s->blob[FLAGS])
		return NULL;
	if (s->codec > 1)
		return s->blob[FLAGS] + li * s->chunk.n;
	for (size_t t = 0; t < s->chunk.n; t++)
		room[t] = s->blob[FLAGS][t * l->n + li];
	return room;
}

/* Ids are indices for whoever reads them. */
static int ids_good(struct scan *x, size_t slot, size_t li, const uint16_t *ids, struct damage *bad)
{
	const struct moe_layer_desc *d = &x->s.lay.layer[li];
	size_t n = x->slot[slot].chunk.n;
	unsigned most = 0;

	if (x->slot[slot].codec > 1 && d->n_expert == 1u << pack_bits(d->n_expert))
		return 1; /* no pattern is beyond */
	for (size_t i = 0; i < n * d->k; i++)
		most = ids[i] > most ? ids[i] : most;
	if (most < d->n_expert)
		return 1;
	for (size_t i = 0; i < n * d->k && bad->what == N_BLOB; i++)
		if (ids[i] >= d->n_expert)
			*bad = (struct damage){ EXPERTS, slot, li, i / d->k, ids[i] };
	return 0;
}

/* Columns of floats of codec 1, or of logits: `width` of each token's row. */
static void columns(const unsigned char *in, size_t n, size_t row, size_t at, size_t width,
	float *out)
{
	for (size_t t = 0; t < n; t++)
		memcpy(out + t * width, in + (t * row + at) * sizeof *out, width * sizeof *out);
}

/* Weights, margins, logits as asked for. Returns what is damaged, N_BLOB = nothing. */
static enum blob layer_floats(const struct scan *x, const struct slot *s, size_t li, struct room *m,
	struct scan_block *b)
{
	const struct layout *l = &x->s.lay;
	size_t n = s->chunk.n, k = l->layer[li].k;

	if (s->blob[WEIGHTS] && s->codec == 1)
		columns(s->blob[WEIGHTS], n, l->k_row, l->k_at[li], k, m->weights);
	else if (s->blob[WEIGHTS] && unpack_weights_layer(l, li, n, s->blob[WEIGHTS], s->len[WEIGHTS],
		m->weights))
		return WEIGHTS;
	if (s->blob[MARGINS] && s->codec == 1)
		columns(s->blob[MARGINS], n, l->n, li, 1, m->margins);
	else if (s->blob[MARGINS] && unpack_margins_layer(l, li, n, s->blob[MARGINS], s->len[MARGINS],
		m->margins))
		return MARGINS;
	if (s->blob[LOGITS])
		columns(s->blob[LOGITS], n, l->e_row, l->e_at[li], l->layer[li].n_expert, m->logits);
	b->weights = s->blob[WEIGHTS] ? m->weights : NULL;
	b->margins = s->blob[MARGINS] ? m->margins : NULL;
	b->logits = s->blob[LOGITS] ? m->logits : NULL;
	return N_BLOB;
}

int scan_unpack(struct scan *x, size_t i, size_t li, int worker, struct scan_block *out)
{
	const struct layout *l = &x->s.lay;
	struct damage *bad = &x->bad[li];
	struct slot *s = &x->slot[i];
	struct room *m = &x->room[worker];
	enum blob what;

	if (bad->what != N_BLOB)
		return -1;
	*out = (struct scan_block){ .chunk = &s->chunk, .li = li, .layer = l->layer[li],
		.experts = m->ids, .flags = layer_flags(l, s, li, m->flags[0]), .worker = worker };
	layer_ids(l, s, li, m->ids);
	if (!ids_good(x, i, li, m->ids, bad))
		return -1;
	what = layer_floats(x, s, li, m, out);
	if (what != N_BLOB) {
		*bad = (struct damage){ .what = what, .slot = i, .li = li };
		return -1;
	}
	if (x->want & SCAN_NEXT && li + 1 < l->n) {
		layer_ids(l, s, li + 1, m->next);
		if (!ids_good(x, i, li + 1, m->next, bad))
			return -1;
		out->next = m->next;
		out->next_flags = layer_flags(l, s, li + 1, m->flags[1]);
	}
	return 0;
}

int scan_bad(const struct scan *x, struct moe_err *e)
{
	for (size_t li = 0; li < x->s.lay.n; li++) {
		const struct damage *d = &x->bad[li];
		const struct moe_layer_desc *y = &x->s.lay.layer[d->li];
		const struct slot *s = &x->slot[d->slot];

		if (d->what == EXPERTS)
			return err_set(e, MOE_ERR_INPUT, "chunk %lld: token %zu, layer %d is sent to expert "
				"%zu of %d", (long long)s->chunk.id, d->token, y->layer, d->expert, y->n_expert);
		if (d->what != N_BLOB)
			return err_set(e, MOE_ERR_INPUT, "chunk %lld: %s has %zu bytes that are not the packed "
				"numbers of %u tokens", (long long)s->chunk.id, blobs[d->what].name,
				s->len[d->what], s->chunk.n);
	}
	return 0;
}

/* ---- opening and closing ---- */

static int rooms(struct scan *x, struct moe_err *e)
{
	size_t k = 0, n_expert = 0;

	for (size_t i = 0; i < x->s.lay.n; i++) {
		const struct moe_layer_desc *d = &x->s.lay.layer[i];

		k = d->k > k ? d->k : k;
		n_expert = d->n_expert > n_expert ? d->n_expert : n_expert;
	}
	x->bad = calloc(x->s.lay.n, sizeof *x->bad);
	x->room = calloc((size_t)x->workers, sizeof *x->room);
	if (!x->bad || !x->room)
		return err_nomem(e, x->s.lay.n * sizeof *x->bad, "a scan");
	for (size_t i = 0; i < x->s.lay.n; i++)
		x->bad[i].what = N_BLOB;
	for (int i = 0; i < x->workers; i++) {
		struct room *m = &x->room[i];

		m->ids = malloc(LAYOUT_CHUNK * k * sizeof *m->ids);
		m->next = malloc(LAYOUT_CHUNK * k * sizeof *m->next);
		m->weights = malloc(LAYOUT_CHUNK * k * sizeof *m->weights);
		m->logits = x->want & SCAN_LOGITS ? malloc(LAYOUT_CHUNK * n_expert * sizeof *m->logits) :
			NULL;
		if (!m->ids || !m->next || !m->weights || (x->want & SCAN_LOGITS && !m->logits))
			return err_nomem(e, LAYOUT_CHUNK * (k * 8 + n_expert * 4), "a scan");
	}
	return 0;
}

struct scan *scan_open(struct reader *r, const struct load_filter *f, unsigned want, int workers,
	struct moe_err *e)
{
	struct scan *x = calloc(1, sizeof *x);
	char names[96] = "";
	size_t len = 0;

	if (!x) {
		err_nomem(e, sizeof *x, "a scan");
		return NULL;
	}
	x->want = want;
	x->workers = workers;
	for (int b = 0; b < N_BLOB; b++)
		len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", b ? ", " : "",
			(blobs[b].want & want) == blobs[b].want ? blobs[b].name : "0");
	if (!steps_open(&x->s, r, f, names, e) && !rooms(x, e))
		return x;
	scan_close(x);
	return NULL;
}

void scan_close(struct scan *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < SCAN_GROUP; i++)
		for (int b = 0; b < N_BLOB; b++)
			free(x->slot[i].mem[b]);
	for (int i = 0; x->room && i < x->workers; i++) {
		free(x->room[i].ids);
		free(x->room[i].next);
		free(x->room[i].weights);
		free(x->room[i].logits);
	}
	free(x->room);
	free(x->bad);
	steps_close(&x->s);
	free(x);
}

/* ---- all of it ---- */

/* Units of work: one layer of all chunks of the group; one layer's end. */
static void work(void *ctx, size_t li, int worker)
{
	struct scan *x = ctx;
	struct scan_block b;

	for (size_t i = 0; i < x->n && x->calls->block; i++)
		if (!scan_unpack(x, i, li, worker, &b))
			x->calls->block(x->calls->ctx, &b);
}

static void finish(void *ctx, size_t li, int worker)
{
	struct scan *x = ctx;

	x->calls->end(x->calls->ctx, li, worker);
}

int scan_threads(int n)
{
	n = n > 0 ? n : pool_default_threads();
	return n > SCAN_THREADS_MOST ? SCAN_THREADS_MOST : n;
}

int scan_run(struct reader *r, const struct load_filter *f, int n_threads,
	const struct scan_calls *calls, struct moe_err *e)
{
	int workers = scan_threads(n_threads), got = -1;
	struct scan *x = scan_open(r, f, calls->want, workers, e);
	struct pool *pool = x ? pool_new(workers, e) : NULL;

	if (!pool)
		goto out;
	x->calls = calls;
	while ((got = scan_fill(x, e)) > 0) {
		pool_run(pool, work, x, x->s.lay.n);
		if (scan_bad(x, e)) {
			got = -1;
			break;
		}
	}
	if (!got && calls->end)
		pool_run(pool, finish, x, x->s.lay.n);
out:
	pool_free(pool);
	scan_close(x);
	return got < 0 ? -1 : 0;
}
