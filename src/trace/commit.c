/*
 * commit.c - see commit.h.
 *
 * prepare_*() runs once per block and only touches memory: sums, sequences, notes. write_*() runs
 * inside the transaction and only reads that memory, so it can be repeated. settle() runs after
 * COMMIT and forgets what is now on disk. Everything in struct commit but `failed` and `err`
 * belongs to the thread.
 */
#include "trace/commit.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "trace/pack.h"
#include "trace/sums.h"
#include "trace/tell.h"

#define HEARTBEAT_NS INT64_C(1000000000)
#define RETRY_MS 250
#define BUSY_LIMIT_NS (30 * INT64_C(1000000000))
#define WAL_CHECKPOINT_BYTES (16 << 20) /* a checkpoint waits for the disk twice */
#define LEVELS 4           /* of load_sum: a row covers 16, 256, 4096, 65536 buckets */
#define GROUPS_AT_ONCE 64  /* groups of 16 buckets that one transaction sums up */
#define WAL_WARN_BYTES (256 << 20) /* somebody holds an old snapshot */

/* Sequences that are open or were changed in this transaction. */
struct seq_row {
	uint64_t seq;
	int64_t id, domain, started, ended;
	uint32_t n_prompt, n_generated, n_scored;
	uint64_t n_bytes;
	double nll;
	uint8_t saved, dirty, scored;
	char *name; /* until saved */
};

struct domain_row {
	int64_t id;
	int saved;
	char name[BLOCK_NAME_MAX + 1];
};

struct note_row {
	int64_t time, sequence; /* sequence.id, 0 = none */
	uint64_t seq;
	int32_t layer;
	uint32_t pos;
	double value;
	int has_value;
	char kind[32];
	char *text; /* may be NULL */
};

struct pace_row {
	int64_t bucket;
	uint64_t tokens, busy_ns, batches;
	struct moe_cache_use cache;
	uint8_t phase, dirty;
};

enum stmt {
	ST_DOMAIN, ST_SEQ, ST_SEQ_UPDATE, ST_CHUNK, ST_LOAD, ST_LOAD_GET, ST_GROUP, ST_GROUP_GET,
	ST_SUMMED, ST_PACE, ST_PACE_GET, ST_CACHE, ST_CACHE_GET, ST_NOTE, ST_TOKEN, ST_BEAT, ST_END,
	ST_BEGIN, ST_COMMIT, ST_COUNT
};
#define SUMS_COLS "tokens, counts, weights, probs, lse2, entropy, confidence, margin, n_margin, " \
	"n_nan, n_edited"
