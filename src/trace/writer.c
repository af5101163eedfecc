/*
 * writer.c - the engine's side of the trace: the hook. See moescope/trace.h.
 *
 * Decisions arrive a layer at a time, so a chunk is staged in memory until all MoE layers of its
 * tokens are there. It is staged in a block of its own, which changes places with a free one of
 * the ring. Invariants:
 *   - rows [0, done) of a stage are complete; rows [done, head.n) belong to the batch in progress
 *     and are dropped when it breaks off;
 *   - messages (sequences, notes, pace) leave before any chunk that was staged after them, so the
 *     writer's thread meets a sequence before its decisions;
 *   - with `drop`, a full ring costs chunks, never messages: two blocks are kept for those.
 */
#include <moescope/trace.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/ring.h"
#include "trace/commit.h"
#include "trace/dbfile.h"
#include "trace/layout.h"
#include "trace/sink.h"
#include "trace/writer.h"

#define RING_BYTES ((size_t)32 << 20)
#define RING_MIN 8        /* blocks */
#define RING_MAX 1024
#define RING_KEEP 2       /* blocks that only messages may take */
#define OPEN_MAX 64       /* chunks that stay open between batches */
#define PENDING_MAX ((size_t)8 << 20)

/* A chunk that is being filled; block is a spare one of the ring. */
struct stage {
	struct block_head *block;
	uint32_t done;
	int used;
};

/* Part of a batch: tokens from..from+n of its views go to rows row.. of a stage. */
struct part { size_t stage; uint32_t from, row, n; };

struct pace { int64_t since; uint64_t tokens, busy_ns, batches; struct moe_cache_use cache; };

struct moe_trace {
	struct moe_hook hook;
	struct layout lay;
	struct block_shape shape;
	struct ring *ring;
	struct commit *commit;
	sqlite3 *db; /* the commit thread's while it runs */
	int lock, drop;
	int64_t run, flush_ns;
	struct stage *stage;
	size_t n_stage;
	struct part *part;
	size_t n_part, cap_part;
	size_t next_layer;    /* index of the layer that the batch must bring next */
	uint32_t batch_n, batch_pos;
	uint64_t batch_seq;
	uint8_t batch_phase;
	struct buf pending;   /* messages that are not in the ring yet */
	int64_t pending_since;
	struct pace pace[2];
	struct { uint64_t tokens, seq; uint32_t pos; int64_t time; } gap; /* tokens 0 = none */
	uint64_t lost;        /* tokens, in all gaps */
	char editor[64];
};

/* ---- messages ---- */

/* Did the writer's thread give up? Every entry from the engine asks first. */
static int check(struct moe_trace *t, struct moe_err *e)
{
	return commit_failed(t->commit, e) ? -1 : 0;
}

static int add_msg(struct moe_trace *t, struct msg *m, const char *a, size_t na, const char *b,
	size_t nb, struct moe_err *e)
{
	static const char zero[8];
	size_t len;

	m->len[0] = (uint32_t)na;
	m->len[1] = (uint32_t)nb;
	len = msg_bytes(m);
	if (!t->pending.len)
		t->pending_since = m->time;
	buf_add(&t->pending, m, sizeof *m);
	if (na)
		buf_add(&t->pending, a, na);
	if (nb)
		buf_add(&t->pending, b, nb);
	buf_add(&t->pending, zero, len - sizeof *m - na - nb);
	if (t->pending.failed)
		return err_nomem(e, t->pending.len + len, "messages that wait for the writer");
	return 0;
}

static int add_pace(struct moe_trace *t, struct moe_err *e)
{
	for (uint8_t p = 0; p < 2; p++) {
		struct pace *a = &t->pace[p];
		struct msg m = { .kind = MSG_PACE, .phase = p, .time = a->since, .tokens = a->tokens,
			.busy_ns = a->busy_ns, .batches = a->batches, .cache = a->cache };

		if (a->batches && add_msg(t, &m, NULL, 0, NULL, 0, e))
			return -1;
		memset(a, 0, sizeof *a);
	}
	return 0;
}

