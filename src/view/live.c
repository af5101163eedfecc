/*
 * live.c - see live.h.
 *
 * `total` is always the sum over the filter's buckets as of chunk `seen`. `key` holds the rows of
 * `load` of the newest buckets one (domain, phase, bucket) at a time, as they went into `total`:
 * when a chunk touches one, it is read again and the difference is added. Buckets older than the
 * one before the newest have no key: nothing is expected there, and a chunk that comes nevertheless
 * voids all.
 */
#include "view/live.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

enum { KEYS_MOST = 512, NEW_MOST = 4096 }; /* more chunks at once: reading everything is cheaper */
#define KEYS_BYTES ((size_t)64 << 20)

struct key {
	int64_t domain, bucket;
	int phase, touched;
	struct load_set set;
};

/* Busy time of a phase, summed over buckets from..till-1. */
struct pace_sum {
	int64_t run, from, till;
	struct pace_info sum;
};

struct view_live {
	struct run_info *run;           /* NULL = nothing known */
	struct domain_info *domain;
	size_t n_domain;
	int64_t run_read, run_cost;     /* monotonic time, ns */
	struct load_filter f;           /* of total */
	int valid;
	struct load_set total;
	struct key key[KEYS_MOST];
	size_t n_key;
	int64_t seen, newest;           /* chunk id; bucket */
	int read;
	struct pace_sum pace[2];
};

struct view_live *view_live_new(struct moe_err *e)
{
	struct view_live *v = calloc(1, sizeof *v);

	if (!v)
		err_nomem(e, sizeof *v, "a live run");
	return v;
}

static void drop_keys(struct view_live *v, int64_t before)
{
	size_t n = 0;

	for (size_t i = 0; i < v->n_key; i++)
		if (v->key[i].bucket < before)
			load_set_free(&v->key[i].set);
		else
			v->key[n++] = v->key[i];
	v->n_key = n;
}

static void forget_load(struct view_live *v)
{
	drop_keys(v, INT64_MAX);
	load_set_free(&v->total);
	v->valid = 0;
}

void view_live_forget(struct view_live *v)
{
	forget_load(v);
	free(v->run);
	free(v->domain);
	v->run = NULL;
	v->domain = NULL;
	memset(v->pace, 0, sizeof v->pace);
}

void view_live_free(struct view_live *v)
{
	if (!v)
		return;
	view_live_forget(v);
	free(v);
}

int view_live_read(const struct view_live *v)
{
	return v->read;
}

/* ---- the run ---- */

/* What a heartbeat changes, and whether there is a newer run: 1 = the run known is the one asked
 * for, 0 = it is not, -1. */
static int beat(struct view_live *v, struct reader *r, int64_t run, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "a run", "SELECT id, state, ended, heartbeat, lag_ns, "
		"bucket_ns, started FROM run WHERE ?1 = 0 OR id = ?1 ORDER BY id DESC LIMIT 1", e);
	struct run_info *u = v->run;
	int rc, same = 0;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, run);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW && sqlite3_column_int64(st, 0) == u->id) {
		const unsigned char *state = sqlite3_column_text(st, 1);

		same = state && !strcmp((const char *)state, u->state) &&
			sqlite3_column_int64(st, 5) == u->bucket_ns &&
			sqlite3_column_int64(st, 6) == u->started;
		u->ended = sqlite3_column_int64(st, 2);
		u->heartbeat = sqlite3_column_int64(st, 3);
		u->lag_ns = sqlite3_column_int64(st, 4);
		u->alive = !strcmp(u->state, "live") && clock_wall() - u->heartbeat < INT64_C(5000000000);
	} else if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
		same = reader_fail(r, "a run", e);
	}
	sqlite3_finalize(st);
	return same;
}

static int read_run(struct view_live *v, struct reader *r, int64_t run, struct moe_err *e)
{
	int64_t start = clock_mono();
	struct domain_info *d = NULL;
	struct run_info *u = malloc(sizeof *u);
	size_t n = 0;

	if (!u)
		return err_nomem(e, sizeof *u, "a run");
	if (reader_run(r, run, u, e) || reader_domains(r, u->id, &d, &n, e)) {
		free(u);
		return -1;
	}
	if (v->run && (v->run->id != u->id || v->run->model != u->model))
		view_live_forget(v);
	free(v->run);
	free(v->domain);
	v->run = u;
	v->domain = d;
	v->n_domain = n;
	v->run_read = clock_mono();
	v->run_cost = v->run_read - start;
	return 0;
}

int view_live_run(struct view_live *v, struct reader *r, int64_t run, double share,
	const struct run_info **out, const struct domain_info **domain, size_t *n_domain,
	struct moe_err *e)
{
	int same = v->run ? beat(v, r, run, e) : 0;

