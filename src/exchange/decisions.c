/*
 * decisions.c - see decisions.h.
 *
 * One state machine reads a file twice: first with trace == NULL, which checks every line and
 * learns the layers, then with the writer's hook, batches of up to BATCH tokens. Both make the same
 * checks.
 */
#include "exchange/decisions.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { BATCH = 128 };
#define SEQUENCES_MOST ((size_t)16 << 20)

struct sequence {
	uint64_t seq;
	uint32_t last, n[2]; /* last position; tokens by phase */
	uint8_t used, begun, ended;
};

struct feed {
	const struct exchange_in *in;
	struct lines l;
	struct moe_trace *trace;
	struct moe_hook *hook;
	/* shape, from the first token */
	struct moe_layer_desc layer[MOE_MAX_LAYER];
	size_t n_layer, k_at[MOE_MAX_LAYER], k_row;
	int shaped;          /* the first token is complete */
	int weights;         /* do decisions have weights? -1 = not seen yet */
	int64_t run;         /* of the rows; -1 = not seen yet */
	/* the token in progress */
	int open;
	size_t next;         /* layer that comes next */
	int64_t sequence, position, token, phase;
	/* sequences, open addressing */
	struct sequence *seq;
	size_t n_seq, cap_seq;
	int turns;           /* a sequence came back after another */
	uint64_t last_seq;
	/* the batch */
	uint32_t n;
	uint64_t seqs[BATCH];
	uint32_t pos[BATCH];
	int32_t tok[BATCH];
	uint8_t batch_phase;
	uint16_t *experts;   /* per layer [BATCH][k], layer l from BATCH * k_at[l] on */
	float *w;
	uint64_t rows, tokens;
};

/* ---- sequences ---- */

static size_t slot_of(const struct feed *f, uint64_t seq)
{
	size_t i = (size_t)(seq * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (f->cap_seq - 1);

	while (f->seq[i].used && f->seq[i].seq != seq)
		i = (i + 1) & (f->cap_seq - 1);
	return i;
}

static int more_sequences(struct feed *f, struct moe_err *e)
{
	struct sequence *old = f->seq;
	size_t n = f->cap_seq;

	if (f->n_seq == SEQUENCES_MOST)
		return lines_fail(&f->l, e, "more than %zu sequences", SEQUENCES_MOST);
	f->cap_seq = n ? 2 * n : 1024;
	f->seq = calloc(f->cap_seq, sizeof *f->seq);
	if (!f->seq) {
		f->seq = old;
		f->cap_seq = n;
		return err_nomem(e, 2 * n * sizeof *old, "sequences");
	}
	for (size_t i = 0; i < n; i++)
		if (old[i].used)
			f->seq[slot_of(f, old[i].seq)] = old[i];
	free(old);
	return 0;
}

static struct sequence *sequence_of(struct feed *f, uint64_t seq, int *is_new, struct moe_err *e)
{
	struct sequence *s;

	if (2 * f->n_seq >= f->cap_seq && more_sequences(f, e))
		return NULL;
	s = &f->seq[slot_of(f, seq)];
	*is_new = !s->used;
	if (!s->used) {
		s->used = 1;
		s->seq = seq;
		f->n_seq++;
	}
	return s;
}

static int end_sequence(struct feed *f, struct sequence *s, struct moe_err *e)
{
	struct moe_seq_result r = { .seq = s->seq, .n_prompt = s->n[MOE_PREFILL],
		.n_generated = s->n[MOE_DECODE] };

	s->ended = 1;
	return f->hook->seq_end(f->hook->ctx, &r, e);
}

/* ---- the batch ---- */

static int flush(struct feed *f, struct moe_err *e)
{
	struct moe_batch_info b = { .seq = f->seqs[0], .pos0 = f->pos[0], .n_tok = f->n,
		.phase = f->batch_phase };

	if (!f->n || !f->hook)
		return 0;
	for (size_t i = 0; i < f->n_layer; i++) {
		struct moe_route_view v = { .layer = f->layer[i].layer, .n_expert = f->layer[i].n_expert,
			.k = f->layer[i].k, .phase = f->batch_phase, .n_tok = f->n, .seq = f->seqs,
			.pos = f->pos, .token = f->tok, .experts = f->experts + BATCH * f->k_at[i],
			.weights = f->w + BATCH * f->k_at[i] };

		if (f->hook->route(f->hook->ctx, &v, e))
			return -1;
	}
	f->n = 0;
	return f->hook->batch_end(f->hook->ctx, &b, e);
}

/* The token in progress is over: it must be whole. */
static int end_token(struct feed *f, struct moe_err *e)
{
	if (!f->open)
		return 0;
	if (f->shaped && f->next != f->n_layer)
		return lines_fail(&f->l, e, "position %" PRId64 " of sequence %" PRId64
			" before it has %zu of %zu layers", f->position, f->sequence, f->next, f->n_layer);
	f->shaped = 1;
	f->open = 0;
	f->tokens++;
	f->n++;
	if (f->n == BATCH || !f->hook) {
		if (flush(f, e))
			return -1;
		f->n = 0;
	}
	return 0;
}

static int begin_token(struct feed *f, const struct decision *d, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = (uint64_t)d->sequence,
		.domain = f->in->domain ? f->in->domain : *d->domain ? d->domain : NULL };
	struct sequence *s;
	int is_new;

	if (f->n && d->phase != f->batch_phase && flush(f, e))
		return -1;
	s = sequence_of(f, (uint64_t)d->sequence, &is_new, e);
	if (!s)
		return -1;
	if (!is_new && d->position <= (int64_t)s->last)
		return lines_fail(&f->l, e, d->position == (int64_t)s->last ?
			"position %" PRId64 " of sequence %" PRId64 " a second time" :
			"position %" PRId64 " of sequence %" PRId64 " comes after a later one", d->position,
			d->sequence);
	if (f->tokens && f->last_seq != s->seq) {
		f->turns |= !is_new;
		if (f->hook && !f->turns) {
			struct sequence *before = &f->seq[slot_of(f, f->last_seq)];

			if (flush(f, e) || end_sequence(f, before, e))
				return -1;
		}
	}
	f->last_seq = s->seq;
	if (f->hook && !s->begun && f->hook->seq_begin(f->hook->ctx, &info, e))
		return -1;
	s->begun = f->hook != NULL;
	s->last = (uint32_t)d->position;
	s->n[d->phase]++;
	f->open = 1;
	f->next = 0;
	f->sequence = d->sequence, f->position = d->position, f->token = d->token, f->phase = d->phase;
	f->seqs[f->n] = s->seq;
	f->pos[f->n] = (uint32_t)d->position;
	f->tok[f->n] = (int32_t)d->token;
	f->batch_phase = (uint8_t)d->phase;
	return 0;
}