static int add_gap(struct moe_trace *t, struct moe_err *e)
{
	struct msg m = { .kind = MSG_GAP, .layer = -1, .time = t->gap.time, .seq = t->gap.seq,
		.pos = t->gap.pos, .tokens = t->gap.tokens };

	if (!t->gap.tokens)
		return 0;
	t->gap.tokens = 0;
	return add_msg(t, &m, NULL, 0, NULL, 0, e);
}

/* The next message that fits whole: bytes of `pending` from `at` that go into one block. */
static size_t fit(const struct moe_trace *t, size_t at)
{
	size_t room = t->shape.bytes - sizeof(struct block_head), n = 0, len;

	for (; at + n < t->pending.len; n += len) {
		struct msg m;

		memcpy(&m, t->pending.data + at + n, sizeof m);
		len = msg_bytes(&m);
		if (n + len > room)
			break;
	}
	return n;
}

/* Move the waiting messages into the ring: 1 = all, 0 = it is full (only without wait), -1. */
static int ship(struct moe_trace *t, int wait, struct moe_err *e)
{
	size_t at = 0, n;
	int rc = 1;

	while (rc == 1 && at < t->pending.len) {
		struct block_head *h = ring_reserve(t->ring, 0, wait);

		if (!h) {
			rc = check(t, e);
			break;
		}
		n = fit(t, at);
		memset(h, 0, sizeof *h);
		h->n = (uint32_t)n;
		h->time = t->pending_since;
		memcpy(h + 1, t->pending.data + at, n);
		ring_publish(t->ring);
		at += n;
	}
	if (at)
		memmove(t->pending.data, t->pending.data + at, t->pending.len - at);
	t->pending.len -= at;
	return rc;
}

/* Send everything that waits, pace included. With `drop` what does not fit stays, up to a bound. */
static int flush_messages(struct moe_trace *t, struct moe_err *e)
{
	int wait = !t->drop || t->pending.len > PENDING_MAX / 2;

	if (add_pace(t, e))
		return -1;
	return ship(t, wait, e) < 0 ? -1 : 0;
}

/* ---- stages ---- */

static void lose(struct moe_trace *t, const struct block_head *h)
{
	if (!t->gap.tokens) {
		t->gap.seq = h->seq;
		t->gap.pos = h->pos;
		t->gap.time = clock_mono();
	}
	t->gap.tokens += h->n;
	t->lost += h->n;
}

/* Hand a complete chunk over. */
static int push(struct moe_trace *t, struct stage *s, struct moe_err *e)
{
	struct block_head *h = s->block, *dst = NULL;
	int rc;

	s->used = 0;
	if (!h->n)
		return 0;
	rc = ship(t, !t->drop, e);
	if (rc < 0)
		return -1;
	if (rc == 1)
		dst = ring_reserve(t->ring, RING_KEEP, !t->drop);
	if (!dst) {
		if (check(t, e))
			return -1;
		lose(t, h);
		return 0;
	}
	if (t->gap.tokens) { /* the gap ends here: its record goes before this chunk */
		if (add_gap(t, e) || ship(t, 1, e) < 0)
			return -1;
		dst = ring_reserve(t->ring, 0, 1);
		if (!dst)
			return check(t, e);
	}
	s->block = ring_swap(t->ring, h);
	return 0;
}

static int push_seq(struct moe_trace *t, uint64_t seq, struct moe_err *e)
{
	for (size_t i = 0; i < t->n_stage; i++)
		if (t->stage[i].used && t->stage[i].block->seq == seq && push(t, &t->stage[i], e))
			return -1;
	return 0;
}

/* A batch broke off half way: what it staged is not whole. */
static void forget_batch(struct moe_trace *t)
{
	for (size_t i = 0; i < t->n_stage; i++)
		if (t->stage[i].used) {
			t->stage[i].block->n = t->stage[i].done;
			t->stage[i].used = t->stage[i].done > 0;
		}
	t->next_layer = t->n_part = 0;
}

/* A free stage, its index in *at. */
static int stage_new(struct moe_trace *t, size_t *at, struct moe_err *e)
{
	struct stage *s;

	for (*at = 0; *at < t->n_stage; ++*at)
		if (!t->stage[*at].used)
			return 0;
	s = realloc(t->stage, (t->n_stage + 1) * sizeof *s);
	if (!s)
		return err_nomem(e, (t->n_stage + 1) * sizeof *s, "staged chunks");
	t->stage = s;
	s += t->n_stage;
	memset(s, 0, sizeof *s);
	s->block = ring_spare(t->ring, e);
	if (!s->block)
		return err_wrap(e, "staging a chunk");
	t->n_stage++;
	return 0;
}

