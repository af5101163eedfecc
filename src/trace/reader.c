/*
 * reader.c - identities and load counts of a moescope database; see reader.h.
 *
 * Every function prepares its statement, steps it to the end and finalizes it: no transaction and
 * no lock is left behind. Nothing in the file is trusted: text may hold anything (who prints it
 * escapes it), numbers are checked before they size or index anything.
 */
#include "trace/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "trace/dbfile.h"
#include "trace/layout.h"
#include "trace/schema.h"

#define ALIVE_NS INT64_C(5000000000)

struct reader {
	sqlite3 *db;
	int version; /* of the schema, when it was opened: what an older one lacks is not asked for */
};

struct reader *reader_open(const char *path, struct moe_err *e)
{
	struct reader *r = calloc(1, sizeof *r);

	if (!r) {
		err_nomem(e, sizeof *r, "a reader");
		return NULL;
	}
	r->db = dbfile_open_reader(path, e);
	r->version = r->db ? schema_check(r->db, path, e) : -1;
	if (r->version < 0 || routing_register(r->db, e)) {
		reader_close(r);
		return NULL;
	}
	return r;
}

void reader_close(struct reader *r)
{
	if (!r)
		return;
	sqlite3_close_v2(r->db);
	free(r);
}

int reader_version(const struct reader *r)
{
	return r->version;
}

sqlite3 *reader_db(struct reader *r)
{
	return r->db;
}

/* ---- helpers ---- */

int reader_fail(struct reader *r, const char *what, struct moe_err *e)
{
	int kind = sqlite3_errcode(r->db) & 0xff;

	return err_set(e, kind == SQLITE_BUSY || kind == SQLITE_NOMEM || kind == SQLITE_IOERR ?
		MOE_ERR_SYS : MOE_ERR_INPUT, "%s: reading %s: %s", sqlite3_db_filename(r->db, "main"), what,
		sqlite3_errmsg(r->db));
}

sqlite3_stmt *reader_prepare(struct reader *r, const char *what, const char *sql, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(r->db, sql, -1, &st, NULL))
		reader_fail(r, what, e);
	return st;
}

int reader_int(struct reader *r, const char *what, const char *sql, int64_t arg, int64_t *out,
	struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, what, sql, e);
	int rc;

	*out = 0;
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, arg);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(st, 0);
	else
		reader_fail(r, what, e);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : -1;
}

static void text(sqlite3_stmt *st, int col, char *out, size_t size)
{
	const unsigned char *s = sqlite3_column_text(st, col);

	snprintf(out, size, "%s", s ? (const char *)s : "");
}

static uint64_t whole(sqlite3_stmt *st, int col)
{
	return (uint64_t)sqlite3_column_int64(st, col);
}

/* Every row of st as an element of `size` bytes, malloced: fill() is given zeros. Finalizes st,
 * which may be NULL after an error of its own; after an error there is no row. */
static int take_rows(struct reader *r, const char *what, sqlite3_stmt *st, size_t size,
	void (*fill)(sqlite3_stmt *st, void *row), void **out, size_t *n, struct moe_err *e)
{
	char *rows = NULL, *more;
	int rc;

	*out = NULL;
	*n = 0;
	if (!st)
		return -1;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		more = *n & (*n - 1) ? rows : realloc(rows, (*n ? 2 * *n : 1) * size);
		if (!more) {
			err_nomem(e, (unsigned long long)(*n ? 2 * *n : 1) * size, "rows");
			break;
		}
		rows = more;
		memset(rows + *n * size, 0, size);
		fill(st, rows + (*n)++ * size);
	}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		reader_fail(r, what, e);
	sqlite3_finalize(st);
	if (rc == SQLITE_DONE) {
		*out = rows;
		return 0;
	}
	free(rows);
	*n = 0;
	return -1;
}

/* ---- identities ---- */