/* ---- one decision ---- */

static int check_experts(struct feed *f, const struct decision *d, struct moe_err *e)
{
	int64_t last = f->in->n_expert ? f->in->n_expert - 1 : MOE_MAX_EXPERT - 1;
	uint64_t seen[MOE_MAX_EXPERT / 64] = { 0 };

	for (size_t i = 0; i < d->k; i++) {
		int64_t x = d->expert[i];

		if (x < 0 || x > last)
			return lines_fail(&f->l, e, "expert %" PRId64 " is outside 0 to %" PRId64, x, last);
		if (seen[x / 64] >> x % 64 & 1)
			return lines_fail(&f->l, e, "expert %" PRId64 " is picked twice", x);
		seen[x / 64] |= UINT64_C(1) << x % 64;
	}
	return 0;
}

static int check_numbers(struct feed *f, const struct decision *d, struct moe_err *e)
{
	if (d->sequence < 0)
		return lines_fail(&f->l, e, "sequence %" PRId64 " is negative", d->sequence);
	if (d->position < 0 || d->position > UINT32_MAX - 1)
		return lines_fail(&f->l, e, "position %" PRId64 " is outside 0 to %u", d->position,
			UINT32_MAX - 1);
	if (d->token < INT32_MIN || d->token > INT32_MAX)
		return lines_fail(&f->l, e, "token %" PRId64 " is outside %d to %d", d->token, INT32_MIN,
			INT32_MAX);
	if (d->layer < 0 || d->layer >= MOE_MAX_LAYER)
		return lines_fail(&f->l, e, "layer %" PRId64 " is outside 0 to %d", d->layer,
			MOE_MAX_LAYER - 1);
	if (!d->k)
		return lines_fail(&f->l, e, "no expert");
	if (d->n_weight && d->n_weight != d->k)
		return lines_fail(&f->l, e, "%zu experts and %zu weights", d->k, d->n_weight);
	if (f->weights >= 0 && f->weights != (d->n_weight > 0))
		return lines_fail(&f->l, e, f->weights ? "no weights, although other lines have them" :
			"weights, although other lines have none");
	f->weights = d->n_weight > 0;
	if (f->run >= 0 && d->run != f->run)
		return lines_fail(&f->l, e, "run %" PRId64 " after run %" PRId64 ": --run N takes one",
			d->run, f->run);
	f->run = d->run;
	return check_experts(f, d, e);
}