/* The stage that the token (seq, pos) continues or starts. */
static int stage_for(struct moe_trace *t, const struct moe_route_view *v, uint32_t i, size_t *at,
	struct moe_err *e)
{
	struct block_head *h;

	for (*at = 0; *at < t->n_stage; ++*at) {
		struct stage *s = &t->stage[*at];

		h = s->block;
		if (!s->used || h->seq != v->seq[i] || h->n == t->shape.cap)
			continue;
		if (h->phase == v->phase && h->pos + h->n == v->pos[i] && !h->has_logits == !v->logits)
			return 0;
		if (h->n == s->done && push(t, s, e))
			return -1;
	}
	if (stage_new(t, at, e))
		return -1;
	h = t->stage[*at].block;
	memset(h, 0, sizeof *h);
	h->is_chunk = 1;
	h->phase = v->phase;
	h->has_logits = v->logits != NULL;
	h->seq = v->seq[i];
	h->pos = v->pos[i];
	h->time = clock_mono();
	t->stage[*at].done = 0;
	t->stage[*at].used = 1;
	return 0;
}

/* Decide where the tokens of a batch go; its first layer is here. */
static int plan(struct moe_trace *t, const struct moe_route_view *v, struct moe_err *e)
{
	uint32_t i = 0, run;

	if (t->next_layer)
		forget_batch(t);
	t->n_part = 0;
	for (; i < v->n_tok; i += run) {
		struct block_head *h;
		struct part *p;
		size_t at;

		if (stage_for(t, v, i, &at, e))
			return -1;
		if (t->n_part == t->cap_part) {
			p = realloc(t->part, (t->cap_part * 2 + 8) * sizeof *p);
			if (!p)
				return err_nomem(e, (t->cap_part * 2 + 8) * sizeof *p, "a batch's parts");
			t->part = p;
			t->cap_part = t->cap_part * 2 + 8;
		}
		h = t->stage[at].block;
		for (run = 1; i + run < v->n_tok && h->n + run < t->shape.cap &&
			v->seq[i + run] == v->seq[i] && v->pos[i + run] == v->pos[i] + run; run++)
			;
		t->part[t->n_part++] = (struct part){ at, i, h->n, run };
		h->n += run;
	}
	t->batch_n = v->n_tok;
	t->batch_seq = v->seq[0];
	t->batch_pos = v->pos[0];
	t->batch_phase = v->phase;
	return 0;
}

/* The first edited decision of a chunk: up to here the router's own choice was the same. */
static void begin_edits(struct moe_trace *t, struct block_head *h)
{
	h->edited = 1;
	for (size_t i = 0; i < t->lay.n; i++) {
		struct block_rows r;

		block_rows(&t->shape, h, i, &r);
		memcpy(r.before, r.experts, h->n * t->lay.layer[i].k * sizeof *r.before);
	}
}

/* The router's own choice for a part's rows of one layer, where an edited one is among them or
 * before. */
static void fill_before(struct moe_trace *t, const struct part *p, const struct moe_route_view *v,
	size_t li, uint8_t flags)
{
	struct block_head *h = t->stage[p->stage].block;
	size_t k = v->k;
	struct block_rows r;

	if (flags & MOE_EV_EDITED && !h->edited)
		begin_edits(t, h);
	if (!h->edited)
		return;
	block_rows(&t->shape, h, li, &r);
	for (size_t i = 0; i < p->n; i++) {
		size_t src = p->from + i;
		int edited = v->before && v->flags && v->flags[src] & MOE_EV_EDITED;

		memcpy(r.before + (p->row + i) * k, (edited ? v->before : v->experts) + src * k,
			k * sizeof *r.before);
	}
}

/* Returns all of them together. */
static uint8_t copy_flags(uint8_t *to, const uint8_t *from, size_t n)
{
	uint64_t all = 0, word;
	uint8_t any = 0;
	size_t i = 0;

	memcpy(to, from, n);
	for (; i + 8 <= n; i += 8) {
		memcpy(&word, from + i, 8);
		all |= word;
	}
	for (; i < n; i++)
		any |= from[i];
	for (; all; all >>= 8)
		any |= (uint8_t)all;
	return any;
}

