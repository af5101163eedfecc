/*
 * decisions_jsonl.c - decisions as JSON, an object a line:
 *
 *	{"run":1,"sequence":7,"position":0,"token":42,"layer":0,"experts":[3,11],
 *	 "weights":[0.625,0.375],"domain":"law","phase":"prefill"}
 *
 * on one line. Keys, defaults and errors as in decisions_csv.c.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "exchange/decisions.h"

static const struct { const char *key; int needed; size_t to; int64_t otherwise; } num[] = {
	{ "run", 0, offsetof(struct decision, run), 1 },
	{ "sequence", 1, offsetof(struct decision, sequence), 0 },
	{ "position", 1, offsetof(struct decision, position), 0 },
	{ "token", 0, offsetof(struct decision, token), -1 },
	{ "layer", 1, offsetof(struct decision, layer), 0 },
};
enum { N_NUM = sizeof num / sizeof *num };

int decisions_jsonl_detect(const char *head, size_t n)
{
	return n && *head == '{';
}

/* Whole numbers up to 2^53, which a double holds. */
static int whole(const struct lines *l, const char *what, const cJSON *j, int64_t *out,
	struct moe_err *e)
{
	if (!cJSON_IsNumber(j) || !(fabs(j->valuedouble) <= 0x1p53) ||
		j->valuedouble != floor(j->valuedouble))
		return lines_fail(l, e, "%s is not a whole number", what);
	*out = (int64_t)j->valuedouble;
	return 0;
}

static int lists(const struct lines *l, const cJSON *experts, const cJSON *weights,
	struct decision *d, struct moe_err *e)
{
	const cJSON *x;

	d->k = d->n_weight = 0;
	if (!cJSON_IsArray(experts))
		return lines_fail(l, e, "experts is not a list");
	cJSON_ArrayForEach(x, experts)
		if (d->k == MOE_MAX_EXPERT)
			return lines_fail(l, e, "more than %d experts", MOE_MAX_EXPERT);
		else if (whole(l, "an expert", x, &d->expert[d->k++], e))
			return -1;
	if (!weights || cJSON_IsNull(weights))
		return 0;
	if (!cJSON_IsArray(weights))
		return lines_fail(l, e, "weights is not a list");
	cJSON_ArrayForEach(x, weights) {
		if (d->n_weight == MOE_MAX_EXPERT)
			return lines_fail(l, e, "more than %d weights", MOE_MAX_EXPERT);
		if (!cJSON_IsNumber(x) || !isfinite(x->valuedouble))
			return lines_fail(l, e, "a weight is not a finite number");
		d->weight[d->n_weight++] = x->valuedouble;
	}
	return d->n_weight ? 0 : lines_fail(l, e, "%zu experts and 0 weights", d->k);
}

static int texts(const struct lines *l, const cJSON *domain, const cJSON *phase, struct decision *d,
	struct moe_err *e)
{
	*d->domain = 0;
	d->phase = MOE_PREFILL;
	if (domain && !cJSON_IsNull(domain)) {
		if (!cJSON_IsString(domain) || strlen(domain->valuestring) >= sizeof d->domain)
			return lines_fail(l, e, "domain is not a text of at most %zu bytes",
				sizeof d->domain - 1);
		strcpy(d->domain, domain->valuestring);
	}
	if (phase && (!cJSON_IsString(phase) || (strcmp(phase->valuestring, "prefill") &&
		strcmp(phase->valuestring, "decode"))))
		return lines_fail(l, e, "phase is neither \"prefill\" nor \"decode\"");
	if (phase)
		d->phase = !strcmp(phase->valuestring, "decode");
	return 0;
}

/* Keys are taken once each; others are an error, so that a misspelt one is not lost. */
static int object(struct lines *l, const cJSON *j, struct decision *d, struct moe_err *e)
{
	const cJSON *x, *have[N_NUM] = { NULL }, *experts = NULL, *weights = NULL, *domain = NULL,
		*phase = NULL;

	cJSON_ArrayForEach(x, j) {
		const cJSON **to = !strcmp(x->string, "experts") ? &experts :
			!strcmp(x->string, "weights") ? &weights : !strcmp(x->string, "domain") ? &domain :
			!strcmp(x->string, "phase") ? &phase : NULL;

		for (size_t i = 0; i < N_NUM; i++)
			if (!strcmp(x->string, num[i].key))
				to = &have[i];
		if (!to || *to)
			return lines_fail(l, e, to ? "key '%.40s' twice" : "key '%.40s' is unknown; keys are "
				"run, sequence, position, token, layer, experts, weights, domain, phase",
				x->string);
		*to = x;
	}
	for (size_t i = 0; i < N_NUM; i++) {
		int64_t *to = (int64_t *)(void *)((char *)d + num[i].to);

		*to = num[i].otherwise;
		if (!have[i] && num[i].needed)
			return lines_fail(l, e, "no key '%s'", num[i].key);
		if (have[i] && whole(l, num[i].key, have[i], to, e))
			return -1;
	}
	if (!experts)
		return lines_fail(l, e, "no key 'experts'");
	return lists(l, experts, weights, d, e) || texts(l, domain, phase, d, e) ? -1 : 0;
}

static int parse(struct lines *l, void *state, struct decision *d, struct moe_err *e)
{
	const char *end = NULL;
	cJSON *j = cJSON_ParseWithLengthOpts(l->line, l->len + 1, &end, 1);
	int bad;

	(void)state;
	if (!cJSON_IsObject(j)) {
		cJSON_Delete(j);
		return lines_fail(l, e, "not a JSON object");
	}
	bad = object(l, j, d, e);
	cJSON_Delete(j);
	return bad ? -1 : 1;
}

int decisions_jsonl_import(const struct exchange_in *in, struct exchange_done *done,
	struct moe_err *e)
{
	return decisions_import(in, "jsonl", parse, 0, done, e);
}

static void print(FILE *f, const struct decision_out *d)
{
	const struct cursor_chunk *c = d->c;
	size_t at = d->t * c->k_row + c->k_at[d->li], k = c->layers[d->li].k;

	fprintf(f, "{\"run\":%lld,\"sequence\":%llu,\"position\":%u,\"token\":%d,\"layer\":%d,"
		"\"experts\":[", (long long)d->run, (unsigned long long)c->seq, c->pos + d->t,
		c->tokens[d->t], c->layers[d->li].layer);
	for (size_t i = 0; i < k; i++)
		fprintf(f, i ? ",%d" : "%d", c->experts[at + i]);
	fputc(']', f);
	for (size_t i = 0; i < k && !isnan(c->weights[at]); i++)
		fprintf(f, "%s%.9g", i ? "," : ",\"weights\":[", c->weights[at + i]);
	if (!isnan(c->weights[at]))
		fputc(']', f);
	if (d->domain) {
		struct buf b;

		buf_init(&b, 4096);
		text_escape(&b, d->domain, strlen(d->domain), TEXT_JSON);
		fprintf(f, ",\"domain\":\"%s\"", b.data ? b.data : "");
		buf_free(&b);
	}
	fprintf(f, ",\"phase\":\"%s\"}\n", c->phase == MOE_DECODE ? "decode" : "prefill");
}

int decisions_jsonl_export(const struct exchange_out *out, struct moe_err *e)
{
	return decisions_export(out, print, e);
}