/* Layer f->next of the token in progress. */
static int add_layer(struct feed *f, const struct decision *d, struct moe_err *e)
{
	struct moe_layer_desc *y = &f->layer[f->next];

	if (d->token != f->token || d->phase != f->phase)
		return lines_fail(&f->l, e, "position %" PRId64 " of sequence %" PRId64
			" has token %" PRId64 " in another layer, here %" PRId64 ", or another phase",
			d->position, d->sequence, f->token, d->token);
	if (f->next && d->layer == f->layer[0].layer)
		return lines_fail(&f->l, e, "position %" PRId64 " of sequence %" PRId64 " a second time",
			d->position, d->sequence);
	if (!f->shaped) {
		if (f->next && d->layer <= f->layer[f->next - 1].layer)
			return lines_fail(&f->l, e, "layer %" PRId64 " after layer %d", d->layer,
				f->layer[f->next - 1].layer);
		*y = (struct moe_layer_desc){ .layer = (uint16_t)d->layer, .k = (uint16_t)d->k };
		f->k_at[f->next] = f->k_row;
		f->k_row += d->k;
		f->n_layer = f->next + 1;
	}
	if (f->next == f->n_layer || d->layer != y->layer)
		return lines_fail(&f->l, e, "layer %" PRId64 ", expected %d: every token has the layers of "
			"the first one, in order", d->layer,
			f->next == f->n_layer ? f->layer[0].layer : y->layer);
	if (d->k != y->k)
		return lines_fail(&f->l, e, "layer %" PRId64 " picks %zu experts, %d before", d->layer,
			d->k, y->k);
	for (size_t i = 0; i < d->k; i++) {
		size_t at = BATCH * f->k_at[f->next] + f->n * d->k + i;

		if (d->expert[i] >= y->n_expert && !f->hook)
			y->n_expert = (uint16_t)(d->expert[i] + 1);
		if (!f->hook)
			continue;
		f->experts[at] = (uint16_t)d->expert[i];
		f->w[at] = d->n_weight ? (float)d->weight[i] : 0;
	}
	f->next++;
	return 0;
}

static int take(struct feed *f, const struct decision *d, struct moe_err *e)
{
	f->rows++;
	if (check_numbers(f, d, e))
		return -1;
	if (f->open && (d->sequence != f->sequence || d->position != f->position ||
		(f->shaped && f->next == f->n_layer)) && end_token(f, e))
		return -1;
	if (!f->open && begin_token(f, d, e))
		return -1;
	return add_layer(f, d, e);
}

static int pass(struct feed *f, decision_parse *parse, size_t state_bytes, struct moe_err *e)
{
	struct decision *d = malloc(sizeof *d);
	void *state = calloc(1, state_bytes + 1);
	int got = -1;

	if (!d || !state) {
		err_nomem(e, sizeof *d + state_bytes, "a decision");
		goto out;
	}
	if (lines_open(&f->l, f->in->path, e))
		goto out;
	while ((got = lines_next(&f->l, e)) > 0) {
		int is = parse(&f->l, state, d, e);

		if (is < 0 || (is && (!f->in->run || d->run == f->in->run) && take(f, d, e))) {
			got = -1;
			break;
		}
	}
	if (!got && end_token(f, e))
		got = -1;
	if (!got && !f->rows)
		got = err_set(e, MOE_ERR_INPUT, f->in->run ? "%s: no decision of run %lld" :
			"%s: the file has no decision", f->in->path, f->in->run);
	if (!got && flush(f, e))
		got = -1;
out:
	lines_close(&f->l);
	free(d);
	free(state);
	return got;
}

/* ---- import ---- */

