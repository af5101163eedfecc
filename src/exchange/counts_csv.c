/*
 * counts_csv.c - picks by expert, "layer_id,expert_id,count", as SGLang's older recorder writes
 * them.
 *
 * In: every (layer, expert) at most once; experts that are not listed have 0. The number of experts
 * is the largest id + 1 unless it is given, top-k must be given: tokens = picks / k. A layer whose
 * picks are no multiple of k, or where one expert has more picks than there are tokens, cannot be
 * such a count.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "exchange/exchange.h"
#include "exchange/lines.h"
#include "trace/writer.h"

#define HEAD "layer_id,expert_id,count"
#define COUNT_MOST INT64_C(1000000000000000) /* 10^15: sums of 1024 of them stay below 2^63 */

int counts_csv_detect(const char *head, size_t n)
{
	size_t len = strlen(HEAD);

	return n >= len && !memcmp(head, HEAD, len) &&
		(n == len || head[len] == '\n' || head[len] == '\r');
}

struct counts {
	uint64_t *count[MOE_MAX_LAYER]; /* [MOE_MAX_EXPERT], NULL = layer not seen */
	uint8_t *seen[MOE_MAX_LAYER];
	uint16_t most[MOE_MAX_LAYER];   /* largest id + 1 */
	uint64_t rows;
};

static void counts_free(struct counts *c)
{
	for (size_t i = 0; i < MOE_MAX_LAYER; i++) {
		free(c->count[i]);
		free(c->seen[i]);
	}
	free(c);
}

static int take(struct counts *c, struct lines *l, const struct exchange_in *in, struct moe_err *e)
{
	int64_t layer, expert, count, last = in->n_expert ? in->n_expert - 1 : MOE_MAX_EXPERT - 1;
	char *f[FIELDS_MAX];
	int n = lines_fields(l, f, e);

	if (n < 0)
		return -1;
	if (n != 3)
		return lines_fail(l, e, "%d fields, expected 3: %s", n, HEAD);
	if (lines_int(l, "layer", f[0], 0, MOE_MAX_LAYER - 1, &layer, e) ||
		lines_int(l, "expert", f[1], 0, last, &expert, e) ||
		lines_int(l, "count", f[2], 0, COUNT_MOST, &count, e))
		return -1;
	if (!c->count[layer]) {
		c->count[layer] = calloc(MOE_MAX_EXPERT, sizeof **c->count);
		c->seen[layer] = calloc(MOE_MAX_EXPERT, 1);
		if (!c->count[layer] || !c->seen[layer])
			return err_nomem(e, MOE_MAX_EXPERT * 9, "counts");
	}
	if (c->seen[layer][expert])
		return lines_fail(l, e, "layer %" PRId64 ", expert %" PRId64 " a second time", layer,
			expert);
	c->seen[layer][expert] = 1;
	c->count[layer][expert] = (uint64_t)count;
	if (expert >= c->most[layer])
		c->most[layer] = (uint16_t)(expert + 1);
	c->rows++;
	return 0;
}

static int read_all(struct counts *c, const struct exchange_in *in, struct moe_err *e)
{
	struct lines l;
	int got, bad = lines_open(&l, in->path, e);

	if (!bad && (got = lines_next(&l, e)) <= 0)
		bad = got < 0 ? -1 : err_set(e, MOE_ERR_INPUT, "%s: the file is empty", in->path);
	if (!bad && strcmp(l.line, HEAD))
		bad = lines_fail(&l, e, "the head line is '%.60s', expected '%s'", l.line, HEAD);
	while (!bad && (got = lines_next(&l, e)))
		bad = got < 0 ? -1 : take(c, &l, in, e);
	lines_close(&l);
	if (!bad && !c->rows)
		bad = err_set(e, MOE_ERR_INPUT, "%s: a head line and no counts", in->path);
	return bad;
}

