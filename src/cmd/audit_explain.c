/*
 * audit_explain.c - `moescope audit explain`: what the routers decided for one token, and how near it
 * was to another decision.
 *
 * It says what was computed and recorded. It does not say why a text came out as it did: that a
 * masked expert changes the next token is a fact about this model and this prefix, not a reason.
 *
 * Scores come from the log where it holds logits (detail full), or from running the prefix again
 * with the model; the same run, with the chosen expert masked at this one position and layer, tells
 * what it would have changed.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/payload.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/audit.h"
#include "cmd/engine.h"
#include "cmd/show.h"

struct layer_facts {
	uint16_t layer, n_expert, k;
	uint16_t experts[MOE_MAX_EXPERT];
	float weights[MOE_MAX_EXPERT], margin;
	int have_scores, next;        /* next: the expert that would have come, -1 = unknown */
	float scores[MOE_MAX_EXPERT];
	double below;                 /* share of the run's decisions of this layer with a smaller margin */
	double share_run, share_domain; /* of tokens, that chose the first expert; domain < 0 = none */
	int masked;                   /* the next four are known */
	double kl, p_before, p_after; /* KL of the next token in nats; of the token that was first */
	int32_t top_before, top_after;
};

struct explain {
	struct reader *r;
	struct run_info info;
	uint64_t seq, pos, leaf;
	int32_t token;
	int64_t domain, sequence;
	uint8_t phase;
	int opens;
	char domain_name[64];
	struct layer_facts *f;        /* [n_moe_layer] */
	struct loaded l;
	struct session *s;
	struct moe_hook hook;
	int32_t *prefix;              /* [pos + 1] */
	size_t k_at[MOE_MAX_LAYER];
	int mask_layer, mask_expert;  /* mask_layer -1: nothing */
	int record;                   /* fill in scores from this run */
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

/* Scores of all experts, and the best one that was not chosen. */
static void take_logits(struct explain *x, struct layer_facts *f, const float *logits)
{
	struct moe_route_spec spec = { .n_expert = f->n_expert, .k = f->k, .score = x->l.model ?
		model_info(x->l.model)->route.score : score_by_name(x->info.score) };

	moe_route_scores(&spec, logits, f->scores);
	f->have_scores = 1;
	f->next = -1;
	for (int i = 0; i < f->n_expert; i++) {
		int chosen = 0;

		for (int k = 0; k < f->k; k++)
			chosen |= f->experts[k] == i;
		if (!chosen && (f->next < 0 || f->scores[i] > f->scores[f->next]))
			f->next = i;
	}
}

static void take_chunk(struct explain *x, const struct cursor_chunk *c)
{
	size_t t = x->pos - c->pos;

	x->token = c->tokens[t];
	x->phase = c->phase;
	x->domain = c->domain;
	x->sequence = c->sequence;
	for (size_t i = 0; i < c->n_layer; i++) {
		struct layer_facts *f = &x->f[i];

		f->layer = c->layers[i].layer;
		f->n_expert = c->layers[i].n_expert;
		f->k = c->layers[i].k;
		f->next = -1;
		memcpy(f->experts, c->experts + t * c->k_row + c->k_at[i], f->k * sizeof *f->experts);
		memcpy(f->weights, c->weights + t * c->k_row + c->k_at[i], f->k * sizeof *f->weights);
		f->margin = c->margins[t * c->n_layer + i];
		if (c->logits)
			take_logits(x, f, c->logits + t * c->e_row + c->e_at[i]);
	}
}

/* One pass over the run: the token itself, its prefix, and how its margins stand among the others. */
static int scan(struct explain *x, struct moe_err *e)
{
	struct load_filter f = { .run = x->info.id, .domain = -1, .phase = -1 };
	uint64_t n = 0, *below = calloc(x->info.n_moe_layer, sizeof *below);
	struct cursor *cur = cursor_open(x->r, &f, e);
	struct cursor_chunk c;
	int rc = cur && below ? 0 : -1;

	while (rc == 0 && (rc = cursor_next(cur, &c, e)) == 1) {
		for (size_t t = 0; t < c.n; t++, n++)
			for (size_t i = 0; i < c.n_layer; i++)
				below[i] += c.margins[t * c.n_layer + i] < x->f[i].margin;
		for (size_t t = 0; t < c.n; t++)
			if (c.seq == x->seq && c.pos + t <= x->pos)
				x->prefix[c.pos + t] = c.tokens[t];
		rc = 0;
		if (load_interrupted())
			break;
	}
	for (size_t i = 0; i < x->info.n_moe_layer && n; i++)
		x->f[i].below = (double)below[i] / (double)n;
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
	for (size_t i = 0; i < set.n && i < x->info.n_moe_layer; i++) {
		double s = set.layer[i].tokens ? (double)set.layer[i].counts[x->f[i].experts[0]] /
			(double)set.layer[i].tokens : 0;

		*(domain < 0 ? &x->f[i].share_run : &x->f[i].share_domain) = s;
	}
	load_set_free(&set);
	return 0;
}

static int find_token(struct explain *x, struct moe_err *e)
{
	struct load_filter f = { .run = x->info.id, .domain = -1, .phase = -1 };
	struct cursor *cur = NULL;
	struct cursor_chunk c;
	struct log_row row = { 0 };
	struct domain_info *d = NULL;
	struct buf payload;
	unsigned char sum[SHA_BYTES];
	size_t n_d = 0;
	int bad;

	buf_init(&payload, PAYLOAD_MAX);
	bad = payload_find(x->r, x->info.id, x->seq, x->pos, &x->leaf, e) ||
		log_read(reader_db(x->r), x->leaf, &row, e) || payload_of(x->r, &row, &payload, e);
	if (!bad && row.leaf.flags & (LEAF_SEALED | LEAF_SUMS))
		bad = err_set(e, MOE_ERR_INPUT, "the log holds no decisions of single tokens: %s",
			row.leaf.flags & LEAF_SEALED ? "they are encrypted" : "its detail is sums");
	if (!bad) {
		leaf_commit(row.salt, payload.data, payload.len, sum);
		x->opens = !memcmp(sum, row.leaf.commit, SHA_BYTES);
		cur = cursor_open(x->r, &f, e);
		bad = !cur || cursor_seek(cur, row.chunk, e) != 1 || cursor_next(cur, &c, e) != 1;
	}
	if (!bad)
		take_chunk(x, &c);
	if (!bad && x->domain && !reader_domains(x->r, x->info.id, &d, &n_d, e))
		for (size_t i = 0; i < n_d; i++)
			if (d[i].id == x->domain)
				snprintf(x->domain_name, sizeof x->domain_name, "%s", d[i].name);
	free(d);
	cursor_close(cur);
	log_row_free(&row);
	buf_free(&payload);
	return bad ? -1 : 0;
}

/* ---- with the model ---- */

static int on_edit(void *ctx, int layer, uint64_t seq, uint32_t pos, int32_t token, float *logits,
	int n_expert, struct moe_err *e)
{
	struct explain *x = ctx;

	(void)seq, (void)token, (void)e;
	if (layer != x->mask_layer || pos != x->pos || x->mask_expert >= n_expert)
		return 0;
	logits[x->mask_expert] = -INFINITY;
	return 1;
}

static int on_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct explain *x = ctx;