	if (same < 0)
		return -1;
	if ((!same || (double)v->run_cost <= share * (double)(clock_mono() - v->run_read)) &&
	    read_run(v, r, run, e))
		return -1;
	*out = v->run;
	*domain = v->domain;
	*n_domain = v->n_domain;
	return 0;
}

/* ---- load ---- */

static void add(struct load_set *to, const struct load_set *x, int sign)
{
	for (size_t i = 0; i < to->n && i < x->n; i++) {
		struct layer_load *a = &to->layer[i];
		const struct layer_load *b = &x->layer[i];
		uint64_t s = sign < 0 ? UINT64_MAX : 1; /* modulo 2^64 a subtraction, too */

		for (size_t k = 0; k < a->n_expert; k++) {
			a->counts[k] += s * b->counts[k];
			a->weights[k] += sign * b->weights[k];
			a->probs[k] += sign * b->probs[k];
		}
		a->tokens += s * b->tokens;
		a->n_margin += s * b->n_margin;
		a->n_nan += s * b->n_nan;
		a->n_edited += s * b->n_edited;
		a->lse2 += sign * b->lse2;
		a->entropy += sign * b->entropy;
		a->confidence += sign * b->confidence;
		a->margin += sign * b->margin;
	}
}

static int copy(struct load_set *out, const struct load_set *x, struct moe_err *e)
{
	memset(out, 0, sizeof *out);
	out->layer = calloc(x->n ? x->n : 1, sizeof *out->layer);
	for (; out->layer && out->n < x->n; out->n++) {
		struct layer_load *a = &out->layer[out->n];
		size_t n = x->layer[out->n].n_expert;

		*a = x->layer[out->n];
		a->counts = malloc(n * sizeof *a->counts);
		a->weights = malloc(n * sizeof *a->weights);
		a->probs = malloc(n * sizeof *a->probs);
		if (!a->counts || !a->weights || !a->probs) {
			out->n++;
			break;
		}
		memcpy(a->counts, x->layer[out->n].counts, n * sizeof *a->counts);
		memcpy(a->weights, x->layer[out->n].weights, n * sizeof *a->weights);
		memcpy(a->probs, x->layer[out->n].probs, n * sizeof *a->probs);
	}
	if (out->layer && out->n == x->n)
		return 0;
	load_set_free(out);
	return err_nomem(e, x->n * sizeof *out->layer, "load sums");
}

static int selects(const struct load_filter *f, int64_t domain, int phase, int64_t bucket)
{
	return (f->domain < 0 || f->domain == domain) && (f->phase < 0 || f->phase == phase) &&
		(f->bucket0 >= f->bucket1 || (bucket >= f->bucket0 && bucket < f->bucket1));
}

static struct key *find_key(struct view_live *v, int64_t domain, int phase, int64_t bucket)
{
	for (size_t i = 0; i < v->n_key; i++)
		if (v->key[i].domain == domain && v->key[i].phase == phase && v->key[i].bucket == bucket)
			return &v->key[i];
	return NULL;
}

/* Read a key's rows and bring `total` up to date; a new key was all zeros. */
static int read_key(struct view_live *v, struct reader *r, struct key *k, struct moe_err *e)
{
	struct load_filter f = { .run = v->f.run, .domain = k->domain, .phase = k->phase,
		.bucket0 = k->bucket, .bucket1 = k->bucket + 1 };
	struct load_set s = { 0 };

	if (reader_load(r, &f, &s, e))
		return -1;
	add(&v->total, &k->set, -1);
	add(&v->total, &s, 1);
	load_set_free(&k->set);
	k->set = s;
	k->touched = 0;
	v->read++;
	return 0;
}

/* A key for rows that are not in `total` yet; NULL = too many. */
static struct key *new_key(struct view_live *v, int64_t domain, int phase, int64_t bucket)
{
	size_t bytes = 0;

	for (size_t i = 0; i < v->total.n; i++)
		bytes += v->total.layer[i].n_expert * (size_t)24;
	if (v->n_key == KEYS_MOST || (v->n_key + 1) * bytes > KEYS_BYTES)
		return NULL;
	v->key[v->n_key] = (struct key){ .domain = domain, .phase = phase, .bucket = bucket };
	return &v->key[v->n_key++];
}

