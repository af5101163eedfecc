/*
 * audit_explain.c - `moescope audit explain`: what the routers decided for one token, and how near
 * it was to another decision. Printing: audit_explain_show.c.
 *
 * It says what was computed and recorded. It does not say why a text came out as it did: that a
 * masked expert changes the next token is a fact about this model and this prefix, not a reason.
 *
 * Scores come from the log where it holds logits (detail full), or from running the prefix again
 * with the model; the same run, with a chosen expert masked at this one position and layer, tells
 * what it would have changed. With --layer every chosen expert is masked in turn, else the first.
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
#include "cmd/engine.h"
#include "cmd/record.h"
#include "cmd/show.h"

#define NO_TOKENS "the log holds no decisions of single tokens: "

/* While the model runs. */
struct rerun {
	struct explain *x;
	struct session *s;
	struct moe_hook hook;
	int32_t *prefix;              /* [pos + 1] */
	int mask_layer, mask_expert;  /* mask_layer -1: nothing, and scores are filled in */
	uint16_t chosen[MOE_MAX_EXPERT]; /* by the masked layer, at the position */
	float *plain, *masked, *row;  /* [n_vocab] */
};

/* ---- from the database ---- */

static enum moe_score score_by_name(const char *name)
{
	for (int s = MOE_SCORE_SOFTMAX; s <= MOE_SCORE_NONE; s++)
		if (!strcmp(name, moe_route_score_name((enum moe_score)s)))
			return (enum moe_score)s;
	return MOE_SCORE_SOFTMAX;
}

static int is_one_of(const uint16_t *experts, size_t k, int expert)
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
static void take_logits(const struct explain *x, struct explain_layer *f, const float *logits)
{
	struct moe_route_spec spec = { .n_expert = f->n_expert, .k = f->k, .score = x->l.model ?
		model_info(x->l.model)->route.score : score_by_name(x->info.score) };
	/* Margins that are not kept exactly are off by up to an eighth. */
	double gap, tolerance = !strcmp(x->info.weights, "exact") ? 0 : 0.13 * fabs((double)f->margin);

	moe_route_scores(&spec, logits, f->scores);
	f->have_scores = 1;
	f->next = -1;
	for (int i = 0; i < f->n_expert; i++)
		if (!is_one_of(f->experts, f->k, i) && (f->next < 0 || f->scores[i] > f->scores[f->next]))
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
			take_logits(x, f, c->logits + t * c->e_row + c->e_at[i]);
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
			take_logits(x, f, ev.logits);
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

/* ---- with the model ---- */

static int on_edit(void *ctx, int layer, uint64_t seq, uint32_t pos, int32_t token, float *logits,
	int n_expert, struct moe_err *e)
{
	struct rerun *u = ctx;

	(void)seq, (void)token, (void)e;
	if (layer != u->mask_layer || pos != u->x->pos || u->mask_expert >= n_expert)
		return 0;
	logits[u->mask_expert] = -INFINITY;
	return 1;
}

static int on_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct rerun *u = ctx;
	struct explain *x = u->x;

	(void)e;
	for (uint32_t t = 0; t < v->n_tok; t++) {
		if (v->pos[t] != x->pos)
			continue;
		if (v->layer == u->mask_layer)
			memcpy(u->chosen, v->experts + (size_t)t * v->k, v->k * sizeof *u->chosen);
		for (size_t i = 0; u->mask_layer < 0 && i < x->info.n_moe_layer; i++)
			if (x->f[i].layer == v->layer) {
				x->rerun_differs += memcmp(x->f[i].experts, v->experts + (size_t)t * v->k,
					v->k * sizeof *v->experts) != 0;
				take_logits(x, &x->f[i], v->logits + (size_t)t * v->n_expert);
			}
	}
	return 0;
}

static int on_row(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct rerun *u = ctx;

	(void)e;
	if (pos == u->x->pos)
		memcpy(u->row, row, model_info(u->x->l.model)->n_vocab * sizeof *row);
	return 0;
}

static int run_prefix(struct rerun *u, float *row, struct moe_err *e)
{
	struct session_want want = { 0, on_row, u };
	struct moe_seq_info info = { .seq = u->x->seq };

	u->row = row;
	return session_begin(u->s, &info, e) ||
		session_eval(u->s, u->prefix, u->x->pos + 1, MOE_PREFILL, &want, e);
}

/* log of the sum of exponentials. */
static double lse(const float *x, size_t n)
{
	double max = (double)x[0], sum = 0;

	for (size_t i = 1; i < n; i++)
		max = (double)x[i] > max ? (double)x[i] : max;
	for (size_t i = 0; i < n; i++)
		sum += exp((double)x[i] - max);
	return max + log(sum);
}

static int32_t best(const float *x, size_t n)
{
	size_t b = 0;

	for (size_t i = 1; i < n; i++)
		b = x[i] > x[b] ? i : b;
	return (int32_t)b;
}

