/*
 * routing.c - the SQLite table function `routing`: one row per pick, unpacked from the chunks.
 *
 *	SELECT layer, expert, count(*) FROM routing WHERE run = 1 GROUP BY layer, expert;
 *
 * Equality on run, sequence, seq, phase, domain and layer is pushed down to the chunks; only the
 * blobs of columns that a query uses are read, and no row allocates.
 *
 * When a query uses no column but layer and expert (beside those fixed by an equality), equal rows
 * cannot be told apart: the chunks are counted into a histogram first and the rows come out of it,
 * ordered by layer and expert, so that SQLite need not sort them.
 *
 * Also built as a loadable extension: uses SQLite, base/err and the chunk layout, nothing else.
 */
#include "trace/sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trace/chunk.h"
#include "trace/reader.h"

enum col {
	COL_RUN, COL_SEQUENCE, COL_SEQ, COL_POS, COL_TOKEN, COL_PHASE, COL_DOMAIN, COL_LAYER, COL_RANK,
	COL_EXPERT, COL_WEIGHT, COL_MARGIN, COL_COUNT
};
#define BIT(c) (1 << (c))
#define USED (BIT(COL_COUNT) - 1) /* idxNum: the columns used, */
#define KEY_AT COL_COUNT          /* then the keys that have an equality, */
#define HISTOGRAM (1 << 24)       /* then how to go through them */

/* What can be pushed down; `where` is NULL for layer, which lies inside the chunks. */
static const struct { enum col col; const char *where; } keys[] = {
	{ COL_RUN, "c.run" }, { COL_SEQUENCE, "c.sequence" }, { COL_SEQ, "s.seq" },
	{ COL_PHASE, "c.phase" }, { COL_DOMAIN, "coalesce(s.domain, 0)" }, { COL_LAYER, NULL },
};
enum { N_KEY = sizeof keys / sizeof keys[0] };

struct table { sqlite3_vtab base; sqlite3 *db; };

struct rows {
	sqlite3_vtab_cursor base;
	sqlite3_stmt *st;         /* chunks */
	int used, eof, only;      /* only: the layer that is asked for, or -1 */
	sqlite3_int64 row;
	sqlite3_int64 fixed[COL_COUNT]; /* by column: what an equality asks for */
	struct layout lay;        /* of run lay_run */
	int64_t lay_run;
	int64_t id, pos;          /* the chunk */
	size_t n;
	struct chunk_mem mem;
	const int32_t *tokens;
	const uint16_t *experts;
	const float *weights, *margins;
	size_t t, li, rank, pick; /* the row: token, layer index, rank, index into the picks */
	size_t li0, li1;          /* layers to show: li0 <= li < li1 */
	uint64_t *hist;           /* [MOE_MAX_LAYER][MOE_MAX_EXPERT], NULL = one chunk at a time */
	size_t cell;
};

static int vfail(struct rows *c, const struct moe_err *e)
{
	sqlite3_vtab *t = c->base.pVtab;

	sqlite3_free(t->zErrMsg);
	t->zErrMsg = sqlite3_mprintf("routing: %s", e->msg);
	return e->code == MOE_ERR_SYS ? SQLITE_NOMEM : SQLITE_ERROR;
}

static int sql_fail(struct rows *c)
{
	sqlite3 *db = ((struct table *)c->base.pVtab)->db;
	struct moe_err e;

	err_set(&e, sqlite3_errcode(db) == SQLITE_NOMEM ? MOE_ERR_SYS : MOE_ERR_INPUT, "%s",
		sqlite3_errmsg(db));
	return vfail(c, &e);
}

/* ---- table ---- */

static int x_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
	sqlite3_vtab **out, char **msg)
{
	struct table *t;
	int rc = sqlite3_declare_vtab(db, "CREATE TABLE routing(run INTEGER, sequence INTEGER, "
		"seq INTEGER, pos INTEGER, token INTEGER, phase INTEGER, domain INTEGER, layer INTEGER, "
		"rank INTEGER, expert INTEGER, weight REAL, margin REAL)");

	(void)aux, (void)argc, (void)argv, (void)msg;
	if (rc)
		return rc;
	sqlite3_vtab_config(db, SQLITE_VTAB_INNOCUOUS);
	t = sqlite3_malloc(sizeof *t);
	if (!t)
		return SQLITE_NOMEM;
	memset(t, 0, sizeof *t);
	t->db = db;
	*out = &t->base;
	return SQLITE_OK;
}

