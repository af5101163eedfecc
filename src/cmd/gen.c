/* gen.c - see gen.h. */
#include "cmd/gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/text.h"

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct gen *g = ctx;

	if (record_logits(&g->rec, g->result.seq, pos, row, model_info(g->l.model)->n_vocab, e))
		return -1;
	g->next = sampler_next(g->sampler, row);
	return 0;
}

int gen_feed(struct gen *g, const int32_t *ids, size_t n, enum moe_phase phase, struct moe_err *e)
{
	struct session_want want = { 0, on_logits, g };

	for (size_t i = 0; i < n; i++)
		sampler_seen(g->sampler, ids[i]);
	g->n_fed += n;
	if (phase == MOE_PREFILL)
		energy_skip(&g->energy);
	return session_eval(g->s, ids, n, phase, &want, e);
}

/* On a terminal control characters become escapes; line breaks and tabs pass. */
static void put_text(const char *s, size_t n)
{
	struct buf out;

	if (!isatty(STDOUT_FILENO)) {
		fwrite(s, 1, n, stdout);
		return;
	}
	buf_init(&out, 1 << 22);
	for (size_t i = 0; i < n;) {
		size_t j = i;

		while (j < n && s[j] != '\n' && s[j] != '\t')
			j++;
		text_escape(&out, s + i, j - i, TEXT_TERMINAL);
		if (j < n)
			buf_char(&out, s[j++]);
		i = j;
	}
	if (out.len)
		fwrite(out.data, 1, out.len, stdout);
	fflush(stdout);
	buf_free(&out);
}

/* -1 = what waits. */
static int put_token(struct gen *g, int32_t id, struct moe_err *e)
{
	size_t n = 0;
	char *s;

	if (id >= 0)
		tok_bytes(g->l.tok, id, &n);
	s = malloc(n + 4);
	if (!s)
		return err_nomem(e, n + 4, "a token's text");
	n = tok_stream_next(&g->stream, g->l.tok, id, s);
	if (n) {
		size_t from = g->skip_blank && *s == ' ';

		g->skip_blank = 0;
		put_text(s + from, n - from);
	}
	free(s);
	return 0;
}

static int show_held(struct gen *g, int all, struct moe_err *e)
{
	for (; g->n_shown < g->n_held; g->n_shown++) {
		if (!all && moe_trace_committed(g->t) < g->held[g->n_shown].fed)
			break;
		if (put_token(g, g->held[g->n_shown].id, e))
			return -1;
	}
	return 0;
}

int gen_show_held(struct gen *g, struct moe_err *e)
{
	if (!g->n_held)
		return 0;
	return show_held(g, 1, e) || put_token(g, -1, e) ? -1 : 0;
}

int gen_settle(struct gen *g, struct moe_err *e)
{
	static const struct timespec pause = { 0, 2000000 };

	while (g->n_shown < g->n_held && moe_trace_committed(g->t) < g->n_fed) {
		if (moe_trace_flush(g->t, e)) /* also where the writer gave up */
			return -1;
		nanosleep(&pause, NULL);
	}
	if (show_held(g, 1, e) || put_token(g, -1, e))
		return -1;
	g->n_held = g->n_shown = 0;
	return 0;
}

static int emit(struct gen *g, int32_t id, struct moe_err *e)
{
	if (!g->rec.strict)
		return put_token(g, id, e);
	if (!(g->n_held & (g->n_held - 1))) {
		size_t cap = g->n_held ? 2 * g->n_held : 1;
		void *p = realloc(g->held, cap * sizeof *g->held);

		if (!p)
			return err_nomem(e, cap * sizeof *g->held, "tokens that wait for their record");
		g->held = p;
	}
	g->held[g->n_held].id = id;
	g->held[g->n_held++].fed = g->n_fed;
	return show_held(g, 0, e);
}

int gen_reply(struct gen *g, long long most, int ignore_end, int (*stop)(void), int *full,
	struct moe_err *e)
{
	*full = 0;
	g->unfed = -1;
	for (long long i = 0; i < most && !stop() && !ferror(stdout); i++) {
		int32_t id = g->next;

		if (tok_is_end(g->l.tok, id) && !ignore_end)
			break;
		if (emit(g, id, e))
			return -1;
		g->result.n_generated++;
		g->unfed = id;
		if (session_pos(g->s) == session_ctx(g->s)) {
			*full = 1;
			break;
		}
		if (i + 1 == most)
			break;
		if (gen_feed(g, &id, 1, MOE_DECODE, e))
			return -1;
		g->unfed = -1;
	}
	return g->rec.strict ? 0 : put_token(g, -1, e);
}