static const char *const sql[ST_COUNT] = {
	[ST_DOMAIN] = "INSERT INTO domain(id, name) VALUES(?, ?)",
	[ST_SEQ] = "INSERT INTO sequence(id, ended, n_prompt, n_generated, nll, n_scored, n_bytes, "
		"run, seq, domain, name, started) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[ST_SEQ_UPDATE] = "UPDATE sequence SET ended = ?2, n_prompt = ?3, n_generated = ?4, nll = ?5, "
		"n_scored = ?6, n_bytes = ?7 WHERE id = ?1",
	[ST_CHUNK] = "INSERT INTO chunk(run, sequence, pos, n, phase, time, codec, tokens, experts, "
		"weights, margins, flags, before, logits) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[ST_LOAD] = "INSERT OR REPLACE INTO load(run, domain, phase, bucket, layer, tokens, counts, "
		"weights, probs, lse2, entropy, confidence, margin, n_margin, n_nan, n_edited) "
		"VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	/* What these yield: see add_rows(). */
	[ST_LOAD_GET] = "SELECT layer, " SUMS_COLS " FROM load "
		"WHERE run = ?1 AND domain = ?2 AND phase = ?3 AND bucket >= ?4 AND bucket < ?5",
	[ST_GROUP_GET] = "SELECT layer, " SUMS_COLS " FROM load_sum "
		"WHERE run = ?1 AND domain = ?2 AND phase = ?3 AND bucket >= ?4 AND bucket < ?5 "
		"AND level = ?6",
	[ST_GROUP] = "INSERT OR REPLACE INTO load_sum(run, domain, phase, level, bucket, layer, "
		SUMS_COLS ") VALUES(?1, ?2, ?3, ?17, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
	[ST_SUMMED] = "UPDATE run SET summed = ?2 WHERE id = ?1",
	[ST_PACE] = "INSERT OR REPLACE INTO pace(run, phase, bucket, tokens, busy_ns, batches) "
		"VALUES(?, ?, ?, ?, ?, ?)",
	[ST_PACE_GET] = "SELECT tokens, busy_ns, batches FROM pace "
		"WHERE run = ? AND phase = ? AND bucket = ?",
	[ST_CACHE] = "INSERT OR REPLACE INTO cache(run, phase, bucket, hits, misses, bytes, stall_ns) "
		"VALUES(?, ?, ?, ?, ?, ?, ?)",
	[ST_CACHE_GET] = "SELECT hits, misses, bytes, stall_ns FROM cache "
		"WHERE run = ? AND phase = ? AND bucket = ?",
	[ST_NOTE] = "INSERT INTO event(run, time, kind, sequence, pos, layer, value, text) "
		"VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
	[ST_TOKEN] = "INSERT OR REPLACE INTO token(model, id, bytes) VALUES(?, ?, ?)",
	[ST_BEAT] = "UPDATE run SET heartbeat = ?2, lag_ns = ?3 WHERE id = ?1",
	[ST_BEGIN] = "BEGIN IMMEDIATE",
	[ST_COMMIT] = "COMMIT",
	[ST_END] = "UPDATE run SET state = ?2, ended = ?3, heartbeat = ?3 WHERE id = ?1",
};

struct commit {
	struct commit_opt o;
	sqlite3_stmt *st[ST_COUNT];
	struct seq_row *seq;
	size_t n_seq, cap_seq, last_seq;
	int64_t next_sequence, next_domain;
	struct domain_row *domain;
	size_t n_domain;
	struct sums **sums;
	size_t n_sums;
	int64_t newest; /* bucket */
	/* Buckets before `summed` are in load_sum, a multiple of 16; as it was committed last; as this
	 * transaction leaves it. */
	int64_t summed, summed_saved, summed_next;
	struct sums *group; /* scratch of write_groups() */
	unsigned char *packed; /* scratch of write_chunk(): four blobs of a chunk */
	size_t at_weights, at_margins, at_flags, at_before; /* where they begin */
	float *rows;           /* and its logits token by token, as they go to disk */
	struct tell_packed last; /* of the chunk that was written last */
	struct tell tell;
	struct pace_row pace[4];
	struct note_row *note;
	size_t n_note;
	uint8_t seen_nan[MOE_MAX_LAYER];
	int64_t beat, lag, clock_offset; /* beat: monotonic time of the last commit */
	int wal_pages, wal_warned, page_bytes;
	pthread_t thread;
	pthread_mutex_t lock; /* err */
	atomic_int failed;
	atomic_ullong tokens; /* committed */
	struct moe_err err;
};

static int64_t run_time(const struct commit *c, int64_t mono)
{
	return c->o.started + (mono - c->o.started_mono);
}

static int64_t bucket_of(const struct commit *c, int64_t time)
{
	return time <= c->o.started ? 0 : (time - c->o.started) / c->o.bucket_ns;
}

static void *grown(void *p, size_t n, size_t size, struct moe_err *e)
{
	void *q = n & (n - 1) ? p : realloc(p, (n ? 2 * n : 1) * size);

	if (!q)
		err_nomem(e, (unsigned long long)(n ? 2 * n : 1) * size, "the writer's tables");
	return q;
}

/* ---- prepare: memory only ---- */

static int add_note(struct commit *c, const struct note_row *n, const char *text, size_t len,
	struct moe_err *e)
{
	struct note_row *p = grown(c->note, c->n_note, sizeof *p, e);

	if (!p)
		return -1;
	c->note = p;
	p += c->n_note;
	*p = *n;
	p->text = NULL;
	if (text) {
		p->text = strndup(text, len);
		if (!p->text)
			return err_nomem(e, len, "a note");
	}
	c->n_note++;
	return 0;
}

static int64_t domain_id(struct commit *c, const char *name, size_t len, struct moe_err *e)
{
	struct domain_row *d;

	for (size_t i = 0; i < c->n_domain; i++)
		if (strlen(c->domain[i].name) == len && !memcmp(c->domain[i].name, name, len))
			return c->domain[i].id;
	d = grown(c->domain, c->n_domain, sizeof *d, e);
	if (!d)
		return -1;
	c->domain = d;
	d += c->n_domain++;
	memset(d, 0, sizeof *d);
	d->id = c->next_domain++;
	memcpy(d->name, name, len);
	return d->id;
}

static struct seq_row *find_seq(struct commit *c, uint64_t seq)
{
	if (c->last_seq < c->n_seq && c->seq[c->last_seq].seq == seq && !c->seq[c->last_seq].ended)
		return &c->seq[c->last_seq];
	for (size_t i = c->n_seq; i-- > 0;)
		if (c->seq[i].seq == seq && !c->seq[i].ended) {
			c->last_seq = i;
			return &c->seq[i];
		}
	return NULL;
}

static struct seq_row *begin_seq(struct commit *c, uint64_t seq, int64_t time, struct moe_err *e)
{
	struct seq_row *s = grown(c->seq, c->n_seq, sizeof *s, e);

	if (!s)
		return NULL;
	c->seq = s;
	c->last_seq = c->n_seq;
	s += c->n_seq++;
	memset(s, 0, sizeof *s);
	s->seq = seq;
	s->id = c->next_sequence++;
	s->started = time;
	return s;
}

/* The sequence of a decision; one that was never announced begins here, without a domain. */
static struct seq_row *seq_of(struct commit *c, uint64_t seq, int64_t time, struct moe_err *e)
{
	struct seq_row *s = find_seq(c, seq);

	return s ? s : begin_seq(c, seq, time, e);
}

static int prepare_begin(struct commit *c, const struct msg *m, const char *text, struct moe_err *e)
{
	struct seq_row *s;

	if (find_seq(c, m->seq))
		return err_set(e, MOE_ERR_USAGE, "sequence %llu began twice", (unsigned long long)m->seq);
	s = begin_seq(c, m->seq, run_time(c, m->time), e);
	if (!s)
		return -1;
	if (m->len[0] && (s->domain = domain_id(c, text, m->len[0], e)) < 0)
		return -1;
	if (m->len[1] && !(s->name = strndup(text + m->len[0], m->len[1])))
		return err_nomem(e, m->len[1], "a name");
	return 0;
}

static int prepare_end(struct commit *c, const struct msg *m, struct moe_err *e)
{
	struct seq_row *s = seq_of(c, m->seq, run_time(c, m->time), e);

	if (!s)
		return -1;
	s->ended = run_time(c, m->time);
	s->n_prompt = m->n_prompt;
	s->n_generated = m->n_generated;
	s->nll = m->nll;
	s->n_scored = m->n_scored;
	s->n_bytes = m->n_bytes;
	s->dirty = s->scored = 1;
	return 0;
}

/* Add the rows that a statement yields (layer, SUMS_COLS) to s; *n counts them. */
static int add_rows(struct commit *c, sqlite3_stmt *st, struct sums *s, size_t *n)
{
	const struct layout *l = c->o.shape->lay;
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		int i = layout_find(l, (unsigned)sqlite3_column_int(st, 0));
		size_t cells = i < 0 ? 0 : l->layer[i].n_expert, at = i < 0 ? 0 : l->e_at[i];
		const uint64_t *counts = sqlite3_column_blob(st, 2);
		const double *weights = sqlite3_column_blob(st, 3), *probs = sqlite3_column_blob(st, 4);

		if (i < 0 || (size_t)sqlite3_column_bytes(st, 2) != cells * 8 ||
			(size_t)sqlite3_column_bytes(st, 3) != cells * 8 ||
			(size_t)sqlite3_column_bytes(st, 4) != cells * 8) {
			sqlite3_reset(st);
			return SQLITE_CORRUPT;
		}
		for (size_t x = 0; x < cells; x++) {
			uint64_t count;
			double weight, prob;

			memcpy(&count, counts + x, 8);
			memcpy(&weight, weights + x, 8);
			memcpy(&prob, probs + x, 8);
			s->counts[at + x] += count;
			s->weights[at + x] += weight;
			s->probs[at + x] += prob;
		}
		s->tokens[i] += (uint64_t)sqlite3_column_int64(st, 1);
		s->lse2[i] += sqlite3_column_double(st, 5);
		s->entropy[i] += sqlite3_column_double(st, 6);
		s->confidence[i] += sqlite3_column_double(st, 7);
		s->margin[i] += sqlite3_column_double(st, 8);
		s->n_margin[i] += (uint64_t)sqlite3_column_int64(st, 9);
		s->n_nan[i] += (uint64_t)sqlite3_column_int64(st, 10);
		s->n_edited[i] += (uint64_t)sqlite3_column_int64(st, 11);
		++*n;
	}
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : rc;
}