static int x_disconnect(sqlite3_vtab *t)
{
	sqlite3_free(t);
	return SQLITE_OK;
}

/* Is it a GROUP BY or DISTINCT, which needs equal rows beside each other but in no order? Known
 * since SQLite 3.38; the host that loads the extension may be older than its header. */
static int is_grouping(sqlite3_index_info *x)
{
#if SQLITE_VERSION_NUMBER >= 3038000
	if (sqlite3_libversion_number() >= 3038000)
		return sqlite3_vtab_distinct(x) == 1 || sqlite3_vtab_distinct(x) == 2;
#endif
	(void)x;
	return 0;
}

/* Does the histogram's order (layer, expert) answer the query's ORDER BY or GROUP BY? Columns that
 * an equality fixes do not matter. */
static int in_order(sqlite3_index_info *x, int fixed)
{
	int grouped = is_grouping(x), col[2] = { -1, -1 }, n = 0;

	for (int i = 0; i < x->nOrderBy; i++) {
		const struct sqlite3_index_orderby *o = &x->aOrderBy[i];

		if (o->iColumn >= 0 && fixed & BIT(o->iColumn))
			continue;
		if (o->desc || o->iColumn < 0 || n == 2)
			return 0;
		col[n++] = o->iColumn;
	}
	if (n < 2)
		return n == 0 || col[0] == COL_LAYER || fixed & BIT(COL_LAYER);
	return (col[0] == COL_LAYER && col[1] == COL_EXPERT) ||
		(grouped && col[0] == COL_EXPERT && col[1] == COL_LAYER);
}

