/*
 * audit_explain.c - `moescope audit explain`: what the routers decided for one token, and how near
 * it was to another decision. Printing: audit_explain_show.c.
 *
 * It says what was computed and recorded. It does not say why a text came out as it did: that a
 * masked expert changes the next token is a fact about this model and this prefix, not a reason.
 *
 * Scores come from the log where it holds logits (detail full), or from running the prefix again
 * with the model (audit_explain_run.c).
 */
#include "cmd/audit_explain.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/payload.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/audit.h"
#include "cmd/audit_recorded.h"
#include "cmd/show.h"

#define NO_TOKENS "the log holds no decisions of single tokens: "

/* ---- from the database ---- */

static enum moe_score score_by_name(const char *name)
{
	for (int s = MOE_SCORE_SOFTMAX; s <= MOE_SCORE_NONE; s++)
		if (!strcmp(name, moe_route_score_name((enum moe_score)s)))
			return (enum moe_score)s;
	return MOE_SCORE_SOFTMAX;
}

int explain_is_one_of(const uint16_t *experts, size_t k, int expert)
{
	for (size_t i = 0; i < k; i++)
		if (experts[i] == expert)
			return 1;
	return 0;
}

/*
 * Scores of all experts, and the best one that was not chosen. Where a bias or groups take part in
 * the selection, scores alone do not say who that is: it is named only if the recorded margin is
 * the difference of the two scores.
 */
void explain_take_logits(const struct explain *x, struct explain_layer *f, const float *logits)
{
	struct moe_route_spec spec = { .n_expert = f->n_expert, .k = f->k, .score = x->l.model ?
		model_info(x->l.model)->route.score : score_by_name(x->info.score) };
	/* Margins that are not kept exactly are off by up to an eighth. */
	int exact = x->sealed || !strcmp(x->info.weights, "exact");
	double gap, tolerance = exact ? 0 : 0.13 * fabs((double)f->margin);

	moe_route_scores(&spec, logits, f->scores);
	f->have_scores = 1;
	f->next = -1;
	for (int i = 0; i < f->n_expert; i++)
		if (!explain_is_one_of(f->experts, f->k, i) &&
			(f->next < 0 || f->scores[i] > f->scores[f->next]))
			f->next = i;
	if (f->next < 0)
		return;
	tolerance += 2e-6 * (1 + fabs((double)f->scores[f->next]));
	gap = (double)f->scores[f->experts[f->k - 1]] - (double)f->scores[f->next];
	if (!(fabs(gap - (double)f->margin) <= tolerance))
		f->next = -1;
}

static void take_chunk(struct explain *x, const struct cursor_chunk *c)
{
	size_t t = x->pos - c->pos;

	x->token = c->tokens[t];
	x->phase = c->phase;
	for (size_t i = 0; i < c->n_layer; i++) {
		struct explain_layer *f = &x->f[i];
		size_t pick = t * c->k_row + c->k_at[i];

		f->next = -1;
		memcpy(f->experts, c->experts + pick, f->k * sizeof *f->experts);
		memcpy(f->weights, c->weights + pick, f->k * sizeof *f->weights);
		f->margin = c->margins[t * c->n_layer + i];
		f->edited = c->before && c->flags && (c->flags[t * c->n_layer + i] & MOE_EV_EDITED);
		if (f->edited)
			memcpy(f->before, c->before + pick, f->k * sizeof *f->before);
		if (c->logits)
			explain_take_logits(x, f, c->logits + t * c->e_row + c->e_at[i]);
	}
}