/* Sums of a bucket that has left memory are read back; a new bucket starts at zero. */
static int load_sums(struct commit *c, struct sums *s, struct moe_err *e)
{
	sqlite3_stmt *st = c->st[ST_LOAD_GET];
	size_t n = 0;

	sqlite3_bind_int64(st, 1, c->o.run);
	sqlite3_bind_int64(st, 2, s->domain);
	sqlite3_bind_int(st, 3, s->phase);
	sqlite3_bind_int64(st, 4, s->bucket);
	sqlite3_bind_int64(st, 5, s->bucket + 1);
	if (add_rows(c, st, s, &n))
		return err_set(e, MOE_ERR_SYS, "reading load back (bucket %lld): %s",
			(long long)s->bucket, sqlite3_errmsg(c->o.db));
	return 0;
}

static struct sums *sums_of(struct commit *c, int64_t domain, uint8_t phase, int64_t bucket,
	struct moe_err *e)
{
	struct sums **p, *s;

	for (size_t i = 0; i < c->n_sums; i++)
		if (c->sums[i]->bucket == bucket && c->sums[i]->domain == domain &&
			c->sums[i]->phase == phase)
			return c->sums[i];
	p = grown(c->sums, c->n_sums, sizeof *p, e);
	if (!p)
		return NULL;
	c->sums = p;
	s = sums_new(c->o.shape->lay);
	if (!s) {
		err_nomem(e, c->o.shape->lay->e_row * 24, "load sums");
		return NULL;
	}
	s->domain = domain;
	s->phase = phase;
	s->bucket = bucket;
	if (bucket < c->newest && load_sums(c, s, e)) {
		sums_free(s);
		return NULL;
	}
	c->newest = bucket > c->newest ? bucket : c->newest;
	if (bucket < c->summed) /* its groups are summed up again */
		c->summed = bucket / 16 * 16;
	c->sums[c->n_sums++] = s;
	return s;
}

/* The first NaN of each layer is worth a row of its own; load.n_nan counts them all. */
static int note_nans(struct commit *c, struct block_head *h, struct moe_err *e)
{
	const struct layout *l = c->o.shape->lay;
	const size_t cap = c->o.shape->cap;
	struct block_rows r;

	block_rows(c->o.shape, h, 0, &r);
	for (uint32_t t = 0; t < h->n; t++)
		for (size_t i = 0; i < l->n; i++) {
			struct note_row n = { .time = run_time(c, h->time), .sequence = h->sequence,
				.layer = l->layer[i].layer, .pos = h->pos + t, .kind = "nan" };

			if (!(r.flags[cap * i + t] & MOE_EV_NAN) || c->seen_nan[l->layer[i].layer])
				continue;
			c->seen_nan[l->layer[i].layer] = 1;
			if (add_note(c, &n, NULL, 0, e))
				return -1;
		}
	return 0;
}

static int prepare_chunk(struct commit *c, struct block_head *h, struct moe_err *e)
{
	struct seq_row *q = seq_of(c, h->seq, run_time(c, h->time), e);
	struct sums *s;

	if (!q)
		return -1;
	h->sequence = q->id;
	if (h->phase == MOE_PREFILL)
		q->n_prompt += h->n;
	else
		q->n_generated += h->n;
	q->dirty = 1;
	s = sums_of(c, q->domain, h->phase, bucket_of(c, run_time(c, h->time)), e);
	if (!s || sums_add(s, c->o.shape, h, e))
		return -1;
	return h->any_flags ? note_nans(c, h, e) : 0;
}

