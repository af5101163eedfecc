/* gen.c - see gen.h. */
#include "cmd/gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/text.h"
#include "cmd/engine.h"
#include "cmd/show.h"

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct gen *g = ctx;

	if (record_logits(&g->rec, g->result.seq, pos, row, model_info(g->l.model)->n_vocab, e))
		return -1;
	g->next = sampler_next(g->sampler, row);
	if (g->out.row)
		g->out.row(g->out.ctx, row, g->next);
	return 0;
}

static int feed(struct gen *g, const int32_t *ids, size_t n, enum moe_phase phase, int look,
	struct moe_err *e)
{
	struct session_want want = { 0, on_logits, g };

	for (size_t i = 0; i < n; i++)
		sampler_seen(g->sampler, ids[i]);
	if (session_eval(g->s, ids, n, phase, look ? &want : NULL, e))
		return -1;
	g->n_fed += n;
	return 0;
}

int gen_feed(struct gen *g, const int32_t *ids, size_t n, enum moe_phase phase, struct moe_err *e)
{
	if (phase == MOE_PREFILL)
		energy_skip(&g->energy);
	return feed(g, ids, n, phase, 1, e);
}

int gen_read(struct gen *g, const int32_t *ids, size_t n, size_t *fed, struct moe_err *e)
{
	size_t len, batch = session_batch(g->s);

	energy_skip(&g->energy);
	for (*fed = 0; *fed < n && !g->out.stop(g->out.ctx); *fed += len) {
		len = n - *fed < batch ? n - *fed : batch;
		if (feed(g, ids + *fed, len, MOE_PREFILL, *fed + len == n, e))
			return -1;
	}
	return 0;
}

/* ---- standard output ---- */

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

static int text_out(void *ctx, const char *s, size_t n, struct moe_err *e)
{
	(void)ctx, (void)e; /* the command's end looks at stdout's state */
	put_text(s, n);
	return 0;
}

static int (*asked)(void); /* one standard output a process */

static int stdout_stop(void *ctx)
{
	(void)ctx;
	return ferror(stdout) || (asked && asked());
}

struct gen_out gen_stdout(int (*stop)(void))
{
	asked = stop;
	return (struct gen_out){ .text = text_out, .stop = stdout_stop };
}

/* ---- text, held back or not ---- */

static int show_held(struct gen *g, int all, struct moe_err *e)
{
	size_t n = 0, to = g->shown;
	uint64_t done = all ? 0 : moe_trace_committed(g->t);

	for (; n < g->n_mark && (all || g->mark[n].fed <= done); n++)
		to = g->mark[n].end;
	g->n_mark -= n;
	if (n)
		memmove(g->mark, g->mark + n, g->n_mark * sizeof *g->mark);
	if (to > g->shown && g->out.text(g->out.ctx, g->held.data + g->shown, to - g->shown, e))
		return -1;
	g->shown = to;
	if (!g->n_mark) {
		buf_clear(&g->held);
		g->shown = 0;
	}
	return 0;
}

int gen_show_held(struct gen *g, struct moe_err *e)
{
	return show_held(g, 1, e);
}

int gen_settle(struct gen *g, struct moe_err *e)
{
	static const struct timespec pause = { 0, 2000000 };

	while (g->n_mark && moe_trace_committed(g->t) < g->n_fed) {
		if (moe_trace_flush(g->t, e)) /* also where the writer gave up */
			return -1;
		nanosleep(&pause, NULL);
	}
	return show_held(g, 1, e);
}

#define HELD_MOST ((size_t)1 << 30)

static int hold(struct gen *g, const char *s, size_t n, struct moe_err *e)
{
	if (g->n_mark == g->cap_mark) {
		size_t cap = g->cap_mark ? 2 * g->cap_mark : 64;
		void *p = realloc(g->mark, cap * sizeof *g->mark);

		if (!p)
			return err_nomem(e, cap * sizeof *g->mark, "text that waits for its record");
		g->mark = p;
		g->cap_mark = cap;
	}
	if (!g->held.max)
		buf_init(&g->held, HELD_MOST);
	buf_add(&g->held, s, n);
	if (g->held.failed)
		return err_nomem(e, g->held.len + n, "text that waits for its record");
	g->mark[g->n_mark++] = (struct gen_mark){ g->held.len, g->n_fed };
	return 0;
}

static int put(struct gen *g, const char *s, size_t n, struct moe_err *e)
{
	if (!n)
		return 0;
	return g->rec.strict ? hold(g, s, n, e) : g->out.text(g->out.ctx, s, n, e);
}