/* The same from the opened payload of an encrypted leaf. */
static int take_events(struct explain *x, const struct buf *plain, struct moe_err *e)
{
	static const char record[] = "moescope-record/";
	const unsigned char *p = (const unsigned char *)plain->data;
	struct event_store *store = malloc(sizeof *store);
	struct moe_event ev;
	size_t used, n = 0;
	int bad = store ? 0 : err_nomem(e, sizeof *store, "decisions");

	if (!bad && plain->len >= sizeof record && !memcmp(p, record, sizeof record - 1))
		bad = err_set(e, MOE_ERR_INPUT, NO_TOKENS "it has the sums of an import");
	for (size_t at = 0; !bad && at < plain->len; at += used) {
		struct explain_layer *f = &x->f[n];

		bad = event_decode(p + at, plain->len - at, store, &ev, &used, e);
		if (bad || ev.pos != x->pos)
			continue;
		if (n == x->info.n_moe_layer || ev.layer != f->layer || ev.n_expert != f->n_expert ||
			ev.k != f->k) {
			bad = err_set(e, MOE_ERR_INPUT, "leaf %" PRIu64 ": layer %d has another shape than in "
				"the run", x->leaf, ev.layer);
			continue;
		}
		x->token = ev.token;
		x->phase = ev.phase;
		f->next = -1;
		memcpy(f->experts, ev.experts, f->k * sizeof *f->experts);
		memcpy(f->weights, ev.weights, f->k * sizeof *f->weights);
		f->margin = ev.margin;
		f->edited = ev.before && (ev.flags & MOE_EV_EDITED);
		if (f->edited)
			memcpy(f->before, ev.before, f->k * sizeof *f->before);
		if (ev.logits)
			explain_take_logits(x, f, ev.logits);
		n++;
	}
	if (!bad && n < x->info.n_moe_layer)
		bad = err_set(e, MOE_ERR_INPUT,
			"leaf %" PRIu64 ": position %" PRIu64 " has %zu of %u layers",
			x->leaf, x->pos, n, x->info.n_moe_layer);
	free(store);
	return bad ? -1 : 0;
}

/* The token's prefix where it is encrypted; how its margins stand among those of its sequence. */
static int scan_sealed(struct explain *x, int32_t *prefix, uint64_t *n_prefix, struct moe_err *e)
{
	size_t n_layer = x->info.n_moe_layer;
	struct recorded c;
	int rc;

	recorded_init(&c, &x->info);
	c.seq = x->seq;
	rc = recorded_sealed(&c, x->r, x->seal, e);
	*n_prefix = c.n <= x->pos ? c.n : x->pos + 1;
	for (size_t i = 0; i < *n_prefix; i++)
		prefix[i] = c.tokens[i];
	for (size_t i = 0; i < n_layer; i++) {
		size_t below = 0;

		for (size_t t = 0; t < c.n; t++)
			below += c.margins[t * n_layer + i] < x->f[i].margin;
		x->f[i].below = (struct explain_share){ c.n ? (double)below / (double)c.n : NAN, -1 };
	}
	recorded_free(&c);
	return rc < 0 ? -1 : 0;
}

/* One pass over the run: the token's prefix, and how its margins stand among the others. */
static int scan(struct explain *x, int32_t *prefix, uint64_t *n_prefix, struct moe_err *e)
{
	struct load_filter f = { .run = x->info.id, .domain = -1, .phase = -1 };
	uint64_t n[2] = { 0, 0 }, *below = calloc(2 * x->info.n_moe_layer, sizeof *below);
	struct cursor *cur = cursor_open(x->r, &f, e);
	struct cursor_chunk c;
	int rc = cur && below ? 0 : -1;

	*n_prefix = 0;
	while (rc == 0 && (rc = cursor_next(cur, &c, e)) == 1) {
		int same = x->domain && c.domain == x->domain;

		n[0] += c.n;
		n[1] += same ? c.n : 0;
		for (size_t t = 0; t < c.n; t++)
			for (size_t i = 0; i < c.n_layer; i++) {
				int smaller = c.margins[t * c.n_layer + i] < x->f[i].margin;

				below[2 * i] += smaller;
				below[2 * i + 1] += smaller && same;
			}
		for (size_t t = 0; t < c.n; t++)
			if (c.seq == x->seq && c.pos + t <= x->pos) {
				prefix[c.pos + t] = c.tokens[t];
				++*n_prefix;
			}
		rc = 0;
		if (load_interrupted())
			break;
	}
	for (size_t i = 0; i < x->info.n_moe_layer && n[0]; i++)
		x->f[i].below = (struct explain_share){ (double)below[2 * i] / (double)n[0],
			n[1] ? (double)below[2 * i + 1] / (double)n[1] : -1 };
	cursor_close(cur);
	free(below);
	return rc < 0 ? -1 : 0;
}