static int x_best_index(sqlite3_vtab *t, sqlite3_index_info *x)
{
	int used = (int)(x->colUsed & USED), n = 0, have = 0, fixed = 0;
	double cost = 1e9;

	(void)t;
	for (size_t k = 0; k < N_KEY; k++)
		for (int i = 0; i < x->nConstraint; i++) {
			if (!x->aConstraint[i].usable || x->aConstraint[i].iColumn != (int)keys[k].col ||
				x->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
				continue;
			x->aConstraintUsage[i].argvIndex = ++n;
			x->aConstraintUsage[i].omit = 1;
			have |= BIT(k);
			fixed |= BIT(keys[k].col);
			cost /= keys[k].col == COL_SEQUENCE || keys[k].col == COL_SEQ ? 1e4 : 8;
			break;
		}
	x->idxNum = used | have << KEY_AT;
	/* seq, sequence, pos and so on repeat over many rows too, but those are few by then. */
	if (!(used & ~fixed & ~(BIT(COL_LAYER) | BIT(COL_EXPERT)))) {
		x->idxNum |= HISTOGRAM;
		x->orderByConsumed = in_order(x, fixed) != 0;
		cost /= 2;
	}
	x->estimatedCost = cost;
	x->estimatedRows = (sqlite3_int64)cost;
	return SQLITE_OK;
}

static int x_open(sqlite3_vtab *t, sqlite3_vtab_cursor **out)
{
	struct rows *c = calloc(1, sizeof *c);

	(void)t;
	if (!c)
		return SQLITE_NOMEM;
	*out = &c->base;
	return SQLITE_OK;
}

static void reset(struct rows *c)
{
	sqlite3_finalize(c->st);
	layout_free(&c->lay);
	free(c->hist);
	chunk_mem_free(&c->mem);
	c->st = NULL;
	c->hist = NULL;
	c->eof = 0;
	c->row = 0;
}

static int x_close(sqlite3_vtab_cursor *base)
{
	struct rows *c = (struct rows *)base;

	reset(c);
	free(c);
	return SQLITE_OK;
}

/* ---- chunks ---- */

static int load_layers(struct rows *c, int64_t run)
{
	sqlite3 *db = ((struct table *)c->base.pVtab)->db;
	sqlite3_stmt *st = NULL;
	struct moe_err e;
	int64_t model = 0;
	int at, rc;

	if (c->lay.n && c->lay_run == run)
		return SQLITE_OK;
	layout_free(&c->lay);
	if (sqlite3_prepare_v2(db, "SELECT model FROM run WHERE id = ?", -1, &st, NULL))
		return sql_fail(c);
	sqlite3_bind_int64(st, 1, run);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		model = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	if (rc != SQLITE_ROW) {
		err_set(&e, MOE_ERR_INPUT, "chunk %lld belongs to run %lld, which is not there",
			(long long)c->id, (long long)run);
		return vfail(c, &e);
	}
	if (layout_load(&c->lay, db, model, &e))
		return vfail(c, &e);
	c->lay_run = run;
	at = c->only < 0 ? -1 : layout_find(&c->lay, (unsigned)c->only);
	c->li0 = at < 0 ? 0 : (size_t)at;
	c->li1 = c->only < 0 ? c->lay.n : at < 0 ? 0 : c->li0 + 1;
	return SQLITE_OK;
}

/* Columns of the chunk query. */
enum { Q_ID, Q_RUN, Q_SEQUENCE, Q_POS, Q_N, Q_PHASE, Q_CODEC, Q_SEQ, Q_DOMAIN, Q_BLOB };

/* The next chunk that has rows to show; sets eof after the last. */
static int next_chunk(struct rows *c)
{
	static const struct { int bit; enum chunk_blob which; } want[] = {
		{ BIT(COL_TOKEN), CHUNK_TOKENS },
		{ BIT(COL_EXPERT) | HISTOGRAM, CHUNK_EXPERTS },
		{ BIT(COL_WEIGHT), CHUNK_WEIGHTS },
		{ BIT(COL_MARGIN), CHUNK_MARGINS },
	};
	const void *p[4] = { NULL };
	struct moe_err e;
	int rc;

	do {
		sqlite3_int64 codec;

		rc = sqlite3_step(c->st);
		if (rc == SQLITE_DONE) {
			c->eof = 1;
			return SQLITE_OK;
		}
		if (rc != SQLITE_ROW)
			return sql_fail(c);
		c->id = sqlite3_column_int64(c->st, Q_ID);
		c->pos = sqlite3_column_int64(c->st, Q_POS);
		c->n = (size_t)sqlite3_column_int64(c->st, Q_N);
		codec = sqlite3_column_int64(c->st, Q_CODEC);
		if (chunk_check(c->id, sqlite3_column_int64(c->st, Q_N), codec, &e))
			return vfail(c, &e);
		rc = load_layers(c, sqlite3_column_int64(c->st, Q_RUN));
		if (rc)
			return rc;
		for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
			if (!(c->used & want[i].bit))
				continue;
			if (chunk_take(&c->mem, c->st, Q_BLOB + (int)i, want[i].which, &c->lay, codec, c->id,
				c->n, &p[i], &e))
				return vfail(c, &e);
		}
	} while (c->li0 == c->li1);
	c->tokens = p[0], c->experts = p[1], c->weights = p[2], c->margins = p[3];
	c->t = c->rank = 0;
	c->li = c->li0;
	c->pick = c->lay.k_at[c->li];
	return SQLITE_OK;
}

static int bad_expert(struct rows *c, size_t t, size_t li, unsigned expert)
{
	struct moe_err e;

	err_set(&e, MOE_ERR_INPUT, "chunk %lld: token %zu, layer %d is sent to expert %u of %d",
		(long long)c->id, t, c->lay.layer[li].layer, expert, c->lay.layer[li].n_expert);
	return vfail(c, &e);
}

static int count_chunk(struct rows *c)
{
	for (size_t t = 0; t < c->n; t++)
		for (size_t li = c->li0; li < c->li1; li++) {
			const struct moe_layer_desc *d = &c->lay.layer[li];
			uint64_t *cell = c->hist + (size_t)d->layer * MOE_MAX_EXPERT;
			size_t pick = t * c->lay.k_row + c->lay.k_at[li];

			for (size_t end = pick + d->k; pick < end; pick++) {
				unsigned x = c->experts[pick];

				if (x >= d->n_expert)
					return bad_expert(c, t, li, x);
				cell[x]++;
			}
		}
	return SQLITE_OK;
}