/* One row of numbers of p's phase and bucket: what is there already, added up over commits. */
static int read_sums(struct commit *c, enum stmt which, const struct pace_row *p, uint64_t *const out[],
	int n, struct moe_err *e)
{
	sqlite3_stmt *st = c->st[which];
	int rc;

	sqlite3_bind_int64(st, 1, c->o.run);
	sqlite3_bind_int(st, 2, p->phase);
	sqlite3_bind_int64(st, 3, p->bucket);
	rc = sqlite3_step(st);
	for (int i = 0; rc == SQLITE_ROW && i < n; i++)
		*out[i] = (uint64_t)sqlite3_column_int64(st, i);
	sqlite3_reset(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0
		: err_set(e, MOE_ERR_SYS, "reading pace: %s", sqlite3_errmsg(c->o.db));
}

static int read_pace(struct commit *c, struct pace_row *p, struct moe_err *e)
{
	uint64_t *const pace[] = { &p->tokens, &p->busy_ns, &p->batches };
	uint64_t *const cache[] = { &p->cache.hits, &p->cache.misses, &p->cache.bytes, &p->cache.stall_ns };

	return read_sums(c, ST_PACE_GET, p, pace, 3, e) || read_sums(c, ST_CACHE_GET, p, cache, 4, e) ? -1 : 0;
}

static int prepare_pace(struct commit *c, const struct msg *m, struct moe_err *e)
{
	int64_t bucket = bucket_of(c, run_time(c, m->time));
	struct pace_row *p = NULL;

	for (size_t i = 0; i < 4; i++)
		if (c->pace[i].batches && c->pace[i].bucket == bucket && c->pace[i].phase == m->phase)
			p = &c->pace[i];
	for (size_t i = 0; i < 4 && !p; i++)
		if (!c->pace[i].dirty) {
			p = &c->pace[i];
			*p = (struct pace_row){ .bucket = bucket, .phase = m->phase };
			if (read_pace(c, p, e))
				return -1;
		}
	for (size_t i = 0; i < 4 && !p; i++) /* more buckets in one transaction than rows here */
		if (c->pace[i].phase == m->phase)
			p = &c->pace[i];
	if (!p)
		return 0;
	p->tokens += m->tokens;
	p->busy_ns += m->busy_ns;
	p->batches += m->batches;
	p->cache.hits += m->cache.hits;
	p->cache.misses += m->cache.misses;
	p->cache.bytes += m->cache.bytes;
	p->cache.stall_ns += m->cache.stall_ns;
	p->dirty = 1;
	return 0;
}

static int prepare_note(struct commit *c, const struct msg *m, const char *text, struct moe_err *e)
{
	struct note_row n = { .time = run_time(c, m->time), .layer = m->layer };
	struct seq_row *q;

	if (m->kind == MSG_NOTE) {
		snprintf(n.kind, sizeof n.kind, "%.*s", (int)m->len[0], text);
		return add_note(c, &n, m->len[1] ? text + m->len[0] : NULL, m->len[1], e);
	}
	q = seq_of(c, m->seq, n.time, e);
	if (!q)
		return -1;
	snprintf(n.kind, sizeof n.kind, "gap");
	n.sequence = q->id;
	n.seq = m->seq;
	n.pos = m->pos;
	n.has_value = 1;
	n.value = (double)m->tokens;
	return add_note(c, &n, NULL, 0, e);
}

static int prepare_messages(struct commit *c, const struct block_head *h, struct moe_err *e)
{
	const char *p = (const char *)(h + 1), *end = p + h->n;
	int bad = 0;

	while (!bad && p < end) {
		const struct msg *m = (const void *)p;
		const char *text = (const char *)(m + 1);

		switch ((enum msg_kind)m->kind) {
		case MSG_BEGIN: bad = prepare_begin(c, m, text, e); break;
		case MSG_END: bad = prepare_end(c, m, e); break;
		case MSG_NOTE: case MSG_GAP: bad = prepare_note(c, m, text, e); break;
		case MSG_PACE: bad = prepare_pace(c, m, e); break;
		case MSG_TOKEN: break; /* written from the block itself */
		}
		p += msg_bytes(m);
	}
	return bad;
}

/* The wall clock against the run's own: a step is worth a row, since times in the database do not
 * show it. */
static int watch_clock(struct commit *c, int64_t now, struct moe_err *e)
{
	int64_t offset = clock_wall() - run_time(c, now), step = offset - c->clock_offset;
	struct note_row n = { .time = run_time(c, now), .layer = -1, .kind = "clock", .has_value = 1,
		.value = (double)step / 1e9 };

	if (step > -INT64_C(2000000000) && step < INT64_C(2000000000))
		return 0;
	c->clock_offset = offset;
	return add_note(c, &n, "the wall clock stepped by `value` seconds", 100, e);
}

static int prepare(struct commit *c, size_t n, int64_t now, struct moe_err *e)
{
	c->lag = 0;
	for (size_t i = 0; i < n; i++) {
		struct block_head *h = ring_at(c->o.ring, i);

		if (now - h->time > c->lag)
			c->lag = now - h->time;
		if (h->is_chunk ? prepare_chunk(c, h, e) : prepare_messages(c, h, e))
			return -1;
	}
	return watch_clock(c, now, e);
}

/* ---- write: inside the transaction, repeatable. All return SQLite's code, 0 = good ---- */

static int run_stmt(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : rc;
}

static int write_domains(struct commit *c)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < c->n_domain; i++)
		if (!c->domain[i].saved) {
			sqlite3_bind_int64(c->st[ST_DOMAIN], 1, c->domain[i].id);
			sqlite3_bind_text(c->st[ST_DOMAIN], 2, c->domain[i].name, -1, SQLITE_STATIC);
			rc = run_stmt(c->st[ST_DOMAIN]);
		}
	return rc;
}

static int write_sequence(struct commit *c, const struct seq_row *q)
{
	sqlite3_stmt *st = c->st[q->saved ? ST_SEQ_UPDATE : ST_SEQ];

	sqlite3_bind_int64(st, 1, q->id);
	if (q->ended)
		sqlite3_bind_int64(st, 2, q->ended);
	sqlite3_bind_int64(st, 3, q->n_prompt);
	sqlite3_bind_int64(st, 4, q->n_generated);
	if (q->scored && q->n_scored) {
		sqlite3_bind_double(st, 5, q->nll);
		sqlite3_bind_int64(st, 6, q->n_scored);
		sqlite3_bind_int64(st, 7, (int64_t)q->n_bytes);
	}
	if (q->saved)
		return run_stmt(st);
	sqlite3_bind_int64(st, 8, c->o.run);
	sqlite3_bind_int64(st, 9, (int64_t)q->seq);
	if (q->domain)
		sqlite3_bind_int64(st, 10, q->domain);
	if (q->name)
		sqlite3_bind_text(st, 11, q->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 12, q->started);
	return run_stmt(st);
}

static int any_margin(const struct commit *c, const struct block_head *h, const float *m)
{
	for (size_t i = 0; i < c->o.shape->lay->n; i++, m += c->o.shape->cap)
		for (size_t t = 0; t < h->n; t++)
			if (!isnan(m[t]))
				return 1;
	return 0;
}