/* Copy the part's rows of one layer into the stage. */
static void fill(struct moe_trace *t, const struct part *p, const struct moe_route_view *v,
	size_t li)
{
	struct block_head *h = t->stage[p->stage].block;
	size_t n = p->n, k = v->k, n_expert = v->n_expert;
	uint8_t flags = 0;
	struct block_rows r;

	block_rows(&t->shape, h, li, &r);
	if (li == 0)
		memcpy(block_tokens(&t->shape, h) + p->row, v->token + p->from, n * sizeof *v->token);
	memcpy(r.experts + p->row * k, v->experts + p->from * k, n * k * sizeof *r.experts);
	memcpy(r.weights + p->row * k, v->weights + p->from * k, n * k * sizeof *r.weights);
	if (v->margin)
		memcpy(r.margins + p->row, v->margin + p->from, n * sizeof *r.margins);
	for (size_t i = 0; i < n && !v->margin; i++)
		r.margins[p->row + i] = NAN;
	if (!v->flags)
		memset(r.flags + p->row, 0, n);
	else
		flags = copy_flags(r.flags + p->row, v->flags + p->from, n);
	h->any_flags |= flags;
	fill_before(t, p, v, li, flags);
	if (h->has_logits)
		mem_copy_out(r.logits + p->row * n_expert, v->logits + p->from * n_expert,
			n * n_expert * sizeof *r.logits);
}

/* ---- the hook ---- */

static int hook_wants(void *ctx, int layer)
{
	const struct moe_trace *t = ctx;

	return layer >= 0 && layout_find(&t->lay, (unsigned)layer) >= 0;
}

static size_t cut(const char *s, size_t max)
{
	return s ? strnlen(s, max) : 0;
}

static int hook_seq_begin(void *ctx, const struct moe_seq_info *s, struct moe_err *e)
{
	struct moe_trace *t = ctx;
	struct msg m = { .kind = MSG_BEGIN, .seq = s->seq, .time = clock_mono() };

	if (check(t, e) || add_msg(t, &m, s->domain, cut(s->domain, BLOCK_NAME_MAX), s->name,
		cut(s->name, BLOCK_NAME_MAX), e))
		return -1;
	return flush_messages(t, e);
}

/* An engine that edits says who did it; each name is worth one row. */
static int note_editor(struct moe_trace *t, const char *name, struct moe_err *e)
{
	if (!strncmp(t->editor, name, sizeof t->editor - 1))
		return 0;
	snprintf(t->editor, sizeof t->editor, "%s", name);
	return moe_trace_note(t, "edit", name, e);
}

static int hook_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct moe_trace *t = ctx;
	int li = layout_find(&t->lay, v->layer);

	if (check(t, e))
		return -1;
	if (li < 0 || t->lay.layer[li].n_expert != v->n_expert || t->lay.layer[li].k != v->k)
		return err_set(e, MOE_ERR_USAGE,
			"layer %d brings %d of %d experts, the run was described with %d of %d", v->layer, v->k,
			v->n_expert, li < 0 ? 0 : t->lay.layer[li].k, li < 0 ? 0 : t->lay.layer[li].n_expert);
	if (v->phase > MOE_DECODE)
		return err_set(e, MOE_ERR_USAGE, "layer %d: phase %d is unknown", v->layer, v->phase);
	if (!v->n_tok)
		return 0;
	if (li == 0 && plan(t, v, e)) {
		forget_batch(t);
		return -1;
	}
	if (li && ((size_t)li != t->next_layer || v->n_tok != t->batch_n || v->seq[0] != t->batch_seq ||
		v->pos[0] != t->batch_pos || v->phase != t->batch_phase))
		return err_set(e, MOE_ERR_USAGE, "layer %d: %u tokens from position %u, expected layer %d "
			"with %u from %u", v->layer, v->n_tok, v->pos[0],
			t->next_layer < t->lay.n ? t->lay.layer[t->next_layer].layer : -1, t->batch_n,
			t->batch_pos);
	for (size_t i = 0; i < t->n_part; i++) {
		if (!v->logits != !t->stage[t->part[i].stage].block->has_logits)
			return err_set(e, MOE_ERR_USAGE, "layer %d: logits in some layers only", v->layer);
		fill(t, &t->part[i], v, (size_t)li);
	}
	t->next_layer = (size_t)li + 1;
	return v->editor ? note_editor(t, v->editor, e) : 0;
}