/* Through what may end the reply: 1 = it does, 0, -1. */
static int put_watched(struct gen *g, const char *s, size_t n, int last, struct moe_err *e)
{
	struct buf may;
	int over, rc;

	if (!g->stop)
		return put(g, s, n, e);
	buf_init(&may, HELD_MOST);
	over = stop_feed(g->stop, s, n, &may);
	if (last && !over)
		stop_rest(g->stop, &may);
	rc = may.failed ? err_nomem(e, n, "a reply's text") : put(g, may.data, may.len, e);
	buf_free(&may);
	return rc ? -1 : over;
}

/* The token's text, as far as its characters are whole; -1 = what waits. 1 = the reply ends here,
 * 0, -1. */
static int put_token(struct gen *g, int32_t id, struct moe_err *e)
{
	size_t n = 0, from;
	char *s;
	int rc;

	if (id >= 0)
		tok_bytes(g->l.tok, id, &n);
	s = malloc(n + 4);
	if (!s)
		return err_nomem(e, n + 4, "a token's text");
	n = tok_stream_next(&g->stream, g->l.tok, id, s);
	from = n && g->skip_blank && *s == ' ';
	if (n)
		g->skip_blank = 0;
	rc = put_watched(g, s + from, n - from, id < 0, e);
	free(s);
	return rc;
}

int gen_reply(struct gen *g, long long most, int ignore_end, enum gen_end *end, struct moe_err *e)
{
	int over = 0;

	*end = GEN_MOST;
	g->unfed = -1;
	for (long long i = 0; i < most; i++) {
		int32_t id = g->next;

		*end = GEN_STOPPED;
		if (g->out.stop(g->out.ctx))
			break;
		*end = GEN_END;
		if (tok_is_end(g->l.tok, id) && !ignore_end)
			break;
		if (g->out.token && g->out.token(g->out.ctx, id, e))
			return -1;
		over = put_token(g, id, e);
		if (over < 0 || (g->rec.strict && show_held(g, 0, e)))
			return -1;
		g->result.n_generated++;
		g->unfed = id;
		if (over)
			break;
		*end = GEN_FULL;
		if (session_pos(g->s) == session_ctx(g->s))
			break;
		*end = GEN_MOST;
		if (i + 1 == most)
			break;
		if (gen_feed(g, &id, 1, MOE_DECODE, e))
			return -1;
		g->unfed = -1;
	}
	if (over) {
		g->stream.n = 0; /* what waited came behind the end */
		return 0;
	}
	over = put_token(g, -1, e);
	if (over > 0)
		*end = GEN_END;
	return over < 0 ? -1 : 0;
}

/* ---- the log ---- */

int gen_log_open(struct gen *g, const struct gen_log *o, struct moe_err *e)
{
	struct record_about about = { &g->l, g->s, "last", o->more, o->ctx };
	struct moe_trace_opt to = o->trace;
	struct moe_run_desc d;

	engine_describe(&g->l, g->s, o->lo, o->command, &d);
	if (record_start(&g->rec, o->db, &about, &to, &d, e))
		return -1;
	g->t = moe_trace_open(o->db, &to, &d, e);
	if (!g->t)
		return -1;
	energy_init(&g->energy);
	if (session_add_hook(g->s, moe_trace_hook(g->t), e) ||
		session_add_hook(g->s, &g->energy.hook, e))
		return -1;
	if (!o->log_text)
		return 0;
	return words_init(&g->words, g->t, g->l.tok, model_info(g->l.model)->n_vocab, e) ||
		session_add_hook(g->s, &g->words.hook, e) ? -1 : 0;
}

int64_t gen_log_close(struct gen *g, int failed, struct moe_err *e)
{
	struct moe_err late = { 0 };
	int64_t id;

	if (!g->t)
		return 0;
	id = moe_trace_run(g->t);
	(void)energy_note(&g->energy, g->t, &late); /* what fails here fails closing, too */
	if (moe_trace_close(g->t, failed ? MOE_RUN_FAILED : MOE_RUN_DONE, &late)) {
		if (!failed)
			*e = late; /* else it is known already what went wrong */
		id = -1;
	}
	g->t = NULL;
	return id;
}

void gen_print_logged(const char *db, int64_t id)
{
	struct shown d = show(db);

	fprintf(stderr, "run %lld logged to %s: look with `%s top %s`, `%s stat %s`\n", (long long)id,
		d.s, cmd_program, d.s, cmd_program, d.s);
}

void gen_free(struct gen *g)
{
	record_free(&g->rec);
	buf_free(&g->held);
	free(g->mark);
	sampler_free(g->sampler);
	session_free(g->s);
	words_free(&g->words);
	load_free(&g->l);
}