static int run_row(struct reader *r, int64_t run, struct run_info *o, struct moe_err *e)
{
#define RUN_COLS(more) "SELECT r.id, r.model, r.state, r.detail, r.command, " \
	"m.name, m.path, m.arch, m.quant, m.router, m.score, m.hash, r.engine, r.isa, m.tokenizer, " \
	more ", m.bytes, m.params, m.params_active, m.n_layer, m.n_vocab, m.n_ctx, r.threads, " \
	"r.batch, r.started, r.ended, r.heartbeat, r.bucket_ns, r.lag_ns " \
	"FROM run r JOIN model m ON m.id = r.model WHERE ?1 = 0 OR r.id = ?1 " \
	"ORDER BY r.id DESC LIMIT 1"
	sqlite3_stmt *st = reader_prepare(r, "run", r->version < 2 ? RUN_COLS("NULL, NULL") :
		RUN_COLS("r.weights, r.source"), e);
	int rc;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, run);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const struct { char *at; size_t size; } str[] = {
			{ o->state, sizeof o->state }, { o->detail, sizeof o->detail },
			{ o->command, sizeof o->command }, { o->model_name, sizeof o->model_name },
			{ o->model_path, sizeof o->model_path }, { o->arch, sizeof o->arch },
			{ o->quant, sizeof o->quant }, { o->router, sizeof o->router },
			{ o->score, sizeof o->score }, { o->hash, sizeof o->hash },
			{ o->engine, sizeof o->engine }, { o->isa, sizeof o->isa },
			{ o->tokenizer, sizeof o->tokenizer }, { o->weights, sizeof o->weights },
			{ o->source, sizeof o->source },
		};
		uint64_t *const num[] = { &o->model_bytes, &o->n_params, &o->n_params_active };
		uint32_t *const small[] = { &o->n_layer, &o->n_vocab, &o->n_ctx, &o->n_threads,
			&o->n_batch };
		int64_t *const when[] = { &o->started, &o->ended, &o->heartbeat, &o->bucket_ns,
			&o->lag_ns };
		int i, col = 2;

		o->id = sqlite3_column_int64(st, 0);
		o->model = sqlite3_column_int64(st, 1);
		for (i = 0; i < 15; i++)
			text(st, col++, str[i].at, str[i].size);
		if (!*o->weights)
			strcpy(o->weights, "exact");
		for (i = 0; i < 3; i++)
			*num[i] = whole(st, col++);
		for (i = 0; i < 5; i++)
			*small[i] = (uint32_t)sqlite3_column_int64(st, col++);
		for (i = 0; i < 5; i++)
			*when[i] = sqlite3_column_int64(st, col++);
	} else if (rc == SQLITE_DONE) {
		if (run)
			err_set(e, MOE_ERR_INPUT, "no run %lld in %s", (long long)run,
				sqlite3_db_filename(r->db, "main"));
		else
			err_set(e, MOE_ERR_INPUT, "no run in %s", sqlite3_db_filename(r->db, "main"));
	} else {
		reader_fail(r, "run", e);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : -1;
}

static int run_sums(struct reader *r, struct run_info *o, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "sequence", "SELECT count(*), total(ended IS NULL), "
		"total(n_prompt), total(n_generated), total(nll), total(n_scored), total(n_bytes), "
		"(SELECT total(value) FROM event WHERE run = ?1 AND kind = 'gap') "
		"FROM sequence WHERE run = ?1", e);
	int rc;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, o->id);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		o->n_seq = whole(st, 0);
		o->n_seq_open = whole(st, 1);
		o->n_prompt = whole(st, 2);
		o->n_generated = whole(st, 3);
		o->nll = sqlite3_column_double(st, 4);
		o->n_scored = whole(st, 5);
		o->n_bytes = whole(st, 6);
		o->n_gap = whole(st, 7);
	} else {
		reader_fail(r, "sequence", e);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : -1;
}

int reader_run(struct reader *r, int64_t run, struct run_info *out, struct moe_err *e)
{
	struct layout lay;

	memset(out, 0, sizeof *out);
	if (run_row(r, run, out, e) || layout_load(&lay, r->db, out->model, e))
		return -1;
	out->n_moe_layer = (uint32_t)lay.n;
	memcpy(out->layers, lay.layer, lay.n * sizeof *lay.layer);
	layout_free(&lay);
	out->alive = !strcmp(out->state, "live") && clock_wall() - out->heartbeat < ALIVE_NS;
	return run_sums(r, out, e);
}