static void next_cell(struct rows *c)
{
	while (c->cell < (size_t)MOE_MAX_LAYER * MOE_MAX_EXPERT && !c->hist[c->cell])
		c->cell++;
	c->eof = c->cell == (size_t)MOE_MAX_LAYER * MOE_MAX_EXPERT;
}

static int fill_histogram(struct rows *c)
{
	int rc;

	c->hist = calloc((size_t)MOE_MAX_LAYER * MOE_MAX_EXPERT, sizeof *c->hist);
	if (!c->hist)
		return SQLITE_NOMEM;
	while (!(rc = next_chunk(c)) && !c->eof)
		if ((rc = count_chunk(c)))
			return rc;
	if (rc)
		return rc;
	c->cell = 0;
	next_cell(c);
	return SQLITE_OK;
}

/* ---- rows ---- */

/* The integer that an equality asks for; 0 if the value equals no integer. */
static int as_integer(sqlite3_value *v, sqlite3_int64 *out)
{
	int type = sqlite3_value_numeric_type(v);
	double d;

	*out = sqlite3_value_int64(v);
	if (type == SQLITE_INTEGER)
		return 1;
	d = sqlite3_value_double(v);
	return type == SQLITE_FLOAT && d >= -9e15 && d <= 9e15 && d == (double)*out;
}

static int prepare(struct rows *c, int keymask, const sqlite3_int64 *value)
{
	sqlite3 *db = ((struct table *)c->base.pVtab)->db;
	int join = (c->used & (BIT(COL_SEQ) | BIT(COL_DOMAIN))) || (keymask & (BIT(2) | BIT(4)));
	sqlite3_str *s = sqlite3_str_new(db);
	char *text;
	int rc, arg = 0;

	sqlite3_str_appendf(s, "SELECT c.id, c.run, c.sequence, c.pos, c.n, c.phase, c.codec, %s, "
		"%s, %s, %s, %s FROM chunk c %s WHERE 1", join ? "s.seq, coalesce(s.domain, 0)" : "0, 0",
		c->used & BIT(COL_TOKEN) ? "c.tokens" : "0",
		c->used & (BIT(COL_EXPERT) | HISTOGRAM) ? "c.experts" : "0",
		c->used & BIT(COL_WEIGHT) ? "c.weights" : "0",
		c->used & BIT(COL_MARGIN) ? "c.margins" : "0",
		join ? "JOIN sequence s ON s.id = c.sequence" : "");
	for (int k = 0; k < (int)N_KEY; k++)
		if (keymask & BIT(k) && keys[k].where)
			sqlite3_str_appendf(s, " AND %s = ?%d", keys[k].where, k + 1);
	text = sqlite3_str_finish(s);
	if (!text)
		return SQLITE_NOMEM;
	rc = sqlite3_prepare_v2(db, text, -1, &c->st, NULL);
	sqlite3_free(text);
	if (rc)
		return sql_fail(c);
	for (int k = 0; k < (int)N_KEY; k++)
		if (keymask & BIT(k)) {
			if (keys[k].where)
				sqlite3_bind_int64(c->st, k + 1, value[arg]);
			arg++;
		}
	return SQLITE_OK;
}

static int x_filter(sqlite3_vtab_cursor *base, int idx, const char *str, int argc,
	sqlite3_value **argv)
{
	struct rows *c = (struct rows *)base;
	int keymask = idx >> KEY_AT & (BIT(N_KEY) - 1), rc;
	sqlite3_int64 value[N_KEY] = { 0 };

	(void)str;
	reset(c);
	c->used = idx & (USED | HISTOGRAM);
	c->only = -1;
	for (int k = 0, i = 0; k < (int)N_KEY && i < argc; k++) {
		if (!(keymask & BIT(k)))
			continue;
		if (!as_integer(argv[i], &value[i])) {
			c->eof = 1;
			return SQLITE_OK;
		}
		c->fixed[keys[k].col] = value[i++];
	}
	if (keymask & BIT(N_KEY - 1)) { /* layer is the last key, so the last argument */
		if (value[argc - 1] < 0 || value[argc - 1] >= MOE_MAX_LAYER) {
			c->eof = 1;
			return SQLITE_OK;
		}
		c->only = (int)value[argc - 1];
	}
	rc = prepare(c, keymask, value);
	if (rc)
		return rc;
	return c->used & HISTOGRAM ? fill_histogram(c) : next_chunk(c);
}