static int write_chunk(struct commit *c, struct block_head *h)
{
	static const enum pack_form form[] = { [MOE_WEIGHTS_EXACT] = PACK_F32,
		[MOE_WEIGHTS_16BIT] = PACK_F16, [MOE_WEIGHTS_8BIT] = PACK_U8, [MOE_WEIGHTS_NONE] = PACK_U8 };
	const struct layout *l = c->o.shape->lay;
	const size_t n = h->n, cap = c->o.shape->cap;
	sqlite3_stmt *st = c->st[ST_CHUNK];
	unsigned char *p = c->packed;
	struct block_rows r;
	size_t len;

	c->last = (struct tell_packed){ NULL, NULL, 0, 0 };
	block_rows(c->o.shape, h, 0, &r);
	sqlite3_bind_int64(st, 1, c->o.run);
	sqlite3_bind_int64(st, 2, h->sequence);
	sqlite3_bind_int64(st, 3, h->pos);
	sqlite3_bind_int(st, 4, (int)n);
	sqlite3_bind_int(st, 5, h->phase);
	sqlite3_bind_int64(st, 6, run_time(c, h->time));
	sqlite3_bind_int(st, 7, LAYOUT_CODEC);
	sqlite3_bind_blob64(st, 8, block_tokens(c->o.shape, h), n * 4, SQLITE_STATIC);
	len = pack_experts(l, n, cap, r.experts, p);
	sqlite3_bind_blob64(st, 9, p, len, SQLITE_STATIC);
	if (c->o.weights != MOE_WEIGHTS_NONE) {
		p = c->packed + c->at_weights;
		len = pack_weights(l, n, cap, r.weights, form[c->o.weights], p);
		c->last.weights = p, c->last.n_weights = len;
		sqlite3_bind_blob64(st, 10, p, len, SQLITE_STATIC);
	}
	if (any_margin(c, h, r.margins)) {
		p = c->packed + c->at_margins;
		len = pack_margins(l, n, cap, r.margins, form[c->o.weights], p);
		c->last.margins = p, c->last.n_margins = len;
		sqlite3_bind_blob64(st, 11, p, len, SQLITE_STATIC);
	}
	if (h->any_flags) {
		p = c->packed + c->at_flags;
		pack_flags(l, n, cap, r.flags, p);
		sqlite3_bind_blob64(st, 12, p, n * l->n, SQLITE_STATIC);
	}
	if (block_any_edited(c->o.shape, h)) {
		p = c->packed + c->at_before;
		len = pack_experts(l, n, cap, r.before, p);
		sqlite3_bind_blob64(st, 13, p, len, SQLITE_STATIC);
	}
	if (c->o.detail == MOE_DETAIL_FULL && h->has_logits) {
		block_by_token(c->o.shape, r.logits, BLOCK_EXPERT, sizeof *r.logits, n, c->rows);
		sqlite3_bind_blob64(st, 14, c->rows, n * l->e_row * sizeof *c->rows, SQLITE_STATIC);
	}
	return run_stmt(st);
}

static int write_tokens(struct commit *c, const struct block_head *h)
{
	const char *p = (const char *)(h + 1), *end = p + h->n;
	sqlite3_stmt *st = c->st[ST_TOKEN];
	int rc = 0;

	for (; !rc && p < end; p += msg_bytes((const void *)p)) {
		const struct msg *m = (const void *)p;

		if (m->kind != MSG_TOKEN)
			continue;
		sqlite3_bind_int64(st, 1, c->o.model);
		sqlite3_bind_int(st, 2, m->token);
		sqlite3_bind_blob(st, 3, m + 1, (int)m->len[0], SQLITE_STATIC);
		rc = run_stmt(st);
	}
	return rc;
}

/* Bind the numbers of layer i as SUMS_COLS, from parameter `at` on. */
static void bind_sums(sqlite3_stmt *st, int at, const struct layout *l, const struct sums *s, size_t i)
{
	int bytes = l->layer[i].n_expert * 8;
	size_t x = l->e_at[i];

	sqlite3_bind_int64(st, at, (int64_t)s->tokens[i]);
	sqlite3_bind_blob(st, at + 1, s->counts + x, bytes, SQLITE_STATIC);
	sqlite3_bind_blob(st, at + 2, s->weights + x, bytes, SQLITE_STATIC);
	sqlite3_bind_blob(st, at + 3, s->probs + x, bytes, SQLITE_STATIC);
	sqlite3_bind_double(st, at + 4, s->lse2[i]);
	sqlite3_bind_double(st, at + 5, s->entropy[i]);
	sqlite3_bind_double(st, at + 6, s->confidence[i]);
	sqlite3_bind_double(st, at + 7, s->margin[i]);
	sqlite3_bind_int64(st, at + 8, (int64_t)s->n_margin[i]);
	sqlite3_bind_int64(st, at + 9, (int64_t)s->n_nan[i]);
	sqlite3_bind_int64(st, at + 10, (int64_t)s->n_edited[i]);
}

/* A row per layer, into load (level 0) or load_sum. */
static int write_sums(struct commit *c, const struct sums *s, int level)
{
	const struct layout *l = c->o.shape->lay;
	sqlite3_stmt *st = c->st[level ? ST_GROUP : ST_LOAD];
	int rc = 0;

	for (size_t i = 0; !rc && i < l->n; i++) {
		sqlite3_bind_int64(st, 1, c->o.run);
		sqlite3_bind_int64(st, 2, s->domain);
		sqlite3_bind_int(st, 3, s->phase);
		sqlite3_bind_int64(st, 4, s->bucket);
		sqlite3_bind_int(st, 5, l->layer[i].layer);
		bind_sums(st, 6, l, s, i);
		if (level)
			sqlite3_bind_int(st, 17, level);
		rc = run_stmt(st);
	}
	return rc;
}

/* Sum up the sixteen rows of the level below for one group, domain and phase. */
static int write_group(struct commit *c, int level, int64_t group, int64_t domain, uint8_t phase)
{
	const struct layout *l = c->o.shape->lay;
	sqlite3_stmt *st = c->st[level == 1 ? ST_LOAD_GET : ST_GROUP_GET];
	struct sums *s = c->group;
	size_t n = 0;
	int rc;

	memset(s + 1, 0, sums_bytes(l) - sizeof *s);
	s->domain = domain;
	s->phase = phase;
	s->bucket = group;
	sqlite3_bind_int64(st, 1, c->o.run);
	sqlite3_bind_int64(st, 2, domain);
	sqlite3_bind_int(st, 3, phase);
	sqlite3_bind_int64(st, 4, group * 16);
	sqlite3_bind_int64(st, 5, group * 16 + 16);
	if (level > 1)
		sqlite3_bind_int(st, 6, level - 1);
	rc = add_rows(c, st, s, &n);
	return rc || !n ? rc : write_sums(c, s, level);
}

