/*
 * scan.c - see scan.h.
 *
 * The caller's thread reads the rows of GROUP chunks, then all threads unpack and hand out their
 * blocks, a layer each: a layer's blocks of a group are one unit of work, so their order holds.
 */
#include "trace/scan.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pool.h"
#include "trace/pack.h"
#include "trace/steps.h"

enum { GROUP = 16, THREADS_MOST = 8 };

/* The columns that are read, and the row of one chunk, copied as it lies in the file. */
enum { TOKENS, EXPERTS, FLAGS, N_BLOB };

struct slot {
	struct scan_chunk chunk;
	int64_t codec;
	unsigned char *blob[N_BLOB]; /* NULL = absent */
	unsigned char *mem[N_BLOB];
	size_t size[N_BLOB];
};

struct scan {
	struct steps s;
	const struct scan_calls *calls;
	struct slot slot[GROUP];
	size_t n;               /* filled slots */
	uint16_t **ids;         /* [threads][LAYOUT_CHUNK * largest k] */
	struct { size_t slot, token, expert; int set; } *bad; /* [layers]: the first id beyond its layer */
};

/* ---- reading ---- */

static size_t want_bytes(const struct scan *x, int which, size_t n)
{
	const struct layout *l = &x->s.lay;

	switch (which) {
	case TOKENS: return n * sizeof(int32_t);
	case EXPERTS: return x->s.codec > 1 ? pack_experts_bytes(l, n) : n * l->k_row * 2;
	default: return n * l->n;
	}
}

static int take_blob(struct scan *x, struct slot *s, int which, struct moe_err *e)
{
	static const char *const name[] = { "tokens", "experts", "flags" };
	sqlite3_stmt *st = x->s.st;
	int col = STEPS_COLUMN + which;
	const void *p = sqlite3_column_blob(st, col);
	size_t have = (size_t)sqlite3_column_bytes(st, col), want = want_bytes(x, which, s->chunk.n);

	s->blob[which] = NULL;
	if (which == FLAGS && sqlite3_column_type(st, col) == SQLITE_NULL)
		return 0;
	if (!p || have != want)
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: %s has %zu bytes, %u tokens take %zu",
			(long long)s->chunk.id, name[which], have, s->chunk.n, want);
	if (have > s->size[which]) {
		free(s->mem[which]);
		s->size[which] = 0;
		s->mem[which] = malloc(have);
		if (!s->mem[which])
			return err_nomem(e, have, "a chunk");
		s->size[which] = have;
	}
	s->blob[which] = memcpy(s->mem[which], p, have);
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
	if ((x->calls->chunk && !x->calls->chunk(x->calls->ctx, &slot->chunk)) || !x->calls->block)
		return 0;
	if (take_blob(x, slot, EXPERTS, e) || take_blob(x, slot, FLAGS, e))
		return -1;
	x->n++;
	return 0;
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
static int ids_good(struct scan *x, size_t slot, size_t li, const uint16_t *ids, size_t n)
{
	const struct moe_layer_desc *d = &x->s.lay.layer[li];
	unsigned most = 0;

	if (x->slot[slot].codec > 1 && d->n_expert == 1u << pack_bits(d->n_expert))
		return 1; /* no pattern is beyond */
	for (size_t i = 0; i < n * d->k; i++)
		most = ids[i] > most ? ids[i] : most;
	if (most < d->n_expert)
		return 1;
	for (size_t i = 0; i < n * d->k && !x->bad[li].set; i++)
		if (ids[i] >= d->n_expert) {
			x->bad[li].slot = slot, x->bad[li].token = i / d->k, x->bad[li].expert = ids[i];
			x->bad[li].set = 1;
		}
	return 0;
}

/* Unit of work: one layer of all chunks of the group. */
static void work(void *ctx, size_t li, int worker)
{
	struct scan *x = ctx;
	const struct layout *l = &x->s.lay;
	uint16_t *ids = x->ids[worker];
	uint8_t flags[LAYOUT_CHUNK];

	for (size_t i = 0; i < x->n && !x->bad[li].set; i++) {
		struct slot *s = &x->slot[i];
		struct scan_block b = { .chunk = &s->chunk, .li = li, .layer = l->layer[li], .experts = ids,
			.flags = layer_flags(l, s, li, flags) };

		layer_ids(l, s, li, ids);
		if (ids_good(x, i, li, ids, s->chunk.n))
			x->calls->block(x->calls->ctx, &b);
	}
}

static int run_group(struct scan *x, struct pool *pool, struct moe_err *e)
{
	if (!x->n)
		return 0;
	pool_run(pool, work, x, x->s.lay.n);
	for (size_t li = 0; li < x->s.lay.n; li++)
		if (x->bad[li].set)
			return err_set(e, MOE_ERR_INPUT, "chunk %lld: token %zu, layer %d is sent to expert %zu "
				"of %d", (long long)x->slot[x->bad[li].slot].chunk.id, x->bad[li].token,
				x->s.lay.layer[li].layer, x->bad[li].expert, x->s.lay.layer[li].n_expert);
	x->n = 0;
	return 0;
}

/* ---- all of it ---- */

static int scratch(struct scan *x, int n_threads, struct moe_err *e)
{
	size_t k = 0;

	for (size_t i = 0; i < x->s.lay.n; i++)
		k = x->s.lay.layer[i].k > k ? x->s.lay.layer[i].k : k;
	x->bad = calloc(x->s.lay.n, sizeof *x->bad);
	x->ids = calloc((size_t)n_threads, sizeof *x->ids);
	if (!x->bad || !x->ids)
		return err_nomem(e, x->s.lay.n * sizeof *x->bad, "a scan");
	for (int i = 0; i < n_threads; i++) {
		x->ids[i] = malloc(LAYOUT_CHUNK * k * sizeof **x->ids);
		if (!x->ids[i])
			return err_nomem(e, LAYOUT_CHUNK * k * sizeof **x->ids, "a scan");
	}
	return 0;
}

static void scan_free(struct scan *x, int n_threads)
{
	for (size_t i = 0; i < GROUP; i++)
		for (int b = 0; b < N_BLOB; b++)
			free(x->slot[i].mem[b]);
	for (int i = 0; x->ids && i < n_threads; i++)
		free(x->ids[i]);
	free(x->ids);
	free(x->bad);
	steps_close(&x->s);
	free(x);
}

int scan_run(struct reader *r, const struct load_filter *f, int n_threads,
	const struct scan_calls *calls, struct moe_err *e)
{
	struct scan *x = calloc(1, sizeof *x);
	struct pool *pool = NULL;
	int got = -1;

	if (!x)
		return err_nomem(e, sizeof *x, "a scan");
	n_threads = n_threads > 0 ? n_threads : pool_default_threads();
	n_threads = n_threads > THREADS_MOST ? THREADS_MOST : n_threads;
	x->calls = calls;
	if (steps_open(&x->s, r, f, "tokens, experts, flags", e) || scratch(x, n_threads, e))
		goto out;
	pool = pool_new(n_threads, e);
	if (!pool)
		goto out;
	while ((got = steps_next(&x->s, take, x, e)) > 0)
		if (x->n == GROUP && run_group(x, pool, e)) {
			got = -1;
			break;
		}
	if (!got && run_group(x, pool, e))
		got = -1;
out:
	pool_free(pool);
	scan_free(x, n_threads);
	return got < 0 ? -1 : 0;
}