static int open_trace(struct feed *f, const char *form, struct moe_err *e)
{
	const struct exchange_in *in = f->in;
	struct moe_trace_opt o = { .detail = in->sums ? MOE_DETAIL_COUNTS : MOE_DETAIL_ROUTES,
		.sink = in->sink, .weights = f->weights ? in->weights : MOE_WEIGHTS_NONE };
	char source[256];
	struct moe_run_desc d = { .command = "import", .model_name = in->model, .layers = f->layer,
		.n_moe_layer = (uint32_t)f->n_layer, .n_layer = f->layer[f->n_layer - 1].layer + 1u,
		.source = source };

	for (size_t i = 0; i < f->n_layer; i++)
		if (in->n_expert) {
			if (f->layer[i].k > in->n_expert)
				return err_set(e, MOE_ERR_INPUT, "%s: layer %d picks %d of %lld experts", in->path,
					f->layer[i].layer, f->layer[i].k, in->n_expert);
			f->layer[i].n_expert = (uint16_t)in->n_expert;
		}
	snprintf(source, sizeof source, "%s: %s", form, in->path);
	f->experts = malloc(BATCH * f->k_row * sizeof *f->experts);
	f->w = malloc(BATCH * f->k_row * sizeof *f->w);
	if (!f->experts || !f->w)
		return err_nomem(e, BATCH * f->k_row * 6, "a batch");
	f->trace = moe_trace_open(in->db, &o, &d, e);
	f->hook = f->trace ? moe_trace_hook(f->trace) : NULL;
	return f->trace ? 0 : -1;
}

/* What the second pass starts from again. */
static void rewind_feed(struct feed *f)
{
	f->run = -1;
	f->open = 0;
	f->rows = f->tokens = 0;
	f->n = 0;
	memset(f->seq, 0, f->cap_seq * sizeof *f->seq);
	f->n_seq = 0;
}

static int end_all(struct feed *f, struct moe_err *e)
{
	for (size_t i = 0; i < f->cap_seq; i++)
		if (f->seq[i].used && !f->seq[i].ended && end_sequence(f, &f->seq[i], e))
			return -1;
	return 0;
}

int decisions_import(const struct exchange_in *in, const char *form, decision_parse *parse,
	size_t state_bytes, struct exchange_done *done, struct moe_err *e)
{
	struct feed *f = calloc(1, sizeof *f);
	struct moe_err ignored;
	int bad = -1;

	if (!f)
		return err_nomem(e, sizeof *f, "an import");
	f->in = in;
	f->run = f->weights = -1;
	if (in->top_k)
		err_set(e, MOE_ERR_USAGE, "%s: --top-k is for counts; decisions say it themselves",
			in->path);
	else if (!pass(f, parse, state_bytes, e)) {
		rewind_feed(f);
		bad = open_trace(f, form, e);
	}
	if (!bad) {
		done->run = moe_trace_run(f->trace);
		bad = pass(f, parse, state_bytes, e) || end_all(f, e);
		if (moe_trace_close(f->trace, bad ? MOE_RUN_FAILED : MOE_RUN_IMPORTED, bad ? &ignored : e))
			bad = -1;
	}
	done->rows = f->rows;
	done->tokens = f->tokens;
	done->layers = (uint32_t)f->n_layer;
	free(f->seq);
	free(f->experts);
	free(f->w);
	free(f);
	return bad;
}

/* ---- export ---- */

int decisions_export(const struct exchange_out *out, decision_print *print, struct moe_err *e)
{
	struct cursor *cur = cursor_open(out->r, &out->f, e);
	struct domain_info *d = NULL;
	struct cursor_chunk c;
	size_t n = 0;
	int got = -1;

	if (!cur || reader_domains(out->r, out->f.run, &d, &n, e))
		goto out;
	while ((got = cursor_next(cur, &c, e)) > 0) {
		struct decision_out x = { .run = out->f.run, .c = &c };

		for (size_t i = 0; i < n; i++)
			if (d[i].id && d[i].id == c.domain)
				x.domain = d[i].name;
		for (x.t = 0; x.t < c.n; x.t++)
			for (x.li = 0; x.li < c.n_layer; x.li++)
				print(out->to, &x);
		if (ferror(out->to)) {
			got = err_set(e, MOE_ERR_SYS, "writing failed");
			break;
		}
	}
out:
	free(d);
	cursor_close(cur);
	return got < 0 ? -1 : 0;
}