static int shares(struct explain *x, int64_t domain, struct moe_err *e)
{
	struct load_filter f = { .run = x->info.id, .domain = domain, .phase = -1 };
	struct load_set set;

	if (reader_load(x->r, &f, &set, e))
		return -1;
	for (size_t i = 0; i < set.n && i < x->info.n_moe_layer; i++)
		for (size_t k = 0; k < x->f[i].k; k++) {
			double s = set.layer[i].tokens ? (double)set.layer[i].counts[x->f[i].experts[k]] /
				(double)set.layer[i].tokens : 0;

			*(domain < 0 ? &x->f[i].share[k].run : &x->f[i].share[k].domain) = s;
		}
	load_set_free(&set);
	return 0;
}

/* What the leaf holds of the token: from its rows, or opened with --seal. */
static int read_leaf(struct explain *x, const struct log_row *row, struct buf *payload,
	struct moe_err *e)
{
	struct load_filter f = { .run = x->info.id, .domain = -1, .phase = -1 };
	struct cursor *cur = NULL;
	struct cursor_chunk c;
	unsigned char sum[SHA_BYTES];
	int bad;

	if (row->leaf.flags & LEAF_SUMS)
		return err_set(e, MOE_ERR_INPUT, NO_TOKENS "its detail is sums");
	if (payload_of(x->r, row, payload, e))
		return -1;
	x->sealed = (row->leaf.flags & LEAF_SEALED) != 0;
	if (x->sealed && !audit_o.seal)
		return err_set(e, MOE_ERR_INPUT, NO_TOKENS "they are encrypted (--seal FILE opens them)");
	leaf_commit(row->salt, payload->data, payload->len, sum);
	x->opens = row->has_salt && !memcmp(sum, row->leaf.commit, SHA_BYTES);
	if (x->sealed)
		return recorded_open(x->r, x->seal, row, payload, e) || take_events(x, payload, e) ? -1 : 0;
	cur = cursor_open(x->r, &f, e);
	bad = !cur || cursor_seek(cur, row->chunk, e) != 1 || cursor_next(cur, &c, e) != 1;
	if (!bad)
		take_chunk(x, &c);
	cursor_close(cur);
	return bad ? -1 : 0;
}

/* The sequence's domain. */
static int find_domain(struct explain *x, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(reader_db(x->r), "SELECT s.domain, d.name FROM sequence s LEFT JOIN "
			"domain d ON d.id = s.domain WHERE s.run = ? AND s.seq = ?", -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "%s", sqlite3_errmsg(reader_db(x->r)));
	sqlite3_bind_int64(st, 1, x->info.id);
	sqlite3_bind_int64(st, 2, (int64_t)x->seq);
	if (sqlite3_step(st) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(st, 1);

		x->domain = sqlite3_column_int64(st, 0);
		snprintf(x->domain_name, sizeof x->domain_name, "%s", name ? name : "");
	}
	sqlite3_finalize(st);
	return 0;
}

static int find_token(struct explain *x, struct moe_err *e)
{
	struct log_row row = { 0 };
	struct buf payload;
	int bad;

	buf_init(&payload, PAYLOAD_MAX);
	bad = find_domain(x, e) || payload_find(x->r, x->info.id, x->seq, x->pos, &x->leaf, e) ||
		log_read(reader_db(x->r), x->leaf, &row, e) || read_leaf(x, &row, &payload, e);
	log_row_free(&row);
	if (payload.data && x->sealed)
		sodium_memzero(payload.data, payload.len);
	buf_free(&payload);
	return bad ? -1 : 0;
}

/* ---- all of it ---- */