/* Chunks that cannot grow or have waited long enough. `ahead`: ns until the next batch, likely. */
static int push_due(struct moe_trace *t, int64_t now, int64_t ahead, struct moe_err *e)
{
	size_t open = 0;

	for (size_t i = 0; i < t->n_stage; i++) {
		const struct stage *s = &t->stage[i];

		if (!s->used)
			continue;
		if (s->block->phase == MOE_DECODE && s->block->n < t->shape.cap && ++open <= OPEN_MAX &&
			now - s->block->time + ahead < t->flush_ns)
			continue;
		if (push(t, &t->stage[i], e))
			return -1;
	}
	return 0;
}

static int hook_batch_end(void *ctx, const struct moe_batch_info *b, struct moe_err *e)
{
	struct moe_trace *t = ctx;
	struct pace *a = &t->pace[b->phase == MOE_DECODE];
	int64_t now = clock_mono(), ahead = b->busy_ns > INT64_MAX / 4 ? 0 : (int64_t)b->busy_ns;

	if (check(t, e))
		return -1;
	if (t->next_layer && t->next_layer != t->lay.n) {
		err_set(e, MOE_ERR_USAGE, "a batch ended after %zu of %zu MoE layers", t->next_layer,
			t->lay.n);
		forget_batch(t);
		return -1;
	}
	for (size_t i = 0; i < t->n_part; i++)
		t->stage[t->part[i].stage].done = t->part[i].row + t->part[i].n;
	t->next_layer = t->n_part = 0;
	if (!a->batches++)
		a->since = now;
	a->tokens += b->n_tok;
	a->busy_ns += b->busy_ns;
	a->cache.hits += b->cache.hits;
	a->cache.misses += b->cache.misses;
	a->cache.bytes += b->cache.bytes;
	a->cache.stall_ns += b->cache.stall_ns;
	if (push_due(t, now, ahead, e))
		return -1;
	if ((t->pace[0].batches && now - t->pace[0].since + ahead >= t->flush_ns) ||
		(t->pace[1].batches && now - t->pace[1].since + ahead >= t->flush_ns) ||
		(t->pending.len && now - t->pending_since + ahead >= t->flush_ns))
		return flush_messages(t, e);
	return 0;
}

static int hook_seq_end(void *ctx, const struct moe_seq_result *r, struct moe_err *e)
{
	struct moe_trace *t = ctx;
	struct msg m = { .kind = MSG_END, .seq = r->seq, .time = clock_mono(), .n_prompt = r->n_prompt,
		.n_generated = r->n_generated, .n_scored = r->n_scored, .n_bytes = r->n_bytes,
		.nll = r->nll };

	if (check(t, e))
		return -1;
	if (t->next_layer)
		forget_batch(t);
	/* A gap is named by its first sequence, so it goes before that one ends. */
	if (push_seq(t, r->seq, e) || add_gap(t, e) || add_msg(t, &m, NULL, 0, NULL, 0, e))
		return -1;
	return flush_messages(t, e);
}

int moe_trace_note(struct moe_trace *t, const char *kind, const char *text, struct moe_err *e)
{
	struct msg m = { .kind = MSG_NOTE, .layer = -1, .time = clock_mono() };

	if (check(t, e) ||
		add_msg(t, &m, kind, cut(kind, 31), text, cut(text, BLOCK_TEXT_MAX), e))
		return -1;
	return flush_messages(t, e);
}

int moe_trace_token_text(struct moe_trace *t, int32_t token, const void *bytes, size_t len,
	struct moe_err *e)
{
	struct msg m = { .kind = MSG_TOKEN, .token = token, .time = clock_mono() };

	if (check(t, e) ||
		add_msg(t, &m, bytes, len < BLOCK_TEXT_MAX ? len : BLOCK_TEXT_MAX, NULL, 0, e))
		return -1;
	return t->pending.len < t->shape.bytes ? 0 : flush_messages(t, e);
}