static void fill_id(sqlite3_stmt *st, void *row)
{
	*(int64_t *)row = sqlite3_column_int64(st, 0);
}

int reader_runs(struct reader *r, int64_t **ids, size_t *n, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "run", "SELECT id FROM run ORDER BY id", e);
	void *rows;
	int bad = take_rows(r, "run", st, sizeof **ids, fill_id, &rows, n, e);

	*ids = rows;
	return bad;
}

static void fill_domain(sqlite3_stmt *st, void *row)
{
	struct domain_info *p = row;

	p->id = sqlite3_column_int64(st, 0);
	text(st, 1, p->name, sizeof p->name);
	p->n_seq = whole(st, 2);
	p->n_tokens = whole(st, 3);
	p->nll = sqlite3_column_double(st, 4);
	p->n_scored = whole(st, 5);
	p->n_bytes = whole(st, 6);
}

int reader_domains(struct reader *r, int64_t run, struct domain_info **out, size_t *n,
	struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "domain", "SELECT coalesce(s.domain, 0), coalesce(d.name, "
		"''), count(*), total(s.n_prompt) + total(s.n_generated), total(s.nll), total(s.n_scored), "
		"total(s.n_bytes) FROM sequence s LEFT JOIN domain d ON d.id = s.domain WHERE s.run = ? "
		"GROUP BY 1 ORDER BY 2, 1", e);
	void *rows;
	int bad;

	sqlite3_bind_int64(st, 1, run);
	bad = take_rows(r, "domain", st, sizeof **out, fill_domain, &rows, n, e);
	*out = rows;
	return bad;
}

int reader_token(struct reader *r, int64_t model, int32_t token, char *buf, size_t size,
	int *len, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "token", "SELECT bytes FROM token WHERE model = ? AND id "
		"= ?", e);
	int rc;

	*len = -1;
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, model);
	sqlite3_bind_int(st, 2, token);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const void *p = sqlite3_column_blob(st, 0);
		size_t n = (size_t)sqlite3_column_bytes(st, 0);

		n = n < size ? n : size;
		if (n)
			memcpy(buf, p, n);
		*len = (int)n;
	} else if (rc != SQLITE_DONE) {
		reader_fail(r, "token", e);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : -1;
}

/* ---- load ---- */

#define FILTER " WHERE run = ?1 AND (?2 < 0 OR phase = ?2) AND (?3 >= ?4 OR (bucket >= ?3 AND " \
	"bucket < ?4))"

static void bind_filter(sqlite3_stmt *st, const struct load_filter *f)
{
	sqlite3_bind_int64(st, 1, f->run);
	sqlite3_bind_int(st, 2, f->phase);
	sqlite3_bind_int64(st, 3, f->bucket0);
	sqlite3_bind_int64(st, 4, f->bucket1);
}

int load_set_init(struct load_set *s, const struct moe_layer_desc *layer, size_t n,
	struct moe_err *e)
{
	memset(s, 0, sizeof *s);
	s->layer = calloc(n + 1, sizeof *s->layer);
	if (!s->layer)
		return err_nomem(e, n * sizeof *s->layer, "load sums");
	for (; s->n < n; s->n++) {
		struct layer_load *l = &s->layer[s->n];
		size_t ne = layer[s->n].n_expert;

		l->layer = layer[s->n].layer, l->n_expert = layer[s->n].n_expert;
		l->k = layer[s->n].k;
		l->counts = calloc(ne, sizeof *l->counts);
		l->weights = calloc(ne, sizeof *l->weights);
		l->probs = calloc(ne, sizeof *l->probs);
		if (!l->counts || !l->weights || !l->probs) {
			s->n++;
			return err_nomem(e, ne * 24, "load sums");
		}
	}
	return 0;
}

static int load_alloc(struct reader *r, const struct load_filter *f, struct layout *lay,
	struct load_set *out, struct moe_err *e)
{
	struct run_info *info = malloc(sizeof *info);
	int bad;