/* Keys with rows in buckets from..end-1. */
static int read_keys(struct view_live *v, struct reader *r, int64_t from, int64_t end, int *plain,
	struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "load", "SELECT d.id, p.id FROM (SELECT 0 AS id UNION ALL "
		"SELECT id FROM domain) d, (SELECT 0 AS id UNION ALL SELECT 1) p WHERE EXISTS (SELECT 1 "
		"FROM load WHERE run = ?1 AND domain = d.id AND phase = p.id AND bucket = ?2)", e);
	int rc = SQLITE_DONE;

	if (!st)
		return -1;
	for (; from < end && rc == SQLITE_DONE; from++) {
		sqlite3_bind_int64(st, 1, v->f.run);
		sqlite3_bind_int64(st, 2, from);
		while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
			int64_t domain = sqlite3_column_int64(st, 0);
			int phase = sqlite3_column_int(st, 1);
			struct key *k;

			if (!selects(&v->f, domain, phase, from))
				continue;
			k = new_key(v, domain, phase, from);
			*plain |= !k;
			if (!k || read_key(v, r, k, e))
				goto out;
		}
		if (rc != SQLITE_DONE)
			reader_fail(r, "load", e);
		sqlite3_reset(st);
	}
out:
	sqlite3_finalize(st);
	return rc == SQLITE_DONE || *plain ? 0 : -1;
}

/* All of the filter: what is older than the bucket before the newest in one sum,
 * the rest by key. */
static int read_all(struct view_live *v, struct reader *r, const struct load_filter *f,
	struct moe_err *e)
{
	int window = f->bucket0 < f->bucket1, plain = 0;
	struct load_filter old = *f;
	int64_t n = 0, lo = window ? f->bucket0 : 0, from, end;

	forget_load(v);
	v->f = *f;
	v->read = -1;
	if (reader_int(r, "chunks", "SELECT coalesce(max(id), 0) FROM chunk WHERE run = ?", f->run,
	    &v->seen, e))
		return -1;
	if (!v->seen || strcmp(v->run->state, "live"))
		return reader_load(r, f, &v->total, e);
	if (reader_n_buckets(r, f->run, &n, e))
		return -1;
	v->newest = n - 1;
	end = window && f->bucket1 < n ? f->bucket1 : n;
	from = n - 2 < lo ? lo : n - 2;
	from = from < end ? from : end;
	old.bucket0 = lo < from ? lo : INT64_MAX - 1; /* nothing is old: zeros of the right shape */
	old.bucket1 = lo < from ? from : INT64_MAX;
	if (reader_load(r, &old, &v->total, e) || read_keys(v, r, from, end, &plain, e))
		return -1;
	v->read = -1;
	if (plain) { /* a model too large to keep keys of */
		forget_load(v);
		return reader_load(r, f, &v->total, e);
	}
	v->valid = 1;
	return 0;
}

/* Keys that chunks behind `seen` went into: 1, 0 = that cannot be told, -1. */
static int touch(struct view_live *v, struct reader *r, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "chunks", "SELECT c.id, coalesce(s.domain, 0), c.phase, "
		"c.time FROM chunk c JOIN sequence s ON s.id = c.sequence WHERE c.run = ?1 AND c.id > ?2 "
		"ORDER BY c.id LIMIT ?3", e);
	int rc = SQLITE_DONE, n = 0, can = 1;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, v->f.run);
	sqlite3_bind_int64(st, 2, v->seen);
	sqlite3_bind_int(st, 3, NEW_MOST);
	while (can && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		int64_t domain = sqlite3_column_int64(st, 1), time = sqlite3_column_int64(st, 3), bucket;
		int phase = sqlite3_column_int(st, 2);
		struct key *k;

		v->seen = sqlite3_column_int64(st, 0);
		bucket = time <= v->run->started || v->run->bucket_ns <= 0 ? 0 :
			(time - v->run->started) / v->run->bucket_ns;
		can = ++n < NEW_MOST && bucket >= v->newest - 1 && phase >= 0 && phase < 2;
		if (bucket > v->newest) {
			v->newest = bucket;
			drop_keys(v, bucket - 1);
		}
		if (!can || !selects(&v->f, domain, phase, bucket))
			continue;
		k = find_key(v, domain, phase, bucket);
		if (!k)
			k = new_key(v, domain, phase, bucket);
		if (k)
			k->touched = 1;
		can = k != NULL;
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? can : reader_fail(r, "chunks", e);
}

/* Does the filter ask for what `total` is, but for buckets at its ends? Those that it no longer
 * wants are taken away: 1, 0 = another selection, -1. */
static int slide(struct view_live *v, struct reader *r, const struct load_filter *f,
	struct moe_err *e)
{
	int whole = f->bucket0 >= f->bucket1, was = v->f.bucket0 >= v->f.bucket1;
	struct load_filter gone = v->f;
	struct load_set s = { 0 };