struct moe_hook *moe_trace_hook(struct moe_trace *t)
{
	return &t->hook;
}

uint64_t moe_trace_committed(const struct moe_trace *t)
{
	return commit_tokens(t->commit);
}

uint64_t moe_trace_lost(const struct moe_trace *t)
{
	return t->lost;
}

int64_t moe_trace_run(const struct moe_trace *t)
{
	return t->run;
}

/* ---- the run's rows, before the thread starts ---- */

static int bad_sql(sqlite3 *db, const char *what, struct moe_err *e)
{
	return err_set(e, MOE_ERR_SYS, "%s: %s", what, sqlite3_errmsg(db));
}

/* Runs that call themselves live although nobody holds the lock: their writer died. */
static int recover(sqlite3 *db, struct moe_err *e)
{
	static const char sql[] =
		"INSERT INTO event(run, time, kind, value, text) SELECT id, ?1, 'recovery', "
		"  (?1 - heartbeat) / 1e9, 'the writer ended without closing the run; everything up to "
		"its last commit is here' FROM run WHERE state = 'live'";
	static const char fail[] =
		"UPDATE run SET state = 'failed', ended = heartbeat WHERE state = 'live'";
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL))
		return bad_sql(db, "recovering", e);
	sqlite3_bind_int64(st, 1, clock_wall());
	sqlite3_step(st);
	if (sqlite3_finalize(st) || sqlite3_exec(db, fail, NULL, NULL, NULL))
		return bad_sql(db, "recovering", e);
	return 0;
}

static void bind_str(sqlite3_stmt *st, int i, const char *s)
{
	sqlite3_bind_text(st, i, s, -1, SQLITE_STATIC); /* NULL binds NULL */
}

static void bind_num(sqlite3_stmt *st, int i, uint64_t x)
{
	if (x)
		sqlite3_bind_int64(st, i, (int64_t)x);
}

static void bind_model(sqlite3_stmt *st, const struct moe_run_desc *d)
{
	const char *text[] = { d->model_name, d->model_path, d->arch, d->quant, d->tokenizer,
		d->model_hash };
	uint64_t num[] = { d->model_bytes, d->n_params, d->n_params_active, d->n_layer, d->n_vocab,
		d->n_ctx };

	for (int i = 0; i < 6; i++) {
		bind_str(st, i + 1, text[i]);
		bind_num(st, i + 7, num[i]);
	}
	bind_str(st, 13, d->router);
	bind_str(st, 14, d->score);
}

static int same_layers(sqlite3 *db, int64_t model, const struct layout *l)
{
	struct layout have;
	int same;

	if (layout_load(&have, db, model, NULL))
		return 0;
	same = have.n == l->n && !memcmp(have.layer, l->layer, l->n * sizeof *l->layer);
	layout_free(&have);
	return same;
}

/* The model's row: the same model keeps its id over runs, so that runs can be compared. */
static int model_id(sqlite3 *db, const struct moe_run_desc *d, const struct layout *l,
	int64_t *id, struct moe_err *e)
{
	static const char find[] = "SELECT id FROM model WHERE name IS ?1 AND path IS ?2 AND arch IS ?3 "
		"AND quant IS ?4 AND tokenizer IS ?5 AND hash IS ?6 AND bytes IS ?7 AND params IS ?8 "
		"AND params_active IS ?9 AND n_layer IS ?10 AND n_vocab IS ?11 AND n_ctx IS ?12 "
		"AND router IS ?13 AND score IS ?14 ORDER BY id";
	static const char add[] = "INSERT INTO model(name, path, arch, quant, tokenizer, hash, bytes, "
		"params, params_active, n_layer, n_vocab, n_ctx, router, score) "
		"VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
	sqlite3_stmt *st = NULL;
	int found = 0;

	if (sqlite3_prepare_v2(db, find, -1, &st, NULL))
		return bad_sql(db, "finding the model", e);
	bind_model(st, d);
	while (!found && sqlite3_step(st) == SQLITE_ROW) {
		*id = sqlite3_column_int64(st, 0);
		found = same_layers(db, *id, l);
	}
	if (sqlite3_finalize(st))
		return bad_sql(db, "finding the model", e);
	if (found)
		return 0;
	if (sqlite3_prepare_v2(db, add, -1, &st, NULL))
		return bad_sql(db, "adding the model", e);
	bind_model(st, d);
	sqlite3_step(st);
	if (sqlite3_finalize(st))
		return bad_sql(db, "adding the model", e);
	*id = sqlite3_last_insert_rowid(db);
	if (sqlite3_prepare_v2(db, "INSERT INTO moe_layer VALUES(?, ?, ?, ?)", -1, &st, NULL))
		return bad_sql(db, "adding the model's layers", e);
	for (size_t i = 0; i < l->n; i++) {
		sqlite3_bind_int64(st, 1, *id);
		sqlite3_bind_int(st, 2, l->layer[i].layer);
		sqlite3_bind_int(st, 3, l->layer[i].n_expert);
		sqlite3_bind_int(st, 4, l->layer[i].k);
		sqlite3_step(st);
		if (sqlite3_reset(st))
			break;
	}
	return sqlite3_finalize(st) ? bad_sql(db, "adding the model's layers", e) : 0;
}