	if (!info)
		return err_nomem(e, sizeof *info, "a run");
	memset(info, 0, sizeof *info);
	bad = run_row(r, f->run, info, e) || layout_load(lay, r->db, info->model, e);
	free(info);
	if (bad)
		return -1;
	return load_set_init(out, lay->layer, lay->n, e);
}

static int add_doubles(double *to, sqlite3_stmt *st, int col, size_t n)
{
	const unsigned char *p = sqlite3_column_blob(st, col);
	double x;

	if ((size_t)sqlite3_column_bytes(st, col) != n * 8)
		return -1;
	for (size_t i = 0; i < n; i++) {
		memcpy(&x, p + i * 8, 8);
		to[i] += x;
	}
	return 0;
}

static int add_counts(uint64_t *to, sqlite3_stmt *st, int col, size_t n)
{
	const unsigned char *p = sqlite3_column_blob(st, col);
	uint64_t x;

	if ((size_t)sqlite3_column_bytes(st, col) != n * 8)
		return -1;
	for (size_t i = 0; i < n; i++) {
		memcpy(&x, p + i * 8, 8);
		to[i] += x;
	}
	return 0;
}

/* Columns: LOAD_COLS. */
static int add_row(struct layer_load *l, sqlite3_stmt *st, int all, struct moe_err *e)
{
	if (add_counts(l->counts, st, 2, l->n_expert) ||
		(all && (add_doubles(l->weights, st, 11, l->n_expert) ||
		add_doubles(l->probs, st, 12, l->n_expert))))
		return err_set(e, MOE_ERR_INPUT,
			"load of layer %d, bucket %lld: counts, weights, probs have %d, %d, %d bytes, "
			"%d experts take %d", l->layer, (long long)sqlite3_column_int64(st, 10),
			sqlite3_column_bytes(st, 2), sqlite3_column_bytes(st, 11),
			sqlite3_column_bytes(st, 12), l->n_expert, l->n_expert * 8);
	l->tokens += whole(st, 1);
	l->lse2 += sqlite3_column_double(st, 3);
	l->entropy += sqlite3_column_double(st, 4);
	l->confidence += sqlite3_column_double(st, 5);
	l->margin += sqlite3_column_double(st, 6);
	l->n_margin += whole(st, 7);
	l->n_nan += whole(st, 8);
	l->n_edited += whole(st, 9);
	return 0;
}

#define LOAD_COLS "SELECT layer, tokens, counts, lse2, entropy, confidence, margin, " \
	"n_margin, n_nan, n_edited, bucket, weights, probs FROM "
/* All of a run whose load was never summed up. */
static const char load_all[] = LOAD_COLS "load WHERE run = ?1 AND (?2 < 0 OR phase = ?2)";
/* A domain or some buckets: a search by key per domain and phase, not a scan. */
#define LOAD_PART(table, and) LOAD_COLS \
	"(SELECT 0 AS id UNION ALL SELECT id FROM domain) d " \
	"CROSS JOIN (SELECT 0 AS id UNION ALL SELECT 1) p CROSS JOIN " table " ON run = ?1 " \
	"AND domain = d.id AND phase = p.id AND bucket >= ?3 AND bucket < ?4 " and \
	"WHERE (?2 < 0 OR p.id = ?2) AND (?5 < 0 OR d.id = ?5)"
static const char load_part[] = LOAD_PART("load", "");
static const char load_sum_part[] = LOAD_PART("load_sum", "AND level = ?6 ");

/* Groups [a, b) of 16^level buckets. */
struct piece { int level; int64_t a, b; };
enum { LEVELS = 4, PIECES = 2 * LEVELS + 2 };

/* Buckets [a, b) as few groups as there are: those below `summed` have rows in load_sum. */
static size_t pieces(int64_t a, int64_t b, int64_t summed, int level, struct piece *out)
{
	int64_t width = INT64_C(1) << 4 * level, to = b < summed ? b : summed, lo, hi;
	size_t n = 0;

	if (a >= b)
		return 0;
	if (!level) {
		*out = (struct piece){ 0, a, b };
		return 1;
	}
	lo = a < 0 ? INT64_MAX : a / width + (a % width != 0);
	hi = to / width;
	if (lo >= hi)
		return pieces(a, b, summed, level - 1, out);
	n += pieces(a, lo * width, summed, level - 1, out);
	out[n++] = (struct piece){ level, lo, hi };
	return n + pieces(hi * width, b, summed, level - 1, out + n);
}

