/* layout.c - see layout.h. */
#include "trace/layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static int check(const struct moe_layer_desc *d, size_t n, struct moe_err *e)
{
	if (n < 1 || n > MOE_MAX_LAYER)
		return err_set(e, MOE_ERR_INPUT, "%zu MoE layers, allowed are 1 to %d", n, MOE_MAX_LAYER);
	for (size_t i = 0; i < n; i++) {
		if (d[i].layer >= MOE_MAX_LAYER || (i && d[i].layer <= d[i - 1].layer))
			return err_set(e, MOE_ERR_INPUT,
				"MoE layer %d: must be below %d and above the layer before it", d[i].layer,
				MOE_MAX_LAYER);
		if (d[i].n_expert < 1 || d[i].n_expert > MOE_MAX_EXPERT || d[i].k < 1 ||
			d[i].k > d[i].n_expert)
			return err_set(e, MOE_ERR_INPUT,
				"MoE layer %d: %d of %d experts, allowed are 1 to %d experts and at least one pick",
				d[i].layer, d[i].k, d[i].n_expert, MOE_MAX_EXPERT);
	}
	return 0;
}

int layout_init(struct layout *l, const struct moe_layer_desc *layer, size_t n,
	struct moe_err *e)
{
	memset(l, 0, sizeof *l);
	if (check(layer, n, e))
		return -1;
	l->n = n;
	l->layer = calloc(n, sizeof *l->layer);
	l->k_at = calloc(n, sizeof *l->k_at);
	l->e_at = calloc(n, sizeof *l->e_at);
	if (!l->layer || !l->k_at || !l->e_at) {
		layout_free(l);
		return err_nomem(e, n * (sizeof *l->layer + 2 * sizeof *l->k_at), "the layer table");
	}
	for (size_t i = 0; i < n; i++) {
		l->layer[i] = layer[i];
		l->k_at[i] = l->k_row;
		l->e_at[i] = l->e_row;
		l->k_row += layer[i].k;
		l->e_row += layer[i].n_expert;
	}
	return 0;
}

void layout_free(struct layout *l)
{
	free(l->layer);
	free(l->k_at);
	free(l->e_at);
	memset(l, 0, sizeof *l);
}

static int sql_fail(sqlite3 *db, struct moe_err *e)
{
	int kind = sqlite3_errcode(db) & 0xff;

	return err_set(e, kind == SQLITE_NOMEM || kind == SQLITE_BUSY ||
		kind == SQLITE_IOERR ? MOE_ERR_SYS : MOE_ERR_INPUT, "reading moe_layer: %s",
		sqlite3_errmsg(db));
}

int layout_load(struct layout *l, sqlite3 *db, int64_t model, struct moe_err *e)
{
	struct moe_layer_desc d[MOE_MAX_LAYER];
	sqlite3_stmt *st = NULL;
	size_t n = 0;
	int rc, bad;

	memset(l, 0, sizeof *l);
	if (sqlite3_prepare_v2(db, "SELECT layer, n_expert, k FROM moe_layer WHERE model = ? ORDER BY "
	    "layer",
		-1, &st, NULL))
		return sql_fail(db, e);
	sqlite3_bind_int64(st, 1, model);
	for (bad = 0; !bad && (rc = sqlite3_step(st)) == SQLITE_ROW; n++) {
		sqlite3_int64 a = sqlite3_column_int64(st, 0), x = sqlite3_column_int64(st, 1),
			k = sqlite3_column_int64(st, 2);

		if (n == MOE_MAX_LAYER || a < 0 || a >= MOE_MAX_LAYER || x < 1 || x > MOE_MAX_EXPERT ||
			k < 1 || k > x)
			bad = err_set(e, MOE_ERR_INPUT,
				"model %lld: row %zu of moe_layer says layer %lld, %lld experts, %lld picks",
				(long long)model, n, a, x, k);
		else
			d[n] = (struct moe_layer_desc){ (uint16_t)a, (uint16_t)x, (uint16_t)k };
	}
	if (!bad && rc != SQLITE_DONE)
		bad = sql_fail(db, e);
	sqlite3_finalize(st);
	if (bad)
		return -1;
	if (layout_init(l, d, n, e))
		return err_wrap(e, "model %lld", (long long)model);
	return 0;
}

int layout_find(const struct layout *l, unsigned layer)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->layer[mid].layer < layer)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < l->n && l->layer[lo].layer == layer ? (int)lo : -1;
}