/* Groups of buckets that nothing will be added to any more: a decision may come from the bucket
 * before the newest, hardly from an older one; sums_of() sets `summed` back then. Reads what this
 * transaction has written, so it comes after load. */
static int write_groups(struct commit *c)
{
	int64_t done = c->summed;
	int rc = 0;

	for (int n = 0; !rc && n < GROUPS_AT_ONCE && done + 16 < c->newest; n++) {
		done += 16;
		for (int level = 1; !rc && level <= LEVELS && done % (INT64_C(1) << 4 * level) == 0; level++)
			for (size_t d = 0; !rc && d <= c->n_domain; d++)
				for (uint8_t phase = 0; !rc && phase < 2; phase++)
					rc = write_group(c, level, (done >> 4 * level) - 1,
						d ? c->domain[d - 1].id : 0, phase);
	}
	c->summed_next = done;
	if (rc || done == c->summed_saved)
		return rc;
	sqlite3_bind_int64(c->st[ST_SUMMED], 1, c->o.run);
	sqlite3_bind_int64(c->st[ST_SUMMED], 2, done);
	return run_stmt(c->st[ST_SUMMED]);
}

static int write_note(struct commit *c, const struct note_row *n)
{
	sqlite3_stmt *st = c->st[ST_NOTE];

	sqlite3_bind_int64(st, 1, c->o.run);
	sqlite3_bind_int64(st, 2, n->time);
	sqlite3_bind_text(st, 3, n->kind, -1, SQLITE_STATIC);
	if (n->sequence) {
		sqlite3_bind_int64(st, 4, n->sequence);
		sqlite3_bind_int64(st, 5, n->pos);
	}
	if (n->layer >= 0)
		sqlite3_bind_int(st, 6, n->layer);
	if (n->has_value)
		sqlite3_bind_double(st, 7, n->value);
	if (n->text)
		sqlite3_bind_text(st, 8, n->text, -1, SQLITE_STATIC);
	return run_stmt(st);
}

static int write_pace(struct commit *c, const struct pace_row *p)
{
	sqlite3_stmt *st = c->st[ST_PACE];
	int rc;

	sqlite3_bind_int64(st, 1, c->o.run);
	sqlite3_bind_int(st, 2, p->phase);
	sqlite3_bind_int64(st, 3, p->bucket);
	sqlite3_bind_int64(st, 4, (int64_t)p->tokens);
	sqlite3_bind_int64(st, 5, (int64_t)p->busy_ns);
	sqlite3_bind_int64(st, 6, (int64_t)p->batches);
	rc = run_stmt(st);
	if (rc || !(p->cache.hits + p->cache.misses))
		return rc;
	st = c->st[ST_CACHE];
	sqlite3_bind_int64(st, 1, c->o.run);
	sqlite3_bind_int(st, 2, p->phase);
	sqlite3_bind_int64(st, 3, p->bucket);
	sqlite3_bind_int64(st, 4, (int64_t)p->cache.hits);
	sqlite3_bind_int64(st, 5, (int64_t)p->cache.misses);
	sqlite3_bind_int64(st, 6, (int64_t)p->cache.bytes);
	sqlite3_bind_int64(st, 7, (int64_t)p->cache.stall_ns);
	return run_stmt(st);
}

/* ---- the sink ---- */

static int say_begun(struct commit *c, const struct seq_row *q)
{
	struct sink_seq info = { .seq = q->seq, .name = q->name };

	for (size_t i = 0; q->domain && i < c->n_domain; i++)
		if (c->domain[i].id == q->domain)
			info.domain = c->domain[i].name;
	return q->saved ? 0 : tell_seq_begin(&c->tell, &info);
}

static int say_ended(struct commit *c, const struct seq_row *q)
{
	const struct sink_seq info = { .seq = q->seq, .n_prompt = q->n_prompt,
		.n_generated = q->n_generated, .n_scored = q->n_scored, .n_bytes = q->n_bytes, .nll = q->nll };

	return q->ended ? tell_seq_end(&c->tell, &info) : 0;
}

/* ---- one transaction ---- */

static int write_all(struct commit *c, size_t n)
{
	int rc = run_stmt(c->st[ST_BEGIN]);
	size_t i;

	c->tell.err.msg[0] = 0;
	rc = rc ? rc : tell_begin(&c->tell);
	if (!rc)
		rc = write_domains(c);
	for (i = 0; !rc && i < c->n_seq; i++)
		if (c->seq[i].dirty || !c->seq[i].saved) {
			rc = write_sequence(c, &c->seq[i]);
			rc = rc ? rc : say_begun(c, &c->seq[i]);
		}
	for (i = 0; !rc && i < n; i++) {
		struct block_head *h = ring_at(c->o.ring, i);

		if (!h->is_chunk)
			rc = write_tokens(c, h);
		else if (c->o.detail != MOE_DETAIL_COUNTS)
			rc = write_chunk(c, h);
		if (!rc && h->is_chunk)
			rc = tell_chunk(&c->tell, h, &c->last);
	}
	for (i = 0; !rc && i < c->n_sums; i++)
		if (c->sums[i]->dirty)
			rc = write_sums(c, c->sums[i], 0);
	if (!rc)
		rc = write_groups(c);
	for (i = 0; !rc && i < 4; i++)
		if (c->pace[i].dirty)
			rc = write_pace(c, &c->pace[i]);
	for (i = 0; !rc && i < c->n_note; i++) {
		const struct note_row *x = &c->note[i];

		rc = write_note(c, x);
		rc = rc ? rc : tell_note(&c->tell, x->kind, x->text, x->layer, x->has_value ? x->value : 0,
			x->seq, x->pos);
	}
	for (i = 0; !rc && i < c->n_seq; i++)
		rc = say_ended(c, &c->seq[i]);
	if (!rc) {
		sqlite3_bind_int64(c->st[ST_BEAT], 1, c->o.run);
		sqlite3_bind_int64(c->st[ST_BEAT], 2, clock_wall());
		sqlite3_bind_int64(c->st[ST_BEAT], 3, c->lag);
		rc = run_stmt(c->st[ST_BEAT]);
	}
	rc = rc ? rc : tell_tick(&c->tell);
	return rc ? rc : run_stmt(c->st[ST_COMMIT]);
}

