/*
 * run.c - `moescope run`: generate from a prompt and log every routing decision.
 *
 * The text goes to stdout as it is produced, everything else to stderr.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/engine.h"
#include "cmd/show.h"
#include "model/sampler.h"

static struct load_opts lo;
static long long n_predict = 128, top_k = 40, repeat_last = 64, seed = -1;
static double temperature = 0.8, top_p = 0.95, min_p = 0.05, repeat_penalty = 1.0;
static const char *prompt, *db = "moescope.db", *domain, *name;
static int detail = MOE_DETAIL_ROUTES, weights, no_log, special, drop, ignore_end;

struct gen {
	struct loaded l;
	struct session *s;
	struct moe_trace *t;
	struct sampler *sampler;
	int32_t *ids;     /* the prompt */
	size_t n_ids;
	int32_t next;     /* chosen from the last logits */
	struct moe_seq_result result;
	char part[4];     /* bytes of a UTF-8 sequence that tokens have not completed yet */
	size_t n_part;
};

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct gen *g = ctx;

	(void)pos, (void)e;
	g->next = sampler_next(g->sampler, row);
	return 0;
}

/* Print a token's bytes; on a terminal control characters become escapes, and a code point that is
 * split over tokens waits for its end. */
static void print_token(struct gen *g, int32_t id)
{
	size_t n, cut;
	const char *p = tok_bytes(g->l.tok, id, &n);
	struct buf in, out;

	if (!p || tok_is_special(g->l.tok, id))
		return;
	if (!isatty(STDOUT_FILENO)) {
		fwrite(p, 1, n, stdout);
		return;
	}
	buf_init(&in, 1 << 20);
	buf_init(&out, 1 << 22);
	buf_add(&in, g->part, g->n_part);
	buf_add(&in, p, n);
	for (cut = 0; cut < 3 && cut < in.len; cut++) { /* an unfinished sequence at the end? */
		unsigned char c = (unsigned char)in.data[in.len - 1 - cut];

		if (c >= 0xc0) {
			cut = (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u) > cut + 1 ? cut + 1 : 0;
			break;
		}
		if (c < 0x80) {
			cut = 0;
			break;
		}
	}
	if (cut == 3)
		cut = 0;
	g->n_part = cut;
	if (cut)
		memcpy(g->part, in.data + in.len - cut, cut);
	for (size_t i = 0, end = in.len - cut; i < end;) { /* line breaks and tabs pass */
		size_t j = i;

		while (j < end && in.data[j] != '\n' && in.data[j] != '\t')
			j++;
		text_escape(&out, in.data + i, j - i, TEXT_TERMINAL);
		if (j < end)
			buf_char(&out, in.data[j++]);
		i = j;
	}
	if (out.len)
		fwrite(out.data, 1, out.len, stdout);
	fflush(stdout);
	buf_free(&in);
	buf_free(&out);
}

static int generate(struct gen *g, struct moe_err *e)
{
	struct session_want want = { 0, on_logits, g };
	long long i;

	for (size_t j = 0; j < g->n_ids; j++)
		sampler_seen(g->sampler, g->ids[j]);
	if (session_eval(g->s, g->ids, g->n_ids, MOE_PREFILL, &want, e))
		return -1;
	for (i = 0; i < n_predict && !load_interrupted() && !ferror(stdout); i++) {
		if (tok_is_end(g->l.tok, g->next) && !ignore_end)
			break;
		print_token(g, g->next);
		sampler_seen(g->sampler, g->next);
		g->result.n_generated++;
		if (session_pos(g->s) == session_ctx(g->s)) {
			fprintf(stderr, "\n[the context of %u tokens is full]", session_ctx(g->s));
			break;
		}
		if (i + 1 < n_predict && session_eval(g->s, &g->next, 1, MOE_DECODE, &want, e))
			return -1;
	}
	if (!isatty(STDOUT_FILENO))
		return 0;
	putchar('\n');
	return 0;
}