/* The layers' shapes, with room for what is found out about them. */
static int make_layers(struct explain *x, struct moe_err *e)
{
	int known = 0;

	x->f = calloc(x->info.n_moe_layer, sizeof *x->f);
	if (!x->f)
		return err_nomem(e, x->info.n_moe_layer * sizeof *x->f, "layers");
	for (uint32_t i = 0; i < x->info.n_moe_layer; i++) {
		const struct moe_layer_desc *d = &x->info.layers[i];

		known |= x->only_layer < 0 || d->layer == x->only_layer;
		x->f[i] = (struct explain_layer){ .layer = d->layer, .n_expert = d->n_expert, .k = d->k,
			.next = -1, .share = calloc(d->k, sizeof *x->f[i].share) };
		if (!x->f[i].share)
			return err_nomem(e, d->k * sizeof *x->f[i].share, "shares of experts");
		for (size_t k = 0; k < d->k; k++)
			x->f[i].share[k].domain = -1;
	}
	return known ? 0
				 : err_set(e, MOE_ERR_USAGE, "--layer %" PRId64 ": the model has no router there",
					x->only_layer);
}

static int collect(struct explain *x, const char *db, struct moe_err *e)
{
	int32_t *prefix = NULL;
	uint64_t n_prefix;
	int bad;

	if (x->pos >= UINT32_MAX)
		return err_set(e, MOE_ERR_USAGE, "TOKEN %" PRIu64 ": a position is below 2^32", x->pos);
	if (make_layers(x, e) || find_token(x, e) ||
		audit_access(db, LEAF_ACCESS, "explain", x->info.id, (int64_t)x->seq, (int64_t)x->pos, e))
		return -1;
	prefix = calloc(x->pos + 1, sizeof *prefix);
	if (!prefix)
		return err_nomem(e, (x->pos + 1) * 4, "the prefix");
	bad = (x->sealed ? scan_sealed : scan)(x, prefix, &n_prefix, e) || shares(x, -1, e) ||
		(x->domain && shares(x, x->domain, e)) ||
		(audit_o.model && explain_with_model(x, prefix, n_prefix, e));
	free(prefix);
	return bad ? -1 : 0;
}

static int write_out(const struct explain *x, struct moe_err *e)
{
	struct buf out;
	int bad;

	buf_init(&out, 1 << 26);
	(audit_o.json ? explain_json : audit_o.html ? explain_page : explain_text)(x, &out);
	bad = out.failed ? err_nomem(e, out.len, "the text")
					 : audit_write_file(audit_o.html && !audit_o.json ? audit_o.html
							: audit_o.out                          ? audit_o.out
																	: "-",
						out.data, out.len, e);
	buf_free(&out);
	return bad;
}

static void explain_free(struct explain *x)
{
	for (uint32_t i = 0; x->f && i < x->info.n_moe_layer; i++) {
		free(x->f[i].share);
		free(x->f[i].mask);
	}
	free(x->f);
	load_free(&x->l);
	reader_close(x->r);
	sodium_memzero(x->seal, sizeof x->seal);
	free(x);
}

int audit_explain(int argc, char **argv, struct moe_err *e)
{
	struct explain *x;
	int bad;

	if (argc != 3)
		return err_set(e, MOE_ERR_USAGE, "explain: DB SEQ TOKEN is expected");
	x = calloc(1, sizeof *x);
	if (!x)
		return err_nomem(e, sizeof *x, "an explanation");
	load_catch_interrupt();
	x->only_layer = audit_o.layer;
	bad = audit_number("SEQ", argv[1], &x->seq, e) || audit_number("TOKEN", argv[2], &x->pos, e) ||
		(audit_o.seal && (sodium_init() < 0 || seal_key_load(x->seal, audit_o.seal, e))) ||
		!(x->r = reader_open(argv[0], e)) || reader_run(x->r, audit_o.run, &x->info, e) ||
		collect(x, argv[0], e) || write_out(x, e);
	explain_free(x);
	return bad ? -1 : load_interrupted() ? 130 : 0;
}