/* What masking did to the next token's distribution. */
static void difference(const struct rerun *u, struct explain_mask *m)
{
	size_t n = model_info(u->x->l.model)->n_vocab;
	double a = lse(u->plain, n), b = lse(u->masked, n);

	m->kl = 0;
	m->top_before = best(u->plain, n);
	m->top_after = best(u->masked, n);
	m->p_before = exp((double)u->plain[m->top_before] - a);
	m->p_after = exp((double)u->masked[m->top_before] - b);
	for (size_t i = 0; i < n; i++) {
		double p = (double)u->plain[i] - a, q = (double)u->masked[i] - b;

		m->kl += exp(p) * (p - q);
	}
	if (m->kl < 0) /* rounding */
		m->kl = 0;
}

/* Who is chosen now and was not before; -1 if it is not just one for the masked one. */
static int newcomer(const struct explain_layer *f, const uint16_t *chosen, int masked)
{
	int who = -1, stayed = 0;

	for (size_t k = 0; k < f->k; k++) {
		if (is_one_of(f->experts, f->k, chosen[k]))
			stayed += chosen[k] != masked;
		else
			who = chosen[k];
	}
	return stayed + 1 == f->k ? who : -1;
}

static int mask_layer(struct rerun *u, struct explain_layer *f, struct moe_err *e)
{
	size_t n = u->x->only_layer >= 0 ? f->k : 1;

	if (f->n_expert == f->k) /* nobody could take its place */
		return 0;
	f->mask = calloc(n, sizeof *f->mask);
	if (!f->mask)
		return err_nomem(e, n * sizeof *f->mask, "masked runs");
	for (; f->n_mask < n && !load_interrupted(); f->n_mask++) {
		struct explain_mask *m = &f->mask[f->n_mask];

		m->expert = f->experts[f->n_mask];
		u->mask_layer = f->layer;
		u->mask_expert = m->expert;
		if (run_prefix(u, u->masked, e))
			return -1;
		difference(u, m);
		m->in_place = newcomer(f, u->chosen, m->expert);
		/* The weakest chosen one makes room for the next without moving anything else. */
		if (f->next < 0 && !f->edited && m->expert == f->experts[f->k - 1])
			f->next = m->in_place;
	}
	return 0;
}

/* The recorded model's hash and the given one's. */
static void hashes(struct explain *x)
{
	unsigned char sha[SHA_BYTES], root[SHA_BYTES];

	snprintf(x->then, sizeof x->then, "%s", x->info.hash);
	record_model_hashes(x->l.gguf, sha, root);
	sodium_bin2hex(x->now, sizeof x->now, sha, sizeof sha);
}

static int with_model(struct explain *x, int32_t *prefix, uint64_t n_prefix, struct moe_err *e)
{
	struct rerun u = { .x = x, .prefix = prefix, .mask_layer = -1 };
	size_t n;
	int bad;

	if (*x->info.source)
		return err_set(e, MOE_ERR_USAGE,
			"run %" PRId64 " was imported, nobody knows from which model: "
			"explain without --model",
			x->info.id);
	if (n_prefix != x->pos + 1)
		return err_set(e, MOE_ERR_INPUT,
			"of the %" PRIu64 " tokens up to the position %" PRIu64 " are in the "
			"log: the rest was redacted, pruned or dropped, so nothing can be run again",
			x->pos + 1, n_prefix);
	if (load_model(audit_o.model, &audit_o.load, &x->l, e))
		return -1;
	if (model_info(x->l.model)->n_moe_layer != x->info.n_moe_layer ||
		memcmp(model_info(x->l.model)->layers, x->info.layers,
			x->info.n_moe_layer * sizeof x->info.layers[0]))
		return err_set(e, MOE_ERR_INPUT, "%s: its routers are not those of run %" PRId64,
			audit_o.model, x->info.id);
	hashes(x);
	n = model_info(x->l.model)->n_vocab;
	u.plain = malloc(n * sizeof *u.plain);
	u.masked = malloc(n * sizeof *u.masked);
	u.hook = (struct moe_hook){ .name = "mask", .ctx = &u, .edit = on_edit, .route = on_route };
	bad = !u.plain || !u.masked ? err_nomem(e, 2 * n * sizeof *u.plain, "logits") : 0;
	bad = bad || !(u.s = engine_session(&x->l, &audit_o.load, e)) ||
		session_add_hook(u.s, &u.hook, e);
	if (!bad && x->pos >= session_ctx(u.s))
		bad = err_set(e, MOE_ERR_USAGE,
			"position %" PRIu64 " does not fit in a context of %u (--ctx)", x->pos,
			session_ctx(u.s));
	bad = bad || run_prefix(&u, u.plain, e);
	x->rerun = !bad;
	for (size_t i = 0; !bad && i < x->info.n_moe_layer && !load_interrupted(); i++)
		if (x->only_layer < 0 || x->f[i].layer == x->only_layer)
			bad = mask_layer(&u, &x->f[i], e);
	session_free(u.s);
	free(u.plain);
	free(u.masked);
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
		(audit_o.model && with_model(x, prefix, n_prefix, e));
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