static int encode_prompt(struct gen *g, const char *text, struct moe_err *e)
{
	unsigned flags = TOK_BOS | (special ? TOK_SPECIAL : 0);
	uint32_t ctx = session_ctx(g->s);

	if (tok_encode(g->l.tok, text, strlen(text), flags, &g->ids, &g->n_ids, e))
		return -1;
	if (!g->n_ids) { /* an empty prompt starts where documents start */
		int32_t start = tok_bos(g->l.tok) >= 0 ? tok_bos(g->l.tok) : tok_eos(g->l.tok);

		free(g->ids);
		g->ids = malloc(sizeof *g->ids);
		if (!g->ids)
			return err_nomem(e, sizeof *g->ids, "prompt");
		if (start < 0)
			return err_set(e, MOE_ERR_USAGE, "empty prompt, and the model names no token to start with");
		g->ids[0] = start;
		g->n_ids = 1;
	}
	if (g->n_ids > ctx)
		return err_set(e, MOE_ERR_INPUT, "the prompt has %zu tokens, the context %u (see --ctx)", g->n_ids,
			ctx);
	return 0;
}

static int open_trace(struct gen *g, struct moe_err *e)
{
	struct moe_trace_opt o = { .detail = (enum moe_detail)detail, .drop = drop,
		.weights = (enum moe_weights)weights };
	struct moe_run_desc d;

	if (no_log)
		return 0;
	if (!model_info(g->l.model)->n_moe_layer) {
		fprintf(stderr, "moescope run: %s is dense: it has no routers, so nothing is logged\n",
			show(model_info(g->l.model)->name).s);
		return 0;
	}
	engine_describe(&g->l, g->s, &lo, "run", &d);
	g->t = moe_trace_open(db, &o, &d, e);
	if (!g->t)
		return -1;
	return session_add_hook(g->s, moe_trace_hook(g->t), e);
}

static void print_speed(const struct gen *g)
{
	uint64_t ns[2], n[2];

	for (int p = 0; p < 2; p++)
		session_speed(g->s, (enum moe_phase)p, &ns[p], &n[p]);
	fprintf(stderr, "\nprefill %llu tokens, %.0f tokens/s", (unsigned long long)n[0],
		ns[0] ? (double)n[0] * 1e9 / (double)ns[0] : 0.0);
	if (n[1])
		fprintf(stderr, "; decode %llu tokens, %.0f tokens/s", (unsigned long long)n[1],
			ns[1] ? (double)n[1] * 1e9 / (double)ns[1] : 0.0);
	fprintf(stderr, "; %d threads, %s\n", session_threads(g->s), session_kern(g->s)->name);
}

static void print_logged(int64_t id)
{
	struct shown d = show(db);

	fprintf(stderr, "run %lld logged to %s: look with `%s top %s`, `%s stat %s`\n", (long long)id, d.s,
		cmd_program, d.s, cmd_program, d.s);
}

static int go(struct gen *g, const char *text, struct moe_err *e)
{
	struct sampler_opt so = { temperature, (uint32_t)top_k, top_p, min_p, repeat_penalty,
		(uint32_t)repeat_last, seed < 0 ? (uint64_t)clock_wall() : (uint64_t)seed };
	struct moe_seq_info info = { .seq = 1, .domain = domain, .name = name };
	int failed;

	g->s = engine_session(&g->l, &lo, e);
	if (!g->s)
		return -1;
	g->sampler = sampler_new(&so, model_info(g->l.model)->n_vocab, e);
	if (!g->sampler || encode_prompt(g, text, e) || open_trace(g, e))
		return -1;
	load_catch_interrupt();
	info.n_prompt = (uint32_t)g->n_ids;
	g->result.seq = 1;
	g->result.n_prompt = (uint32_t)g->n_ids;
	if (session_begin(g->s, &info, e))
		return -1;
	failed = generate(g, e);
	if (!failed)
		failed = session_end(g->s, &g->result, e);
	return failed;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct gen g = { 0 };
	const char *model = argc ? argv[0] : "sample:balanced", *text = prompt;
	int64_t id = 0;
	int status;

	if (argc > 2 || (argc == 2 && prompt))
		return err_set(e, MOE_ERR_USAGE, "a model and one prompt are expected, %d operands were given",
			argc);
	if (argc == 2)
		text = argv[1];
	if (load_model(model, &g.l, e))
		return -1;
	status = go(&g, text ? text : "", e);
	if (g.t) {
		struct moe_err late = { 0 };
		int lost;

		id = moe_trace_run(g.t);
		lost = moe_trace_close(g.t, status ? MOE_RUN_FAILED : MOE_RUN_DONE, &late);

		if (lost && !status) {
			*e = late;
			status = -1;
		}
	}
	if (!status) /* not before it is known that nothing was lost */
		print_speed(&g), engine_print_cache(&g.l, g.s);
	if (!status && id)
		print_logged(id);
	free(g.ids);
	sampler_free(g.sampler);
	session_free(g.s);
	load_free(&g.l);
	return !status && load_interrupted() ? 130 : status;
}