/* Buckets of a run that are in load_sum; 0 = none, or what it says cannot be. */
static int64_t summed(struct reader *r, int64_t run)
{
	sqlite3_stmt *st = NULL;
	int64_t n = 0;

	if (r->version < 2 || sqlite3_prepare_v2(r->db, "SELECT summed FROM run WHERE id = ?", -1, &st,
		NULL))
		return 0;
	sqlite3_bind_int64(st, 1, run);
	if (sqlite3_step(st) == SQLITE_ROW)
		n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return n > 0 && n < INT64_C(1) << 40 && n % 16 == 0 ? n : 0;
}

/* Add one piece; NULL = the whole of load. */
static int add_piece(struct reader *r, const struct load_filter *f, const struct piece *p,
	const struct layout *lay, int all, struct load_set *out, struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "load",
		!p ? load_all : p->level ? load_sum_part : load_part, e);
	int rc = SQLITE_DONE, bad = 0;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, f->run);
	sqlite3_bind_int(st, 2, f->phase);
	if (p) {
		sqlite3_bind_int64(st, 3, p->a);
		sqlite3_bind_int64(st, 4, p->b);
		sqlite3_bind_int64(st, 5, f->domain);
		if (p->level)
			sqlite3_bind_int(st, 6, p->level);
	}
	while (!bad && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		sqlite3_int64 layer = sqlite3_column_int64(st, 0);
		int i = layer < 0 || layer >= MOE_MAX_LAYER ? -1 : layout_find(lay, (unsigned)layer);

		bad = i < 0 ? err_set(e, MOE_ERR_INPUT, "load has layer %lld, the model does not",
			(long long)layer) : add_row(&out->layer[i], st, all, e);
	}
	if (!bad && rc != SQLITE_DONE)
		bad = reader_fail(r, "load", e);
	sqlite3_finalize(st);
	return bad;
}

/* All statements see one state of the database, so that no group is missed or taken twice. */
static int load(struct reader *r, const struct load_filter *f, int all, struct load_set *out,
	struct moe_err *e)
{
	int window = f->bucket0 < f->bucket1, bad = -1, own = sqlite3_get_autocommit(r->db);
	struct piece p[2 * PIECES];
	struct layout lay = { 0 };
	int64_t done;
	size_t n;

	memset(out, 0, sizeof *out);
	if (own && sqlite3_exec(r->db, "BEGIN", NULL, NULL, NULL))
		return reader_fail(r, "load", e);
	if (load_alloc(r, f, &lay, out, e))
		goto out;
	done = summed(r, f->run);
	n = pieces(window ? f->bucket0 : 0, window ? f->bucket1 : INT64_MAX, done, LEVELS, p);
	if (!window && !done && f->domain < 0) {
		bad = add_piece(r, f, NULL, &lay, all, out, e);
		goto out;
	}
	bad = 0;
	if (!window && n < sizeof p / sizeof *p)
		p[n++] = (struct piece){ 0, INT64_MIN, 0 }; /* a damaged file may have such */
	for (size_t i = 0; i < n && !bad; i++)
		bad = add_piece(r, f, &p[i], &lay, all, out, e);
out:
	if (own)
		sqlite3_exec(r->db, "COMMIT", NULL, NULL, NULL);
	layout_free(&lay);
	if (bad)
		load_set_free(out);
	return bad;
}

int reader_load(struct reader *r, const struct load_filter *f, struct load_set *out,
	struct moe_err *e)
{
	return load(r, f, 1, out, e);
}

int reader_load_counts(struct reader *r, const struct load_filter *f, struct load_set *out,
	struct moe_err *e)
{
	return load(r, f, 0, out, e);
}