/* Layers, their tokens and counts, packed to those that were seen. */
static int conclude(const struct counts *c, const struct exchange_in *in, struct moe_layer_desc *d,
	uint64_t *tokens, const uint64_t **counts, size_t *n, struct moe_err *e)
{
	for (size_t i = 0; i < MOE_MAX_LAYER; i++) {
		uint64_t sum = 0;
		uint16_t n_expert = (uint16_t)(in->n_expert ? in->n_expert : c->most[i]);

		if (!c->count[i])
			continue;
		if (in->top_k > n_expert)
			return err_set(e, MOE_ERR_INPUT, "%s: layer %zu has %d experts, --top-k says %lld",
				in->path, i, n_expert, in->top_k);
		for (size_t x = 0; x < n_expert; x++)
			sum += c->count[i][x];
		if (sum % (uint64_t)in->top_k)
			return err_set(e, MOE_ERR_INPUT, "%s: layer %zu has %" PRIu64 " picks, which is no "
				"multiple of --top-k %lld", in->path, i, sum, in->top_k);
		tokens[*n] = sum / (uint64_t)in->top_k;
		for (size_t x = 0; x < n_expert; x++)
			if (c->count[i][x] > tokens[*n])
				return err_set(e, MOE_ERR_INPUT, "%s: layer %zu, expert %zu has %" PRIu64 " picks; "
					"with --top-k %lld there were %" PRIu64 " tokens", in->path, i, x,
					c->count[i][x], in->top_k, tokens[*n]);
		counts[*n] = c->count[i];
		d[(*n)++] = (struct moe_layer_desc){ (uint16_t)i, n_expert, (uint16_t)in->top_k };
	}
	return 0;
}

int counts_csv_import(const struct exchange_in *in, struct exchange_done *done, struct moe_err *e)
{
	struct counts *c = calloc(1, sizeof *c);
	struct moe_layer_desc d[MOE_MAX_LAYER];
	const uint64_t *counts[MOE_MAX_LAYER];
	uint64_t tokens[MOE_MAX_LAYER];
	char source[256];
	struct moe_run_desc desc = { .command = "import", .model_name = in->model, .layers = d,
		.source = source };
	size_t n = 0;

	if (!c)
		return err_nomem(e, sizeof *c, "counts");
	done->run = -1;
	if (!in->top_k)
		err_set(e, MOE_ERR_USAGE, "%s: counts do not say how many experts a token picks: --top-k K "
			"is needed", in->path);
	else if (in->weights != MOE_WEIGHTS_EXACT || in->run)
		err_set(e, MOE_ERR_USAGE, "%s: counts have no weights and no runs to choose from",
			in->path);
	else if (!read_all(c, in, e) && !conclude(c, in, d, tokens, counts, &n, e)) {
		snprintf(source, sizeof source, "counts-csv: %s", in->path);
		desc.n_moe_layer = (uint32_t)n;
		desc.n_layer = d[n - 1].layer + 1u;
		done->run = writer_add_counts(in->db, &desc, in->domain, tokens, counts, in->sink, e);
	}
	done->rows = c->rows;
	done->layers = (uint32_t)n;
	done->tokens = 0;
	for (size_t i = 0; i < n; i++)
		done->tokens = tokens[i] > done->tokens ? tokens[i] : done->tokens;
	counts_free(c);
	return done->run < 0 ? -1 : 0;
}

int counts_csv_export(const struct exchange_out *out, struct moe_err *e)
{
	struct load_set s;

	if (reader_load_counts(out->r, &out->f, &s, e))
		return -1;
	fprintf(out->to, HEAD "\r\n");
	for (size_t i = 0; i < s.n; i++)
		for (size_t x = 0; x < s.layer[i].n_expert; x++)
			fprintf(out->to, "%d,%zu,%" PRIu64 "\r\n", s.layer[i].layer, x, s.layer[i].counts[x]);
	load_set_free(&s);
	return 0;
}