static int add_run(sqlite3 *db, const struct moe_run_desc *d, const struct commit_opt *o,
	int64_t *run, struct moe_err *e)
{
	static const char *const detail[] = { "counts", "routes", "full" };
	static const char *const weights[] = { "exact", "16bit", "8bit", "none" };
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(db, "INSERT INTO run(model, state, detail, command, engine, isa, threads, "
		"batch, started, heartbeat, bucket_ns, pid, weights, source) "
		"VALUES(?1, 'live', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11, ?12)", -1, &st, NULL))
		return bad_sql(db, "adding the run", e);
	sqlite3_bind_int64(st, 1, o->model);
	bind_str(st, 2, detail[o->detail]);
	bind_str(st, 3, d->command);
	bind_str(st, 4, d->engine);
	bind_str(st, 5, d->isa);
	bind_num(st, 6, d->n_threads);
	bind_num(st, 7, d->n_batch);
	sqlite3_bind_int64(st, 8, o->started);
	sqlite3_bind_int64(st, 9, o->bucket_ns);
	sqlite3_bind_int64(st, 10, getpid());
	if (o->detail != MOE_DETAIL_COUNTS)
		bind_str(st, 11, weights[o->weights]);
	bind_str(st, 12, d->source);
	sqlite3_step(st);
	if (sqlite3_finalize(st))
		return bad_sql(db, "adding the run", e);
	*run = sqlite3_last_insert_rowid(db);
	return 0;
}

static int add_settings(sqlite3 *db, const struct moe_run_desc *d, int64_t run, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(db, "INSERT INTO setting VALUES(?, ?, ?)", -1, &st, NULL))
		return bad_sql(db, "adding the run's settings", e);
	for (uint32_t i = 0; i < d->n_setting; i++) {
		sqlite3_bind_int64(st, 1, run);
		bind_str(st, 2, d->settings[i].key);
		bind_str(st, 3, d->settings[i].value);
		sqlite3_step(st);
		if (sqlite3_reset(st))
			break;
	}
	return sqlite3_finalize(st) ? bad_sql(db, "adding the run's settings", e) : 0;
}

int writer_begin_run(sqlite3 *db, const struct moe_run_desc *d, const struct layout *l,
	struct commit_opt *o, struct moe_err *e)
{
	int own = sqlite3_get_autocommit(db);

	if (own && sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL))
		return bad_sql(db, "starting the run", e);
	if (recover(db, e) || model_id(db, d, l, &o->model, e) || add_run(db, d, o, &o->run, e) ||
		add_settings(db, d, o->run, e) ||
		(o->sink && o->sink->start && o->sink->start(o->sink->ctx, db, o->run, e))) {
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
		return -1;
	}
	if (own && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL)) {
		bad_sql(db, "starting the run", e);
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
		return -1;
	}
	if (own && o->sink && o->sink->settled)
		o->sink->settled(o->sink->ctx);
	return 0;
}

/* ---- open and close ---- */

static void trace_free(struct moe_trace *t)
{
	dbfile_close_writer(t->db, t->lock);
	free(t->stage);
	free(t->part);
	buf_free(&t->pending);
	ring_free(t->ring);
	layout_free(&t->lay);
	free(t);
}