	(void)e;
	for (uint32_t t = 0; x->record && t < v->n_tok; t++)
		for (size_t i = 0; i < x->info.n_moe_layer; i++)
			if (v->pos[t] == x->pos && x->f[i].layer == v->layer)
				take_logits(x, &x->f[i], v->logits + (size_t)t * v->n_expert);
	return 0;
}

static int on_row(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct explain *x = ctx;

	(void)e;
	if (pos == x->pos)
		memcpy(x->row, row, model_info(x->l.model)->n_vocab * sizeof *row);
	return 0;
}

static int run_prefix(struct explain *x, float *row, struct moe_err *e)
{
	struct session_want want = { 0, on_row, x };
	struct moe_seq_info info = { .seq = x->seq };

	x->row = row;
	return session_begin(x->s, &info, e) || session_eval(x->s, x->prefix, x->pos + 1, MOE_PREFILL, &want, e);
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

static void difference(struct explain *x, struct layer_facts *f)
{
	size_t n = model_info(x->l.model)->n_vocab;
	double a = lse(x->plain, n), b = lse(x->masked, n);

	f->masked = 1;
	f->kl = 0;
	f->top_before = best(x->plain, n);
	f->top_after = best(x->masked, n);
	f->p_before = exp((double)x->plain[f->top_before] - a);
	f->p_after = exp((double)x->masked[f->top_before] - b);
	for (size_t i = 0; i < n; i++) {
		double p = (double)x->plain[i] - a, q = (double)x->masked[i] - b;

		f->kl += exp(p) * (p - q);
	}
	if (f->kl < 0) /* rounding */
		f->kl = 0;
}

static int with_model(struct explain *x, struct moe_err *e)
{
	size_t n;

	if (load_model(audit_o.model, &audit_o.load, &x->l, e))
		return -1;
	if (model_info(x->l.model)->n_moe_layer != x->info.n_moe_layer || memcmp(model_info(x->l.model)->layers,
		x->info.layers, x->info.n_moe_layer * sizeof x->info.layers[0]))
		return err_set(e, MOE_ERR_INPUT, "%s: its routers are not those of run %" PRId64, audit_o.model,
			x->info.id);
	n = model_info(x->l.model)->n_vocab;
	x->plain = malloc(n * sizeof *x->plain);
	x->masked = malloc(n * sizeof *x->masked);
	x->hook = (struct moe_hook){ .name = "mask", .ctx = x, .edit = on_edit, .route = on_route };
	if (!x->plain || !x->masked)
		return err_nomem(e, 2 * n * sizeof *x->plain, "logits");
	x->s = engine_session(&x->l, &audit_o.load, e);
	x->mask_layer = -1;
	x->record = 1;
	if (!x->s || session_add_hook(x->s, &x->hook, e))
		return -1;
	if (x->pos >= session_ctx(x->s))
		return err_set(e, MOE_ERR_USAGE, "position %" PRIu64 " does not fit in a context of %u (--ctx)",
			x->pos, session_ctx(x->s));
	if (run_prefix(x, x->plain, e))
		return -1;
	x->record = 0;
	for (size_t i = 0; i < x->info.n_moe_layer && !load_interrupted(); i++) {
		if (audit_o.layer >= 0 && x->f[i].layer != audit_o.layer)
			continue;
		if (x->f[i].n_expert == x->f[i].k) /* nobody could take its place */
			continue;
		x->mask_layer = x->f[i].layer;
		x->mask_expert = x->f[i].experts[0];
		if (run_prefix(x, x->masked, e))
			return -1;
		difference(x, &x->f[i]);
	}
	return 0;
}

/* ---- printing ---- */

static void token_text(struct explain *x, int32_t id, char *out, size_t size)
{
	size_t n = 0;
	const char *p = x->l.tok ? tok_bytes(x->l.tok, id, &n) : NULL;
	struct buf b;

	snprintf(out, size, "%d", id);
	if (!p)
		return;
	buf_init(&b, 4096);
	text_escape(&b, p, n, TEXT_TERMINAL);
	snprintf(out, size, "%d '%s'", id, b.data ? b.data : "");
	buf_free(&b);
}

static const char disclaimer[] = "This is traceability: what the routers computed for this token, as recorded. "
	"It is not a cause of the text.";

static void add_text(struct explain *x, struct buf *b)
{
	char token[200], before[200], after[200];

	token_text(x, x->token, token, sizeof token);
	buf_printf(b, "run %" PRId64 ", sequence %" PRIu64 ", position %" PRIu64 ": token %s, %s%s%s\n", x->info.id,
		x->seq, x->pos, token, x->phase ? "generated" : "read in", *x->domain_name ? ", domain " : "",
		show(x->domain_name).s);
	buf_printf(b, "recorded in leaf %" PRIu64 " of the log; the rows %s what the leaf commits to\n", x->leaf,
		x->opens ? "are" : "ARE NOT");
	for (size_t i = 0; i < x->info.n_moe_layer; i++) {
		const struct layer_facts *f = &x->f[i];

		if (audit_o.layer >= 0 && f->layer != audit_o.layer)
			continue;
		buf_printf(b, "\nlayer %d\n  chosen   ", f->layer);
		for (int k = 0; k < f->k; k++) {
			buf_printf(b, " E%d weight %.3f", f->experts[k], (double)f->weights[k]);
			if (f->have_scores)
				buf_printf(b, " score %.4f", (double)f->scores[f->experts[k]]);
			buf_str(b, k + 1 < f->k ? "," : "\n");
		}
		if (f->next >= 0)
			buf_printf(b, "  next      E%d score %.4f would have come\n", f->next, (double)f->scores[f->next]);
		buf_printf(b, "  margin    %.4g, smaller in %.1f %% of the run's decisions here%s\n", (double)f->margin,
			100 * f->below, f->below < 0.05 ? ": a close one" : "");
		buf_printf(b, "  usual?    E%d is chosen for %.1f %% of the run's tokens", f->experts[0],
			100 * f->share_run);
		if (f->share_domain >= 0)
			buf_printf(b, ", %.1f %% in this domain", 100 * f->share_domain);
		buf_printf(b, "; even would be %.1f %%\n", 100.0 * f->k / f->n_expert);
		if (f->masked) {
			token_text(x, f->top_before, before, sizeof before);
			token_text(x, f->top_after, after, sizeof after);
			buf_printf(b, "  masked    without E%d the next token's distribution moves by %.4f nats; the likeliest "
				"is %s%s%s, its probability goes from %.3f to %.3f\n", f->experts[0], f->kl, before,
				f->top_before == f->top_after ? " still" : ", then ",
				f->top_before == f->top_after ? "" : after, f->p_before, f->p_after);
		}
		if (!f->have_scores)
			buf_str(b, "  scores and the next expert: not in the log; --model FILE runs the prefix again\n");
	}
	buf_printf(b, "\n%s\n", disclaimer);
}

/* A number, or null where JSON has none. */
static void add_number(struct buf *b, const char *key, double v)
{
	if (isfinite(v))
		buf_printf(b, ", \"%s\": %.9g", key, v);
	else
		buf_printf(b, ", \"%s\": null", key);
}

static void add_json(struct explain *x, struct buf *b)
{
	int n = 0;

	buf_printf(b, "{\"run\": %" PRId64 ", \"sequence\": %" PRIu64 ", \"position\": %" PRIu64 ", \"token\": %d, "
		"\"phase\": \"%s\", \"leaf\": %" PRIu64 ", \"rows_match_leaf\": %s, \"domain\": ", x->info.id, x->seq,
		x->pos, x->token, x->phase ? "decode" : "prefill", x->leaf, x->opens ? "true" : "false");
	if (*x->domain_name) {
		buf_char(b, '"');
		text_escape(b, x->domain_name, strlen(x->domain_name), TEXT_JSON);
		buf_char(b, '"');
	} else {
		buf_str(b, "null");
	}
	buf_str(b, ", \"layers\": [");
	for (size_t i = 0; i < x->info.n_moe_layer; i++) {
		const struct layer_facts *f = &x->f[i];

		if (audit_o.layer >= 0 && f->layer != audit_o.layer)
			continue;
		buf_printf(b, "%s\n {\"layer\": %d, \"chosen\": [", n++ ? "," : "", f->layer);
		for (int k = 0; k < f->k; k++) {
			buf_printf(b, "%s{\"expert\": %d", k ? ", " : "", f->experts[k]);
			add_number(b, "weight", (double)f->weights[k]);
			if (f->have_scores)
				add_number(b, "score", (double)f->scores[f->experts[k]]);
			buf_char(b, '}');
		}
		buf_char(b, ']');
		add_number(b, "margin", (double)f->margin);
		add_number(b, "margin_below", f->below);
		add_number(b, "share_run", f->share_run);
		add_number(b, "share_domain", f->share_domain >= 0 ? f->share_domain : NAN);
		add_number(b, "share_even", (double)f->k / f->n_expert);
		if (f->next >= 0) {
			buf_printf(b, ", \"next\": %d", f->next);
			add_number(b, "next_score", (double)f->scores[f->next]);
		}
		if (f->have_scores) {
			buf_str(b, ", \"scores\": [");
			for (int s = 0; s < f->n_expert; s++)
				buf_printf(b, isfinite(f->scores[s]) ? "%s%.9g" : "%snull", s ? ", " : "", (double)f->scores[s]);
			buf_char(b, ']');
		}
		if (f->masked) {
			buf_printf(b, ", \"masked\": {\"expert\": %d, \"top_before\": %d, \"top_after\": %d", f->experts[0],
				f->top_before, f->top_after);
			add_number(b, "kl_nats", f->kl);
			add_number(b, "p_before", f->p_before);
			add_number(b, "p_after", f->p_after);
			buf_char(b, '}');
		}
		buf_char(b, '}');
	}
	buf_printf(b, "\n], \"note\": \"%s\"}\n", disclaimer);
}

/* The text as a page of its own: no script, nothing from elsewhere. */
static void add_page(struct explain *x, struct buf *b)
{
	struct buf t;

	buf_init(&t, 1 << 24);
	add_text(x, &t);
	buf_printf(b, "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
		"'unsafe-inline'\">\n<title>moescope: run %" PRId64 ", sequence %" PRIu64 ", position %" PRIu64
		"</title>\n<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}"
		"pre{white-space:pre-wrap;font:14px/1.5 ui-monospace,monospace}"
		".b{display:inline-block;background:#38c;height:.8em}td{padding:0 .6em 0 0;font-size:13px}</style>\n"
		"<h1>One token's routing</h1>\n<pre>", x->info.id, x->seq, x->pos);
	for (size_t at = 0; at < t.len;) { /* line by line: line ends stay */
		const char *end = memchr(t.data + at, '\n', t.len - at);
		size_t n = end ? (size_t)(end - (t.data + at)) : t.len - at;

		text_escape(b, t.data + at, n, TEXT_HTML);
		buf_char(b, '\n');
		at += n + 1;
	}
	buf_str(b, "</pre>\n");
	for (size_t i = 0; i < x->info.n_moe_layer; i++) {
		const struct layer_facts *f = &x->f[i];

		if (!f->have_scores || (audit_o.layer >= 0 && f->layer != audit_o.layer))
			continue;
		buf_printf(b, "<h2>Layer %d: scores</h2>\n<table>\n", f->layer);
		for (int s = 0; s < f->n_expert; s++) {
			double v = isfinite(f->scores[s]) ? (double)f->scores[s] : 0, w = v < 0 ? 0 : v > 1 ? 1 : v;
			int chosen = 0;

			for (int k = 0; k < f->k; k++)
				chosen |= f->experts[k] == s;
			buf_printf(b, "<tr><td>E%d<td>%.4f<td><span class=\"b\" style=\"width:%.0fpx\"></span>%s\n", s, v,
				400 * w, chosen ? " chosen" : s == f->next ? " next" : "");
		}
		buf_str(b, "</table>\n");
	}
	buf_str(b, "</html>\n");
	buf_free(&t);
}

int audit_explain(int argc, char **argv, struct moe_err *e)
{
	struct explain *x;
	struct buf out;
	int bad, known = 0;

	if (argc != 3)
		return err_set(e, MOE_ERR_USAGE, "explain: DB SEQ TOKEN is expected");
	x = calloc(1, sizeof *x);
	if (!x)
		return err_nomem(e, sizeof *x, "an explanation");
	load_catch_interrupt();
	buf_init(&out, 1 << 26);
	bad = audit_number("SEQ", argv[1], &x->seq, e) || audit_number("TOKEN", argv[2], &x->pos, e) ||
		!(x->r = reader_open(argv[0], e)) || reader_run(x->r, audit_o.run, &x->info, e);
	if (!bad && x->pos >= UINT32_MAX)
		bad = err_set(e, MOE_ERR_USAGE, "TOKEN %" PRIu64 ": a position is below 2^32", x->pos);
	for (uint32_t i = 0; !bad && i < x->info.n_moe_layer; i++)
		known |= audit_o.layer < 0 || x->info.layers[i].layer == audit_o.layer;
	if (!bad && !known)
		bad = err_set(e, MOE_ERR_USAGE, "--layer %lld: the model has no router there", audit_o.layer);
	if (!bad && (!(x->f = calloc(x->info.n_moe_layer, sizeof *x->f))))
		bad = err_nomem(e, x->info.n_moe_layer * sizeof *x->f, "layers");
	bad = bad || find_token(x, e) ||
		audit_access(argv[0], LEAF_ACCESS, "explain", x->info.id, (int64_t)x->seq, (int64_t)x->pos, e);
	if (!bad && !(x->prefix = calloc(x->pos + 1, sizeof *x->prefix)))
		bad = err_nomem(e, (x->pos + 1) * 4, "the prefix");
	for (uint32_t i = 0; !bad && i < x->info.n_moe_layer; i++)
		x->f[i].share_domain = -1;
	bad = bad || scan(x, e) || shares(x, -1, e) || (x->domain && shares(x, x->domain, e)) ||
		(audit_o.model && with_model(x, e));
	if (!bad) {
		(audit_o.json ? add_json : audit_o.html ? add_page : add_text)(x, &out);
		bad = out.failed ? err_nomem(e, out.len, "the text") :
			audit_write_file(audit_o.html && !audit_o.json ? audit_o.html : audit_o.out ? audit_o.out : "-",
				out.data, out.len, e);
	}
	buf_free(&out);
	free(x->plain);
	free(x->masked);
	free(x->prefix);
	free(x->f);
	session_free(x->s);
	load_free(&x->l);
	reader_close(x->r);
	free(x);
	return bad ? -1 : load_interrupted() ? 130 : 0;
}