/* ---- settle: what is on disk can be forgotten ---- */

static void clear_notes(struct commit *c)
{
	for (size_t i = 0; i < c->n_note; i++)
		free(c->note[i].text);
	free(c->note);
	c->note = NULL;
	c->n_note = 0;
}

static void settle(struct commit *c)
{
	size_t i, k;

	c->summed = c->summed_saved = c->summed_next;
	for (i = 0; i < c->n_domain; i++)
		c->domain[i].saved = 1;
	for (i = k = 0; i < c->n_seq; i++) {
		struct seq_row *q = &c->seq[i];

		free(q->name);
		q->name = NULL;
		q->saved = 1;
		q->dirty = 0;
		if (!q->ended)
			c->seq[k++] = *q;
	}
	c->n_seq = k;
	for (i = k = 0; i < c->n_sums; i++) {
		c->sums[i]->dirty = 0;
		if (c->sums[i]->bucket < c->newest)
			sums_free(c->sums[i]);
		else
			c->sums[k++] = c->sums[i];
	}
	c->n_sums = k;
	for (i = 0; i < 4; i++)
		c->pace[i].dirty = 0;
	clear_notes(c);
}

/* ---- the thread ---- */

static void give_up(struct commit *c, const struct moe_err *e)
{
	pthread_mutex_lock(&c->lock);
	if (!atomic_load(&c->failed))
		c->err = *e;
	atomic_store(&c->failed, 1);
	pthread_mutex_unlock(&c->lock);
	ring_stop(c->o.ring);
}

/* Write what is prepared until it is committed, or until waiting makes no sense. */
static int write_patiently(struct commit *c, size_t n, struct moe_err *e)
{
	int64_t first = clock_mono();

	for (;;) {
		int rc = write_all(c, n), kind = rc & 0xff, closing;

		if (!rc) {
			tell_settled(&c->tell);
			return 0;
		}
		err_set(e, MOE_ERR_SYS, "committing to %s: %s", sqlite3_db_filename(c->o.db, "main"),
			c->tell.err.msg[0] ? c->tell.err.msg : sqlite3_errmsg(c->o.db));
		if (!sqlite3_get_autocommit(c->o.db))
			sqlite3_exec(c->o.db, "ROLLBACK", NULL, NULL, NULL);
		closing = ring_closed(c->o.ring);
		if (kind == SQLITE_BUSY || kind == SQLITE_LOCKED) {
			if ((!c->o.drop || closing) && clock_mono() - first > BUSY_LIMIT_NS)
				return -1;
		} else if (kind != SQLITE_FULL || !c->o.drop || closing) {
			return -1;
		}
		sqlite3_sleep(RETRY_MS);
	}
}

/* Move committed pages into the main file; a reader with an old snapshot only delays it. */
static int checkpoint(struct commit *c, struct moe_err *e)
{
	struct note_row n = { .time = run_time(c, clock_mono()), .layer = -1, .kind = "wal",
		.has_value = 1 };
	int pages = 0, moved = 0;

	if (c->wal_pages < WAL_CHECKPOINT_BYTES / c->page_bytes)
		return 0;
	sqlite3_wal_checkpoint_v2(c->o.db, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &moved);
	if (pages > WAL_WARN_BYTES / c->page_bytes && moved < pages && !c->wal_warned) {
		c->wal_warned = 1;
		n.value = pages;
		return add_note(c, &n, "a reader's snapshot keeps `value` pages in the write-ahead log", 100,
			e);
	}
	return 0;
}

static int on_wal(void *arg, sqlite3 *db, const char *name, int pages)
{
	(void)db, (void)name;
	((struct commit *)arg)->wal_pages = pages;
	return SQLITE_OK;
}

/* Blocks to take now: waits for a first one, then a little for more so that they share a commit. */
static size_t gather(struct commit *c)
{
	int64_t now = clock_mono(), due;
	size_t n = ring_wait(c->o.ring, 1, c->beat + HEARTBEAT_NS - now);

	if (!n || ring_closed(c->o.ring))
		return n;
	due = ((struct block_head *)ring_at(c->o.ring, 0))->time + c->o.commit_ns;
	return ring_wait(c->o.ring, ring_blocks(c->o.ring) / 2, due - clock_mono());
}

static void *work(void *arg)
{
	struct commit *c = arg;
	struct moe_err e = { 0 };

	for (;;) {
		int closed = ring_closed(c->o.ring);
		size_t n = gather(c), take = n < 256 ? n : 256;
		int64_t now = clock_mono();

		if (!n && closed && c->beat)
			return NULL;
		if (!n && now - c->beat < HEARTBEAT_NS)
			continue;
		if (prepare(c, take, now, &e) || write_patiently(c, take, &e)) {
			give_up(c, &e);
			return NULL;
		}
		settle(c);
		for (size_t i = 0; i < take; i++) {
			const struct block_head *h = ring_at(c->o.ring, i);

			if (h->is_chunk)
				atomic_fetch_add(&c->tokens, h->n);
		}
		c->beat = clock_mono();
		ring_release(c->o.ring, take);
		if (checkpoint(c, &e)) {
			give_up(c, &e);
			return NULL;
		}
	}
}

/* ---- start and finish ---- */

