/* deep.c - see deep.h. */
#include "audit/deep.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

struct run_seen {
	uint64_t run;
	uint64_t notes;
	uint64_t *sums; /* [e_row] picks of records of sums, all domains; NULL if there were none */
	int without;
};

struct deep {
	struct reader *r;
	sqlite3 *db;
	void (*tell)(void *ctx, const char *text);
	void *ctx;
	sqlite3_stmt *seq, *run, *note, *notes, *kept, *setting; /* the last two NULL in old schemas */
	struct run_seen *seen;
	size_t n_seen;
	struct run_info *info; /* of info_run */
	uint64_t info_run;
};

static void differ(struct deep *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void differ(struct deep *d, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	d->tell(d->ctx, text);
}

static int fail(struct deep *d, struct moe_err *e)
{
	return err_set(
		e, MOE_ERR_INPUT, "comparing the tables with the log: %s", sqlite3_errmsg(d->db));
}

struct deep *deep_open(struct reader *r, void (*tell)(void *ctx, const char *text), void *ctx,
	struct moe_err *e)
{
	struct deep *d = calloc(1, sizeof *d);

	if (!d || !(d->info = malloc(sizeof *d->info))) {
		free(d);
		err_nomem(e, sizeof *d->info, "the verifier");
		return NULL;
	}
	d->r = r;
	d->db = reader_db(r);
	d->tell = tell;
	d->ctx = ctx;
	if (sqlite3_prepare_v2(d->db,
			"SELECT d.name, s.name, s.n_prompt, s.n_generated, "
			"coalesce(s.n_scored, 0), coalesce(s.nll, 0.0), s.ended FROM sequence s LEFT JOIN "
			"domain d ON "
			"d.id = s.domain WHERE s.run = ? AND s.seq = ?",
			-1, &d->seq, NULL) ||
		sqlite3_prepare_v2(d->db,
			"SELECT r.command, r.engine, r.isa, coalesce(r.threads, 0), "
			"coalesce(r.batch, 0), m.name, m.arch, m.quant, m.tokenizer, m.router, m.hash, "
			"coalesce(m.bytes, 0), m.path, r.state, coalesce(m.n_ctx, 0) FROM run r JOIN model m "
			"ON m.id = r.model WHERE r.id = ?",
			-1, &d->run, NULL) ||
		(reader_version(r) >= 2 &&
			sqlite3_prepare_v2(d->db,
				"SELECT source, weights FROM run WHERE "
				"id = ?",
				-1, &d->kept, NULL)) ||
		sqlite3_prepare_v2(d->db,
			"SELECT count(*) FROM event WHERE run = ? AND kind = ? AND "
			"text IS ?",
			-1, &d->note, NULL) ||
		sqlite3_prepare_v2(d->db, "SELECT count(*) FROM event WHERE run = ? AND kind <> 'recovery'",
			-1, &d->notes, NULL) ||
		(reader_version(r) >= 3 &&
			sqlite3_prepare_v2(d->db,
				"SELECT key, value "
				"FROM setting WHERE run = ?",
				-1, &d->setting, NULL))) {
		fail(d, e);
		deep_close(d);
		return NULL;
	}
	return d;
}

void deep_close(struct deep *d)
{
	if (!d)
		return;
	sqlite3_finalize(d->seq);
	sqlite3_finalize(d->run);
	sqlite3_finalize(d->note);
	sqlite3_finalize(d->notes);
	sqlite3_finalize(d->kept);
	sqlite3_finalize(d->setting);
	for (size_t i = 0; i < d->n_seen; i++)
		free(d->seen[i].sums);
	free(d->seen);
	free(d->info);
	free(d);
}

static struct run_seen *seen(struct deep *d, uint64_t run)
{
	struct run_seen *s;

	for (size_t i = d->n_seen; i-- > 0;)
		if (d->seen[i].run == run)
			return &d->seen[i];
	s = realloc(d->seen, (d->n_seen + 1) * sizeof *s);
	if (!s)
		return NULL;
	d->seen = s;
	s += d->n_seen++;
	memset(s, 0, sizeof *s);
	s->run = run;
	return s;
}

void deep_without(struct deep *d, uint64_t run)
{
	struct run_seen *s = seen(d, run);

	if (s)
		s->without = 1;
}

/* A column of text against a record's line; both may be absent. */
static void same_text(struct deep *d, sqlite3_stmt *st, int col, const char *rec, size_t n,
	const char *key, const char *what)
{
	const char *have = (const char *)sqlite3_column_text(st, col);
	char *logged = malloc(n + 1);
	int none;

	if (!logged)
		return;
	none = record_get(rec, n, key, logged, n + 1) != 0;
	if (none != !have || (have && strcmp(have, logged)))
		differ(d, "%s: %s in the table is '%.100s', logged is '%.100s'", what, key,
			have ? have : "none", none ? "none" : logged);
	free(logged);
}

static void same_int(struct deep *d, sqlite3_stmt *st, int col, const char *rec, size_t n,
	const char *key, const char *what)
{
	int64_t have = sqlite3_column_int64(st, col), logged = record_get_int(rec, n, key, 0);

	if (have != logged)
		differ(
			d, "%s: %s in the table is %" PRId64 ", logged is %" PRId64, what, key, have, logged);
}

static int sequence(struct deep *d, const struct leaf *l, const char *rec, size_t n,
	struct moe_err *e)
{
	char what[80], bits[24], want[24] = "";
	double nll;
	uint64_t raw;
	int rc;

	snprintf(what, sizeof what, "run %" PRIu64 ", sequence %" PRIu64, l->run, l->seq);
	sqlite3_bind_int64(d->seq, 1, (int64_t)l->run);
	sqlite3_bind_int64(d->seq, 2, (int64_t)l->seq);
	rc = sqlite3_step(d->seq);
	if (rc == SQLITE_DONE) {
		differ(d, "%s: its row is gone", what);
	} else if (rc == SQLITE_ROW && l->kind == LEAF_SEQ_START) {
		same_text(d, d->seq, 0, rec, n, "domain", what);
		same_text(d, d->seq, 1, rec, n, "name", what);
	} else if (rc == SQLITE_ROW) {
		same_int(d, d->seq, 2, rec, n, "prompt", what);
		same_int(d, d->seq, 3, rec, n, "generated", what);
		same_int(d, d->seq, 4, rec, n, "scored", what);
		if (record_get_int(rec, n, "scored", 0)) {
			nll = sqlite3_column_double(d->seq, 5);
			memcpy(&raw, &nll, 8);
			snprintf(bits, sizeof bits, "%016" PRIx64, raw);
			record_get(rec, n, "nll_bits", want, sizeof want);
			if (strcmp(bits, want))
				differ(d, "%s: nll in the table has bits %s, logged are %s", what, bits, want);
		}
	}
	sqlite3_reset(d->seq);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : fail(d, e);
}

/* Where the run came from and how it is kept, as far as its descriptor says that. */
static int kept(struct deep *d, const struct leaf *l, const char *rec, size_t n, struct moe_err *e)
{
	char what[40], none[8];
	int rc;

	if (!d->kept)
		return 0;
	snprintf(what, sizeof what, "run %" PRIu64, l->run);
	sqlite3_bind_int64(d->kept, 1, (int64_t)l->run);
	rc = sqlite3_step(d->kept);
	if (rc == SQLITE_ROW && !record_get(rec, n, "source", none, sizeof none))
		same_text(d, d->kept, 0, rec, n, "source", what);
	if (rc == SQLITE_ROW && !record_get(rec, n, "weights", none, sizeof none))
		same_text(d, d->kept, 1, rec, n, "weights", what);
	sqlite3_reset(d->kept);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : fail(d, e);
}

/* What the run was made with: every row as it was logged, and as many. */
static int settings(struct deep *d, const struct leaf *l, const char *rec, size_t n,
	struct moe_err *e)
{
	struct record_line line;
	size_t at = 0, logged = 0, rows = 0;
	char what[40];
	int rc;

	if (!d->setting)
		return 0;
	snprintf(what, sizeof what, "run %" PRIu64, l->run);
	while (record_next(rec, n, &at, &line) == 1)
		logged += line.n_key > 8 && !memcmp(line.key, "setting_", 8);
	sqlite3_bind_int64(d->setting, 1, (int64_t)l->run);
	while ((rc = sqlite3_step(d->setting)) == SQLITE_ROW) {
		const char *key = (const char *)sqlite3_column_text(d->setting, 0);
		char name[80];

		record_setting_key(name, sizeof name, key ? key : "");
		same_text(d, d->setting, 1, rec, n, name, what);
		rows++;
	}
	if (rc == SQLITE_DONE && rows != logged)
		differ(d, "%s: the table has %zu settings, %zu were logged", what, rows, logged);
	sqlite3_reset(d->setting);
	return rc == SQLITE_DONE ? 0 : fail(d, e);
}

static int run(struct deep *d, const struct leaf *l, const char *rec, size_t n, struct moe_err *e)
{
	static const struct { int col; const char *key; int is_int; } field[] = {
		{ 0, "command", 0 }, { 1, "engine", 0 }, { 2, "isa", 0 }, { 3, "threads", 1 },
		{ 4, "batch", 1 }, { 5, "model", 0 }, { 6, "arch", 0 }, { 7, "quant", 0 },
		{ 8, "tokenizer", 0 }, { 9, "router", 0 }, { 10, "model_sha256", 0 },
		{ 11, "model_bytes", 1 }, { 12, "model_path", 0 }, { 14, "ctx", 1 } };
	char what[40];
	int rc;

	snprintf(what, sizeof what, "run %" PRIu64, l->run);
	sqlite3_bind_int64(d->run, 1, (int64_t)l->run);
	rc = sqlite3_step(d->run);
	if (rc == SQLITE_DONE)
		differ(d, "%s: its row is gone", what);
	for (size_t i = 0; rc == SQLITE_ROW && i < sizeof field / sizeof field[0]; i++) {
		char none[8];

		/* A descriptor may leave a field out (another engine's); what it says must be so. */
		if (record_get(rec, n, field[i].key, none, sizeof none))
			continue;
		(field[i].is_int ? same_int : same_text)(
			d, d->run, field[i].col, rec, n, field[i].key, what);
	}
	sqlite3_reset(d->run);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return fail(d, e);
	return kept(d, l, rec, n, e) ? -1 : settings(d, l, rec, n, e);
}

static int run_ended(struct deep *d, const struct leaf *l, const char *rec, size_t n,
	struct moe_err *e)
{
	char what[40];
	int rc;

	snprintf(what, sizeof what, "run %" PRIu64, l->run);
	sqlite3_bind_int64(d->run, 1, (int64_t)l->run);
	rc = sqlite3_step(d->run);
	if (rc == SQLITE_ROW)
		same_text(d, d->run, 13, rec, n, "state", what);
	sqlite3_reset(d->run);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : fail(d, e);
}

static int note(struct deep *d, const struct leaf *l, const char *rec, size_t n, struct moe_err *e)
{
	char kind[64] = "gap", *text = malloc(n + 1);
	struct run_seen *s = seen(d, l->run);
	int rc, none;

	if (!text || !s) {
		free(text);
		return err_nomem(e, n, "a note");
	}
	s->notes++;
	if (l->kind != LEAF_GAP)
		record_get(rec, n, "kind", kind, sizeof kind);
	none = record_get(rec, n, "text", text, n + 1);
	sqlite3_bind_int64(d->note, 1, (int64_t)l->run);
	sqlite3_bind_text(d->note, 2, kind, -1, SQLITE_STATIC);
	if (none)
		sqlite3_bind_null(d->note, 3);
	else
		sqlite3_bind_text(d->note, 3, text, -1, SQLITE_STATIC);
	rc = sqlite3_step(d->note);
	if (rc == SQLITE_ROW && !sqlite3_column_int64(d->note, 0))
		differ(d, "run %" PRIu64 ": the event %s of leaf %" PRIu64 " is not in the table", l->run,
			kind, l->index);
	sqlite3_reset(d->note);
	free(text);
	return rc == SQLITE_ROW ? 0 : fail(d, e);
}

/* reader_run() once a run; NULL if it cannot be read. */
static const struct run_info *info_of(struct deep *d, uint64_t id)
{
	struct moe_err e;

	if (d->info_run == id)
		return d->info;
	d->info_run = 0;
	if (reader_run(d->r, (int64_t)id, d->info, &e))
		return NULL;
	d->info_run = id;
	return d->info;
}

static int sums(struct deep *d, const struct leaf *l, const char *rec, size_t n, struct moe_err *e)
{
	const struct run_info *in = info_of(d, l->run);
	struct run_seen *s = seen(d, l->run);
	struct record_line line;
	size_t at = 0, e_row = 0;

	if (!in)
		return 0; /* told where the run's row is looked at */
	for (uint32_t i = 0; i < in->n_moe_layer; i++)
		e_row += in->layers[i].n_expert;
	if (s && !s->sums)
		s->sums = calloc(e_row, sizeof *s->sums);
	if (!s || !s->sums)
		return err_nomem(e, e_row * 8, "sums");
	while (record_next(rec, n, &at, &line) == 1) {
		size_t off = 0;
		uint32_t i;
		char *end;
		unsigned long layer;

		if (line.n_key != 5 || memcmp(line.key, "layer", 5))
			continue;
		layer = strtoul(line.value, &end, 10);
		for (i = 0; i < in->n_moe_layer && in->layers[i].layer != layer; i++)
			off += in->layers[i].n_expert;
		for (uint32_t x = 0; i < in->n_moe_layer && x < in->layers[i].n_expert && *end == ' '; x++)
			s->sums[off + x] += strtoull(end + 1, &end, 10);
	}
	return 0;
}

int deep_record(struct deep *d, const struct leaf *l, const char *rec, size_t n, struct moe_err *e)
{
	switch ((enum leaf_kind)l->kind) {
	case LEAF_SEQ_START: case LEAF_SEQ_END: return sequence(d, l, rec, n, e);
	case LEAF_SESSION_START:
		return seen(d, l->run) ? run(d, l, rec, n, e) : err_nomem(e, 64, "a run");
	case LEAF_SESSION_END: return run_ended(d, l, rec, n, e);
	case LEAF_NOTE: case LEAF_GAP: return note(d, l, rec, n, e);
	case LEAF_OPERATOR: return l->run ? note(d, l, rec, n, e) : 0;
	case LEAF_BATCH: return sums(d, l, rec, n, e);
	default: return 0;
	}
}

/* ---- load ---- */

struct count { int64_t domain; int phase; uint64_t tokens, *picks; /* [e_row] */ };

static struct count *count_of(struct count **c, size_t *n, int64_t domain, int phase, size_t e_row)
{
	struct count *p;

	for (size_t i = *n; i-- > 0;)
		if ((*c)[i].domain == domain && (*c)[i].phase == phase)
			return &(*c)[i];
	p = realloc(*c, (*n + 1) * sizeof *p);
	if (!p)
		return NULL;
	*c = p;
	p += *n;
	*p = (struct count){ domain, phase, 0, calloc(e_row, sizeof(uint64_t)) };
	if (!p->picks)
		return NULL;
	++*n;
	return p;
}

static int recount(struct deep *d, uint64_t id, size_t e_row, struct count **c, size_t *n,
	struct moe_err *e)
{
	struct load_filter f = { .run = (int64_t)id, .domain = -1, .phase = -1 };
	struct cursor *cur = cursor_open(d->r, &f, e);
	struct cursor_chunk ch;
	int rc = -1;

	while (cur && (rc = cursor_next(cur, &ch, e)) == 1) {
		struct count *k = count_of(c, n, ch.domain, ch.phase, e_row);

		if (!k) {
			rc = err_nomem(e, e_row * 8, "counts");
			break;
		}
		k->tokens += ch.n;
		for (size_t t = 0; t < ch.n; t++)
			for (size_t i = 0; i < ch.n_layer; i++)
				for (size_t p = 0; p < ch.layers[i].k; p++)
					k->picks[ch.e_at[i] + ch.experts[t * ch.k_row + ch.k_at[i] + p]]++;
	}
	cursor_close(cur);
	return rc;
}

/* Table `load` of a selection against picks [e_row]; every token makes k picks in a layer. */
static int compare(struct deep *d, uint64_t id, int64_t domain, int phase, const uint64_t *picks,
	int at_least, struct moe_err *e)
{
	struct load_filter f = { .run = (int64_t)id, .domain = domain, .phase = phase };
	struct load_set set;
	size_t at = 0;

	if (reader_load(d->r, &f, &set, e))
		return -1;
	for (size_t i = 0; i < set.n; i++) {
		const struct layer_load *l = &set.layer[i];
		uint64_t sum = 0;
		int off;

		for (size_t x = 0; x < l->n_expert; x++)
			sum += picks[at + x];
		off = l->tokens != sum / l->k && !(at_least && l->tokens > sum / l->k);
		for (size_t x = 0; x < l->n_expert && !off; x++)
			off = l->counts[x] != picks[at + x] && !(at_least && l->counts[x] > picks[at + x]);
		if (off)
			differ(d,
				"run %" PRIu64 ", domain %" PRId64 ", phase %d, layer %d: table load does not have "
				"the sums of the decisions",
				id, domain, phase, l->layer);
		at += l->n_expert;
	}
	load_set_free(&set);
	return 0;
}

static int run_sums(struct deep *d, const struct run_seen *s, struct moe_err *e)
{
	const struct run_info *in = info_of(d, s->run);
	struct count *c = NULL;
	size_t n = 0, e_row = 0;
	uint64_t total = 0, loaded = 0;
	struct load_filter all = { .run = (int64_t)s->run, .domain = -1, .phase = -1 };
	struct load_set set;
	int bad = 0;

	if (!in)
		return 0;
	for (uint32_t i = 0; i < in->n_moe_layer; i++)
		e_row += in->layers[i].n_expert;
	if (s->sums)
		return compare(d, s->run, -1, -1, s->sums, s->without, e);
	if (recount(d, s->run, e_row, &c, &n, e)) {
		differ(d, "run %" PRIu64 ": its decisions cannot be counted: %s", s->run, e->msg);
	} else {
		for (size_t i = 0; i < n && !bad; i++) {
			bad = compare(d, s->run, c[i].domain, c[i].phase, c[i].picks, s->without, e);
			total += c[i].tokens;
		}
		/* and nothing beside them */
		if (!bad && !(bad = reader_load(d->r, &all, &set, e))) {
			loaded = set.n ? set.layer[0].tokens : 0;
			if (!s->without && loaded != total)
				differ(d,
					"run %" PRIu64 ": table load counts %" PRIu64 " tokens, decisions were logged "
					"for %" PRIu64,
					s->run, loaded, total);
			load_set_free(&set);
		}
	}
	for (size_t i = 0; i < n; i++)
		free(c[i].picks);
	free(c);
	return bad;
}

int deep_sums(struct deep *d, struct moe_err *e)
{
	for (size_t i = 0; i < d->n_seen; i++) {
		const struct run_seen *s = &d->seen[i];
		int rc;

		sqlite3_bind_int64(d->notes, 1, (int64_t)s->run);
		rc = sqlite3_step(d->notes);
		if (rc == SQLITE_ROW && (uint64_t)sqlite3_column_int64(d->notes, 0) != s->notes)
			differ(d, "run %" PRIu64 ": the table has %lld events, %" PRIu64 " were logged", s->run,
				sqlite3_column_int64(d->notes, 0), s->notes);
		sqlite3_reset(d->notes);
		if (rc != SQLITE_ROW)
			return fail(d, e);
		if (run_sums(d, s, e))
			return -1;
	}
	return 0;
}