static const struct opt opts[] = {
	{ "prompt", 'p', OPT_TEXT, &prompt, "TEXT", "the prompt (or give it as second operand)", 0, 0 },
	{ "predict", 'n', OPT_INT, &n_predict, "N", "tokens to generate (default 128)", 0, 1 << 24 },
	{ "special", 0, OPT_FLAG, &special, NULL, "special tokens written in the prompt count as such", 0, 0 },
	{ "ignore-end", 0, OPT_FLAG, &ignore_end, NULL, "go on after an end-of-text token", 0, 0 },
	{ "temperature", 'T', OPT_REAL, &temperature, "X", "0 = greedy (default 0.8)", 0, 100 },
	{ "top-k", 0, OPT_INT, &top_k, "K", "sample from the K best tokens, 0 = all (default 40)", 0, 1 << 24 },
	{ "top-p", 0, OPT_REAL, &top_p, "P", "and from the fewest that reach P (default 0.95)", 0, 1 },
	{ "min-p", 0, OPT_REAL, &min_p, "P", "and not below P times the best (default 0.05)", 0, 1 },
	{ "repeat-penalty", 0, OPT_REAL, &repeat_penalty, "X", "divide recent tokens' logits (default 1 = off)",
	  0.1, 10 },
	{ "repeat-last", 0, OPT_INT, &repeat_last, "N", "how many tokens are recent (default 64)", 0, 4096 },
	{ "seed", 's', OPT_INT, &seed, "N", "random seed (default: from the clock)", 0, 9e18 },
	{ "db", 'd', OPT_TEXT, &db, "FILE", "database to log to (default moescope.db)", 0, 0 },
	{ "detail", 0, OPT_ENUM, &detail, "counts|routes|full", "what to log (default routes)", 0, 0 },
	{ "weights", 0, OPT_ENUM, &weights, "exact|16bit|8bit|none",
	  "how weights and margins are kept (default exact)", 0, 0 },
	{ "domain", 0, OPT_TEXT, &domain, "NAME", "domain of this sequence, for analyses", 0, 0 },
	{ "name", 0, OPT_TEXT, &name, "NAME", "name of this sequence", 0, 0 },
	{ "drop", 0, OPT_FLAG, &drop, NULL, "if the log cannot keep up, drop and record the gap; else wait", 0, 0 },
	{ "no-log", 0, OPT_FLAG, &no_log, NULL, "log nothing", 0, 0 },
	LOAD_OPTS(lo),
	{ 0 },
};

const struct cmd cmd_run = {
	"run", "[MODEL [PROMPT]]", "Generate from a prompt and log every routing decision",
	"MODEL is a GGUF file or sample:balanced, sample:collapsed (default: sample:balanced). The text\n"
	"goes to standard output; decisions go to the database. Ctrl-C ends the generation and closes the\n"
	"run properly. Watch it live from another terminal with `moescope top FILE`.\n", opts, run,
};