	if (f->run != v->f.run || f->domain != v->f.domain || f->phase != v->f.phase || whole != was)
		return 0;
	if (whole)
		return 1;
	/* an end beyond the newest bucket is open */
	if (f->bucket0 < v->f.bucket0 || (f->bucket1 != v->f.bucket1 &&
	    (f->bucket1 <= v->newest || v->f.bucket1 <= v->newest)) || f->bucket0 >= v->newest - 1)
		return 0;
	if (f->bucket0 > v->f.bucket0) {
		gone.bucket1 = f->bucket0;
		if (reader_load(r, &gone, &s, e))
			return -1;
		add(&v->total, &s, -1);
		load_set_free(&s);
		drop_keys(v, f->bucket0);
	}
	v->f = *f;
	return 1;
}

static int follow(struct view_live *v, struct reader *r, const struct load_filter *f,
	struct moe_err *e)
{
	int can = v->valid && v->run && !strcmp(v->run->state, "live") ? slide(v, r, f, e) : 0;

	if (can > 0)
		can = touch(v, r, e);
	if (can <= 0)
		return can < 0 ? -1 : read_all(v, r, f, e);
	v->read = 0;
	for (size_t i = 0; i < v->n_key; i++)
		if (v->key[i].touched && read_key(v, r, &v->key[i], e))
			return -1;
	return 0;
}

int view_live_load(struct view_live *v, struct reader *r, const struct load_filter *f,
	struct load_set *out, struct moe_err *e)
{
	int bad;

	memset(out, 0, sizeof *out);
	/* one state of the database: no chunk without its sums */
	if (sqlite3_exec(reader_db(r), "BEGIN", NULL, NULL, NULL))
		return reader_fail(r, "load", e);
	bad = follow(v, r, f, e);
	sqlite3_exec(reader_db(r), "COMMIT", NULL, NULL, NULL);
	if (bad)
		forget_load(v);
	return bad ? -1 : copy(out, &v->total, e);
}

/* ---- summary ---- */

static int add_pace(struct reader *r, int64_t run, int phase, int64_t from, int64_t till,
	struct pace_info *sum, int64_t *newest, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "speed", "SELECT total(tokens), total(busy_ns), "
		"total(batches), coalesce(max(bucket), 0) FROM pace WHERE run = ?1 AND phase = ?2 AND "
		"bucket >= ?3 AND bucket < ?4", e);
	int rc;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, run);
	sqlite3_bind_int(st, 2, phase);
	sqlite3_bind_int64(st, 3, from);
	sqlite3_bind_int64(st, 4, till);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		sum->tokens += (uint64_t)sqlite3_column_int64(st, 0);
		sum->busy_ns += (uint64_t)sqlite3_column_int64(st, 1);
		sum->batches += (uint64_t)sqlite3_column_int64(st, 2);
		*newest = sqlite3_column_int64(st, 3);
	} else {
		reader_fail(r, "speed", e);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : -1;
}

/* Rows older than the newest bucket but one are summed once. */
static int speed(struct view_live *v, struct reader *r, const struct load_filter *f, int phase,
	double *tps, struct moe_err *e)
{
	int window = f->bucket0 < f->bucket1;
	int64_t from = window ? f->bucket0 : 0, till = window ? f->bucket1 : INT64_MAX, newest;
	struct pace_sum *old = &v->pace[phase];
	struct pace_info p;

	if (old->run != f->run || old->from != from || old->till > till)
		*old = (struct pace_sum){ .run = f->run, .from = from, .till = from };
	p = old->sum;
	if (add_pace(r, f->run, phase, old->till, till, &p, &newest, e))
		return -1;
	*tps = p.tokens && p.busy_ns ? (double)p.tokens * 1e9 / (double)p.busy_ns : NAN;
	if (newest - 16 > old->till) {
		if (add_pace(r, f->run, phase, old->till, newest - 1, &old->sum, &(int64_t){ 0 }, e))
			return -1;
		old->till = newest - 1;
	}
	return 0;
}

static double bits_per_byte(double nll, uint64_t n_scored, uint64_t n_bytes)
{
	return n_scored && n_bytes ? nll / log(2) / (double)n_bytes : NAN;
}

int view_live_summary(struct view_live *v, struct reader *r, const struct load_filter *f,
	const struct load_set *load, struct view_summary *out, struct moe_err *e)
{
	memset(out, 0, sizeof *out);
	out->run = *v->run;
	if (speed(v, r, f, MOE_PREFILL, &out->prefill_tps, e) ||
	    speed(v, r, f, MOE_DECODE, &out->decode_tps, e) || reader_cache(r, f, &out->cache, e))
		return -1;
	out->bpb = f->domain < 0 ? bits_per_byte(v->run->nll, v->run->n_scored, v->run->n_bytes) : NAN;
	for (size_t i = 0; i < v->n_domain; i++) {
		const struct domain_info *d = &v->domain[i];

		out->n_domain += d->id != 0;
		if (d->id == f->domain)
			out->bpb = bits_per_byte(d->nll, d->n_scored, d->n_bytes);
	}
	view_summary_load(load, out);
	return 0;
}