static int x_next(sqlite3_vtab_cursor *base)
{
	struct rows *c = (struct rows *)base;

	c->row++;
	if (c->hist) {
		if (!--c->hist[c->cell])
			next_cell(c);
		return SQLITE_OK;
	}
	c->pick++;
	if (++c->rank < c->lay.layer[c->li].k)
		return SQLITE_OK;
	c->rank = 0;
	if (++c->li == c->li1) {
		c->li = c->li0;
		if (++c->t == c->n)
			return next_chunk(c);
		c->pick = c->t * c->lay.k_row + c->lay.k_at[c->li];
	}
	return SQLITE_OK;
}

static int x_eof(sqlite3_vtab_cursor *base)
{
	return ((struct rows *)base)->eof;
}

/* A column of the chunk; in histogram mode only those that an equality fixes are asked for. */
static void result_key(struct rows *c, sqlite3_context *x, int col, int q)
{
	sqlite3_result_int64(x, c->hist ? c->fixed[col] : sqlite3_column_int64(c->st, q));
}

static int x_column(sqlite3_vtab_cursor *base, sqlite3_context *x, int col)
{
	struct rows *c = (struct rows *)base;
	unsigned expert;

	switch ((enum col)col) {
	case COL_LAYER:
		sqlite3_result_int(x, c->hist ? (int)(c->cell / MOE_MAX_EXPERT) :
			c->lay.layer[c->li].layer);
		break;
	case COL_EXPERT:
		expert = c->hist ? (unsigned)(c->cell % MOE_MAX_EXPERT) : c->experts[c->pick];
		if (!c->hist && expert >= c->lay.layer[c->li].n_expert)
			return bad_expert(c, c->t, c->li, expert);
		sqlite3_result_int(x, (int)expert);
		break;
	case COL_RUN: result_key(c, x, col, Q_RUN); break;
	case COL_SEQUENCE: result_key(c, x, col, Q_SEQUENCE); break;
	case COL_SEQ: result_key(c, x, col, Q_SEQ); break;
	case COL_PHASE: result_key(c, x, col, Q_PHASE); break;
	case COL_DOMAIN: result_key(c, x, col, Q_DOMAIN); break;
	case COL_POS: sqlite3_result_int64(x, c->pos + (int64_t)c->t); break;
	case COL_TOKEN: sqlite3_result_int(x, c->tokens[c->t]); break;
	case COL_RANK: sqlite3_result_int64(x, (sqlite3_int64)c->rank); break;
	/* Infinities pass, NaN becomes NULL as everywhere in SQLite. */
	case COL_WEIGHT: sqlite3_result_double(x, c->weights[c->pick]); break;
	case COL_MARGIN: sqlite3_result_double(x, c->margins[c->t * c->lay.n + c->li]); break;
	case COL_COUNT: break;
	}
	return SQLITE_OK;
}

static int x_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *out)
{
	*out = ((struct rows *)base)->row;
	return SQLITE_OK;
}

static const sqlite3_module module = {
	.iVersion = 0,
	.xConnect = x_connect, /* no xCreate: the table exists by its name, nobody creates it */
	.xBestIndex = x_best_index,
	.xDisconnect = x_disconnect,
	.xOpen = x_open,
	.xClose = x_close,
	.xFilter = x_filter,
	.xNext = x_next,
	.xEof = x_eof,
	.xColumn = x_column,
	.xRowid = x_rowid,
};

int routing_register(sqlite3 *db, struct moe_err *e)
{
	if (sqlite3_create_module(db, "routing", &module, NULL))
		return err_set(e, MOE_ERR_SYS, "registering routing: %s", sqlite3_errmsg(db));
	return 0;
}