static int load_known(struct commit *c, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int rc;

	if (sqlite3_prepare_v2(c->o.db, "SELECT (SELECT coalesce(max(id), 0) + 1 FROM sequence), "
		"(SELECT coalesce(max(id), 0) + 1 FROM domain), page_size FROM pragma_page_size",
		-1, &st, NULL) ||
		sqlite3_step(st) != SQLITE_ROW)
		goto fail;
	c->next_sequence = sqlite3_column_int64(st, 0);
	c->next_domain = sqlite3_column_int64(st, 1);
	c->page_bytes = sqlite3_column_int(st, 2);
	sqlite3_finalize(st);
	st = NULL;
	if (sqlite3_prepare_v2(c->o.db, "SELECT id, name FROM domain", -1, &st, NULL))
		goto fail;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct domain_row *d = grown(c->domain, c->n_domain, sizeof *d, e);

		if (!d) {
			sqlite3_finalize(st);
			return -1;
		}
		c->domain = d;
		d += c->n_domain++;
		d->id = sqlite3_column_int64(st, 0);
		d->saved = 1;
		snprintf(d->name, sizeof d->name, "%s", (const char *)sqlite3_column_text(st, 1));
	}
	if (rc != SQLITE_DONE)
		goto fail;
	sqlite3_finalize(st);
	return 0;
fail:
	err_set(e, MOE_ERR_SYS, "reading the database: %s", sqlite3_errmsg(c->o.db));
	sqlite3_finalize(st);
	return -1;
}

static void commit_free(struct commit *c)
{
	size_t i;

	for (i = 0; i < ST_COUNT; i++)
		sqlite3_finalize(c->st[i]);
	for (i = 0; i < c->n_seq; i++)
		free(c->seq[i].name);
	for (i = 0; i < c->n_sums; i++)
		sums_free(c->sums[i]);
	clear_notes(c);
	free(c->seq);
	free(c->domain);
	free(c->sums);
	free(c->rows);
	free(c->packed);
	tell_free(&c->tell);
	sums_free(c->group);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Scratch for the blobs of the largest chunk. */
static int packed_room(struct commit *c, struct moe_err *e)
{
	const struct layout *l = c->o.shape->lay;
	size_t n = c->o.shape->cap, ids = pack_experts_bytes(l, n) + 8, bytes;

	c->at_weights = ids;
	c->at_margins = c->at_weights + pack_weights_most(l, n);
	c->at_flags = c->at_margins + pack_margins_most(l, n);
	c->at_before = c->at_flags + n * l->n;
	bytes = c->at_before + ids;
	c->packed = malloc(bytes);
	if (!c->packed)
		return err_nomem(e, bytes, "a packed chunk");
	bytes = n * l->e_row * sizeof *c->rows;
	if (c->o.detail == MOE_DETAIL_FULL && !(c->rows = malloc(bytes)))
		return err_nomem(e, bytes, "a chunk's logits");
	return tell_init(&c->tell, c->o.sink, c->o.db, c->o.shape, c->o.detail, c->o.weights, e);
}

struct commit *commit_start(const struct commit_opt *o, struct moe_err *e)
{
	struct commit *c = calloc(1, sizeof *c);
	int rc;

	if (!c) {
		err_nomem(e, sizeof *c, "the writer");
		return NULL;
	}
	c->o = *o;
	pthread_mutex_init(&c->lock, NULL);
	c->group = sums_new(o->shape->lay);
	if (!c->group) {
		err_nomem(e, sums_bytes(o->shape->lay), "the writer");
		goto fail;
	}
	if (packed_room(c, e))
		goto fail;
	for (size_t i = 0; i < ST_COUNT; i++)
		if (sqlite3_prepare_v3(o->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &c->st[i], NULL)) {
			err_set(e, sqlite3_errcode(o->db) == SQLITE_NOMEM ? MOE_ERR_SYS : MOE_ERR_INPUT,
				"preparing a statement: %s", sqlite3_errmsg(o->db));
			goto fail;
		}
	if (load_known(c, e))
		goto fail;
	sqlite3_busy_timeout(o->db, 1000);
	sqlite3_wal_hook(o->db, on_wal, c); /* in place of SQLite's own automatic checkpoint */
	rc = pthread_create(&c->thread, NULL, work, c);
	if (rc) {
		err_set(e, MOE_ERR_SYS, "starting the writer's thread: %s", strerror(rc));
		goto fail;
	}
	return c;
fail:
	commit_free(c);
	return NULL;
}

uint64_t commit_tokens(const struct commit *c)
{
	return atomic_load(&c->tokens);
}

int commit_failed(struct commit *c, struct moe_err *e)
{
	if (!atomic_load(&c->failed))
		return 0;
	pthread_mutex_lock(&c->lock);
	*e = c->err;
	pthread_mutex_unlock(&c->lock);
	return 1;
}

/* The run's last row, together with what the sink has to say. -1 with e filled in. */
static int end_run(struct commit *c, const char *state, struct moe_err *e)
{
	sqlite3 *db = c->o.db;
	int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	c->tell.err.msg[0] = 0;
	rc = rc ? rc : tell_begin(&c->tell);
	sqlite3_bind_int64(c->st[ST_END], 1, c->o.run);
	sqlite3_bind_text(c->st[ST_END], 2, state, -1, SQLITE_STATIC);
	sqlite3_bind_int64(c->st[ST_END], 3, clock_wall());
	rc = rc ? rc : run_stmt(c->st[ST_END]);
	rc = rc ? rc : tell_finish(&c->tell, state);
	rc = rc ? rc : sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	if (rc) {
		err_set(e, MOE_ERR_SYS, "ending the run: %s", c->tell.err.msg[0] ? c->tell.err.msg :
			sqlite3_errmsg(db));
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
		return -1;
	}
	tell_settled(&c->tell);
	return 0;
}

int commit_finish(struct commit *c, enum moe_run_state state, struct moe_err *e)
{
	static const char *const name[] = { "live", "done", "failed", "imported" };
	sqlite3 *db = c->o.db;
	int bad;

	pthread_join(c->thread, NULL);
	bad = commit_failed(c, e);
	sqlite3_wal_hook(db, NULL, NULL);
	bad = end_run(c, name[bad ? MOE_RUN_FAILED : state], bad ? NULL : e) || bad;
	commit_free(c);
	/* After this a finished database is one plain file that can be read from anywhere and that
	 * readers leave no files beside; while a reader has it open it stays in WAL mode. */
	sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite3_busy_timeout(db, 0);
	sqlite3_exec(db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
	return bad ? -1 : 0;
}