void load_set_free(struct load_set *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->layer[i].counts);
		free(s->layer[i].weights);
		free(s->layer[i].probs);
	}
	free(s->layer);
	memset(s, 0, sizeof *s);
}

int reader_pace(struct reader *r, const struct load_filter *f, struct pace_info *out,
	struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "pace",
		"SELECT total(tokens), total(busy_ns), total(batches) FROM pace" FILTER, e);
	int rc;

	memset(out, 0, sizeof *out);
	if (!st)
		return -1;
	bind_filter(st, f);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		out->tokens = whole(st, 0);
		out->busy_ns = whole(st, 1);
		out->batches = whole(st, 2);
	} else {
		reader_fail(r, "pace", e);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : -1;
}

int reader_cache(struct reader *r, const struct load_filter *f, struct moe_cache_use *out,
	struct moe_err *e)
{
	sqlite3_stmt *st;
	int rc;

	memset(out, 0, sizeof *out);
	if (r->version < 3)
		return 0;
	st = reader_prepare(r, "cache", "SELECT total(hits), total(misses), total(bytes), "
		"total(stall_ns) FROM cache" FILTER, e);
	if (!st)
		return -1;
	bind_filter(st, f);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		out->hits = whole(st, 0);
		out->misses = whole(st, 1);
		out->bytes = whole(st, 2);
		out->stall_ns = whole(st, 3);
	} else {
		reader_fail(r, "cache", e);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : -1;
}

static void fill_setting(sqlite3_stmt *st, void *row)
{
	struct setting *p = row;

	text(st, 0, p->key, sizeof p->key);
	text(st, 1, p->value, sizeof p->value);
}

int reader_settings(struct reader *r, int64_t run, struct setting **out, size_t *n,
	struct moe_err *e)
{
	sqlite3_stmt *st;
	void *rows;
	int bad;

	*out = NULL;
	*n = 0;
	if (r->version < 3)
		return 0;
	st = reader_prepare(r, "setting", "SELECT key, value FROM setting WHERE run = ? ORDER BY key",
		e);
	sqlite3_bind_int64(st, 1, run);
	bad = take_rows(r, "setting", st, sizeof **out, fill_setting, &rows, n, e);
	*out = rows;
	return bad;
}

int reader_n_buckets(struct reader *r, int64_t run, int64_t *out, struct moe_err *e)
{
	/* The end of each domain and phase by key: load is not scanned. */
	static const char sql[] = "SELECT coalesce(max((SELECT max(bucket) FROM load "
		"WHERE run = ?1 AND domain = d.id AND phase = p.id)) + 1, 0) "
		"FROM (SELECT 0 AS id UNION ALL SELECT id FROM domain) d, "
		"(SELECT 0 AS id UNION ALL SELECT 1) p";

	return reader_int(r, "load", sql, run, out, e);
}

static void fill_note(sqlite3_stmt *st, void *row)
{
	struct note *p = row;

	p->id = sqlite3_column_int64(st, 0);
	p->time = sqlite3_column_int64(st, 1);
	p->sequence = sqlite3_column_int64(st, 2);
	p->layer = sqlite3_column_int64(st, 3);
	p->pos = (uint32_t)sqlite3_column_int64(st, 4);
	p->value = sqlite3_column_double(st, 5);
	text(st, 6, p->kind, sizeof p->kind);
	text(st, 7, p->text, sizeof p->text);
}

int reader_notes(struct reader *r, int64_t run, int64_t after, struct note **out, size_t *n,
	struct moe_err *e)
{
	sqlite3_stmt *st = reader_prepare(r, "event", "SELECT id, time, coalesce(sequence, 0), "
		"coalesce(layer, -1), coalesce(pos, 0), coalesce(value, 0), kind, text FROM event "
		"WHERE run = ? AND id > ? ORDER BY id", e);
	void *rows;
	int bad;

	sqlite3_bind_int64(st, 1, run);
	sqlite3_bind_int64(st, 2, after);
	bad = take_rows(r, "event", st, sizeof **out, fill_note, &rows, n, e);
	*out = rows;
	return bad;
}