static int open_parts(struct moe_trace *t, const char *path, const struct moe_trace_opt *opt,
	const struct moe_run_desc *desc, struct moe_err *e)
{
	size_t ring = opt->ring_bytes ? opt->ring_bytes : RING_BYTES, blocks;
	struct commit_opt o = { 0 };

	if (layout_init(&t->lay, desc->layers, desc->n_moe_layer, e))
		return err_wrap(e, "describing the run");
	if ((unsigned)opt->detail > MOE_DETAIL_FULL)
		return err_set(e, MOE_ERR_USAGE, "detail %d is unknown", (int)opt->detail);
	if ((unsigned)opt->weights > MOE_WEIGHTS_NONE)
		return err_set(e, MOE_ERR_USAGE, "weights %d is unknown", (int)opt->weights);
	block_shape(&t->shape, &t->lay, ring / RING_MIN);
	blocks = ring / t->shape.bytes;
	blocks = blocks < RING_MIN ? RING_MIN : blocks > RING_MAX ? RING_MAX : blocks;
	t->ring = ring_new(t->shape.bytes, blocks, e);
	if (!t->ring)
		return -1;
	t->db = dbfile_open_writer(path, &t->lock, e);
	if (!t->db)
		return -1;
	/* Who must know what is committed must be able to rely on it. */
	if (opt->sink && sqlite3_exec(t->db, "PRAGMA synchronous = FULL", NULL, NULL, NULL))
		return bad_sql(t->db, path, e);
	o.db = t->db;
	o.ring = t->ring;
	o.shape = &t->shape;
	o.detail = opt->detail;
	o.weights = opt->weights;
	o.drop = opt->drop;
	o.sink = opt->sink;
	o.bucket_ns = (opt->bucket_ms ? opt->bucket_ms : 10000) * INT64_C(1000000);
	o.commit_ns = (opt->commit_ms ? opt->commit_ms : 250) * INT64_C(1000000);
	o.started = clock_wall();
	o.started_mono = clock_mono();
	t->drop = opt->drop;
	t->flush_ns = o.commit_ns / 2; /* the other half is for the writer's thread */
	if (writer_begin_run(t->db, desc, &t->lay, &o, e))
		return err_wrap(e, "%s", path);
	t->run = o.run;
	t->commit = commit_start(&o, e);
	return t->commit ? 0 : -1;
}

struct moe_trace *moe_trace_open(const char *path, const struct moe_trace_opt *opt,
	const struct moe_run_desc *desc, struct moe_err *e)
{
	struct moe_trace *t = calloc(1, sizeof *t);

	if (!t) {
		err_nomem(e, sizeof *t, "a trace");
		return NULL;
	}
	t->lock = -1;
	buf_init(&t->pending, PENDING_MAX);
	t->hook = (struct moe_hook){ .name = "trace", .ctx = t, .wants = hook_wants,
		.seq_begin = hook_seq_begin, .route = hook_route, .batch_end = hook_batch_end,
		.seq_end = hook_seq_end };
	if (open_parts(t, path, opt, desc, e)) {
		trace_free(t);
		return NULL;
	}
	return t;
}

/* Everything that is whole goes out; an open batch does not. */
static int drain(struct moe_trace *t, struct moe_err *e)
{
	if (t->next_layer)
		forget_batch(t);
	for (size_t i = 0; i < t->n_stage; i++)
		if (t->stage[i].used && push(t, &t->stage[i], e))
			return -1;
	if (add_gap(t, e) || add_pace(t, e))
		return -1;
	return ship(t, 1, e) < 0 ? -1 : 0;
}

int moe_trace_flush(struct moe_trace *t, struct moe_err *e)
{
	return check(t, e) || drain(t, e) ? -1 : 0;
}

void writer_hold(struct moe_trace *t, int on)
{
	ring_hold(t->ring, on);
}

int moe_trace_close(struct moe_trace *t, enum moe_run_state state, struct moe_err *e)
{
	struct moe_err scratch;
	int bad = check(t, e) || drain(t, e);

	ring_close(t->ring);
	if (commit_finish(t->commit, bad ? MOE_RUN_FAILED : state, bad ? &scratch : e))
		bad = 1;
	trace_free(t);
	return bad ? -1 : 0;
}
