/*
 * respond.c - see respond.h. The engine's thread.
 *
 * Every request starts from an empty cache: a log from which each sequence can be run again by
 * itself is worth more here than the time that a common beginning would save.
 */
#include "cmd/respond.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"

static void tell_meter(struct respond *r)
{
	meter_logged(r->meter, r->g.n_fed, moe_trace_committed(r->g.t), moe_trace_lost(r->g.t));
}

static int on_text(void *ctx, const char *s, size_t n, struct moe_err *e)
{
	struct respond *r = ctx;

	return job_text(r->job, s, n, e);
}

static int on_stop(void *ctx)
{
	struct respond *r = ctx;

	tell_meter(r);
	return load_interrupted() || job_left(r->job);
}

static void on_row(void *ctx, const float *row, int32_t next)
{
	struct respond *r = ctx;

	logprobs_of(row, model_info(r->g.l.model)->n_vocab, next, (unsigned)r->job->req.logprobs,
		&r->last);
}

static int on_token(void *ctx, int32_t id, struct moe_err *e)
{
	struct respond *r = ctx;
	size_t n = 0, at = r->said;
	const char *s = tok_is_special(r->g.l.tok, id) ? NULL : tok_bytes(r->g.l.tok, id, &n);

	if (s && n)
		r->said += n - (!at && r->g.skip_blank && *s == ' ');
	return job_token(r->job, &r->last, at, e);
}

/* The fewest digits that are this number again. */
static void real(struct buf *b, const char *name, double v)
{
	char text[40];

	snprintf(text, sizeof text, "%.15g", v);
	if (strtod(text, NULL) != v)
		snprintf(text, sizeof text, "%.17g", v);
	buf_printf(b, ", %s %s", name, text);
}

void respond_describe(struct buf *b, void *ctx)
{
	const struct respond *r = ctx;

	record_text(b, "sampling", "by request: a note of kind request for each says how");
	record_int(b, "seed", (int64_t)r->seed);
	record_text(b, "users", r->log_user ? "name their sequences" : "not stored");
}

/* With an audit log: how the sequence was sampled. Without one nobody would look for it. */
static int note_request(
	struct respond *r, const struct sampler_opt *so, const char *end, struct moe_err *e)
{
	const struct job *j = r->job;
	struct buf b;
	int rc;

	if (!r->g.rec.r)
		return 0;
	buf_init(&b, 4096);
	buf_printf(
		&b, "seq %" PRIu64 ": %s", r->n, j->req.kind == REQUEST_CHAT ? "chat" : "completion");
	real(&b, "temperature", so->temperature);
	buf_printf(&b, ", top_k %" PRIu32, so->top_k);
	real(&b, "top_p", so->top_p);
	real(&b, "min_p", so->min_p);
	real(&b, "repeat_penalty", so->repeat_penalty);
	buf_printf(&b,
		" over %" PRIu32 ", seed %" PRIu64 ", at most %" PRId64 ", %zu texts to stop%s: %" PRIu32
		" read, %" PRIu32 " generated, %s",
		so->repeat_last, so->seed, j->most, j->req.stop.n,
		j->req.ignore_end ? ", past the end" : "", r->g.result.n_prompt, r->g.result.n_generated,
		end);
	rc = b.failed ? err_nomem(e, 4096, "a note") : moe_trace_note(r->g.t, "request", b.data, e);
	buf_free(&b);
	return rc;
}

static int note_domains(struct respond *r, struct moe_err *e)
{
	if (!r->job->domain_full || r->domain_noted++)
		return 0;
	return moe_trace_note(r->g.t, "domains",
		"no room for further domains (--domains): new ones count under the default", e);
}

static int begin(struct respond *r, const struct sampler_opt *so, struct moe_err *e)
{
	struct gen *g = &r->g;
	struct job *j = r->job;
	struct moe_seq_info info = { .seq = r->n, .domain = *j->domain_name ? j->domain_name : NULL,
		.name = r->log_user ? j->req.user : NULL, .n_prompt = (uint32_t)j->n_ids };

	sampler_free(g->sampler);
	g->sampler = sampler_new(so, model_info(g->l.model)->n_vocab, e);
	if (!g->sampler)
		return -1;
	g->out = (struct gen_out){ .ctx = r, .text = on_text, .stop = on_stop };
	if (j->req.logprobs >= 0) {
		g->out.row = on_row;
		g->out.token = on_token;
	}
	r->said = 0;
	g->stop = j->req.stop.n ? &j->req.stop : NULL;
	g->stream = (struct tok_stream){ .n = 0 };
	g->skip_blank = j->req.kind == REQUEST_CHAT && tok_adds_blank(g->l.tok);
	g->result = (struct moe_seq_result){ .seq = r->n };
	if (note_domains(r, e) || session_begin(g->s, &info, e))
		return -1;
	job_start(j, r->n, so->seed);
	return 0;
}

static int work(
	struct respond *r, const struct sampler_opt *so, enum gen_end *end, struct moe_err *e)
{
	static const char *const word[] = {
		[GEN_END] = "stop", [GEN_MOST] = "length", [GEN_FULL] = "length", [GEN_STOPPED] = "cut"
	};
	struct gen *g = &r->g;
	struct job *j = r->job;
	double first = -1;
	size_t fed = 0;

	*end = GEN_STOPPED;
	if (begin(r, so, e) || gen_read(g, j->ids, j->n_ids, &fed, e))
		return -1;
	g->result.n_prompt = (uint32_t)fed;
	if (fed == j->n_ids) {
		first = (double)(clock_mono() - j->arrived) * 1e-9; /* the first token is chosen */
		if (gen_reply(g, j->most, j->req.ignore_end, end, e))
			return -1;
	}
	meter_answer(r->meter, first, g->result.n_prompt, g->result.n_generated);
	if (session_end(g->s, &g->result, e) || note_request(r, so, word[*end], e))
		return -1;
	return g->rec.strict ? gen_settle(g, e) : 0;
}

int respond_to(struct respond *r, struct job *j, struct moe_err *e)
{
	struct sampler_opt so = j->req.sampler;
	struct refusal why = { 0 };
	enum gen_end end;
	int rc;

	r->job = j;
	r->n++;
	if (!j->req.has_seed)
		so.seed = r->seed + r->n;
	meter_running(r->meter, 1);
	rc = work(r, &so, &end, e);
	tell_meter(r);
	meter_running(r->meter, 0);
	if (rc) {
		/* what failed is for who runs the server: it may name files */
		refuse(&why, 500, "engine_failed", NULL, "the engine or its log failed: the server ends");
		job_fail(j, &why);
	} else if (end == GEN_STOPPED) {
		refuse(&why, 503, "shutting_down", NULL, "the server is shutting down");
		job_fail(j, &why);
	} else {
		job_done(j, end == GEN_END ? "stop" : "length", r->g.result.n_generated);
	}
	r->job = NULL;
	return rc;
}

int respond_idle(struct respond *r, struct moe_err *e)
{
	tell_meter(r);
	return moe_trace_flush(r->g.t, e); /* says so where the writer gave up */
}
