/*
 * run.c - `moescope run`: generate from a prompt and log every routing decision.
 *
 * The text goes to stdout as it is produced, everything else to stderr. With a strict audit log a token is
 * held back until the decisions that led to it are committed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cmd/engine.h"
#include "cmd/gen.h"
#include "cmd/live.h"
#include "cmd/show.h"

static struct load_opts lo;
static long long n_predict = -1, top_k = 40, repeat_last = 64, seed = -1;
static double temperature = 0.8, top_p = 0.95, min_p = 0.05, repeat_penalty = 1.0;
static const char *prompt, *db = "moescope.db", *domain, *name, *tmpl, *system_text;
static int detail = MOE_DETAIL_ROUTES, weights, no_log, special, drop, ignore_end, chat, live, log_text;

static int encode_prompt(struct gen *g, const char *text, int32_t **ids, size_t *n, struct moe_err *e)
{
	unsigned flags = TOK_BOS | (special ? TOK_SPECIAL : 0);
	uint32_t ctx = session_ctx(g->s);

	if (tok_encode(g->l.tok, text, strlen(text), flags, ids, n, e))
		return -1;
	if (!*n) { /* an empty prompt starts where documents start */
		int32_t start = tok_bos(g->l.tok) >= 0 ? tok_bos(g->l.tok) : tok_eos(g->l.tok);

		if (start < 0)
			return err_set(e, MOE_ERR_USAGE, "empty prompt, and the model names no token to start with");
		(*ids)[(*n)++] = start; /* there is room for one more */
	}
	if (*n > ctx)
		return err_set(e, MOE_ERR_INPUT, "the prompt has %zu tokens, the context %u (see --ctx)", *n, ctx);
	return 0;
}

/* For replay: the exact bits of what sampling was asked for. */
static void describe_sampler(struct buf *b, void *ctx)
{
	const struct gen *g = ctx;
	const struct { const char *name; double v; } real[] = { { "temperature", temperature },
		{ "top_p", top_p }, { "min_p", min_p }, { "repeat_penalty", repeat_penalty } };

	for (size_t i = 0; i < sizeof real / sizeof real[0]; i++) {
		uint64_t bits;

		memcpy(&bits, &real[i].v, 8);
		buf_printf(b, "%s_bits %016llx\n", real[i].name, (unsigned long long)bits);
	}
	record_int(b, "top_k", top_k);
	record_int(b, "repeat_last", repeat_last);
	record_int(b, "seed", (int64_t)g->seed);
	if (chat)
		record_text(b, "conversation", "turns are read in, replies are sampled, in one sequence");
}

static int open_trace(struct gen *g, struct moe_err *e)
{
	struct gen_log o = { db, "run", &lo, { .detail = (enum moe_detail)detail, .drop = drop,
		.weights = (enum moe_weights)weights }, log_text, describe_sampler, g };

	if (no_log)
		return 0;
	if (!model_info(g->l.model)->n_moe_layer) {
		fprintf(stderr, "moescope run: %s is dense: it has no routers, so nothing is logged\n",
			show(model_info(g->l.model)->name).s);
		return 0;
	}
	return gen_log_open(g, &o, e);
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

/* One prompt, one text. */
static int go_once(struct gen *g, const char *text, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = 1, .domain = domain, .name = name };
	int32_t *ids = NULL;
	enum gen_end end;
	int status = -1;
	size_t n;

	if (encode_prompt(g, text, &ids, &n, e) || open_trace(g, e))
		goto out;
	load_catch_interrupt();
	g->out = gen_stdout(load_interrupted);
	info.n_prompt = (uint32_t)n;
	g->result.seq = 1;
	g->result.n_prompt = (uint32_t)n;
	if (session_begin(g->s, &info, e) || gen_feed(g, ids, n, MOE_PREFILL, e) ||
	    gen_reply(g, n_predict < 0 ? 128 : n_predict, ignore_end, &end, e))
		goto out;
	if (end == GEN_FULL)
		fprintf(stderr, "\n[the context of %u tokens is full]", session_ctx(g->s));
	status = session_end(g->s, &g->result, e);
out:
	free(ids);
	return status;
}

static int go(struct gen *g, const char *text, struct moe_err *e)
{
	struct sampler_opt so = { temperature, (uint32_t)top_k, top_p, min_p, repeat_penalty,
		(uint32_t)repeat_last, seed < 0 ? (uint64_t)clock_wall() >> 1 : (uint64_t)seed };
	struct chat_opts co = { NULL, system_text, text, domain ? domain : "chat", name,
		n_predict < 0 ? 512 : n_predict, ignore_end };

	g->seed = so.seed;
	if (chat && chat_template(&g->l, tmpl, &co.row, e))
		return -1;
	g->s = engine_session(&g->l, &lo, e);
	if (!g->s)
		return -1;
	g->sampler = sampler_new(&so, model_info(g->l.model)->n_vocab, e);
	if (!g->sampler)
		return -1;
	if (!chat)
		return go_once(g, text ? text : "", e);
	return open_trace(g, e) ? -1 : chat_run(g, &co, e);
}

static int check_operands(int argc, struct moe_err *e)
{
	if (argc > 2 || (argc == 2 && prompt))
		return err_set(e, MOE_ERR_USAGE, "a model and one prompt are expected, %d operands were given",
			argc);
	if (!chat && (tmpl || system_text))
		return err_set(e, MOE_ERR_USAGE, "--%s is for a conversation: add --chat",
			tmpl ? "chat-template" : "system");
	if (live && (chat || no_log))
		return err_set(e, MOE_ERR_USAGE, chat ? "--live is not for a conversation: use `top` beside it" :
			"--live shows what is logged: not with --no-log");
	if (chat && special)
		return err_set(e, MOE_ERR_USAGE, "--special is not for a conversation: what is said is text");
	return 0;
}

static int infer(int argc, char **argv, struct moe_err *e)
{
	struct gen g = { 0 };
	const char *model = argc ? argv[0] : "sample:balanced", *text = prompt;
	int64_t id = 0;
	int status;

	if (argc == 2)
		text = argv[1];
	if (load_model(model, &lo, &g.l, e))
		return -1;
	status = go(&g, text, e);
	id = gen_log_close(&g, status, e);
	if (id < 0)
		status = -1;
	if (!status) { /* not before it is known that nothing was lost */
		status = gen_show_held(&g, e);
		if (!chat && isatty(STDOUT_FILENO))
			putchar('\n');
		fflush(stdout);
		print_speed(&g);
		engine_print_cache(&g.l, g.s);
	}
	if (!status && id > 0)
		gen_print_logged(db, id);
	gen_free(&g);
	return !status && load_interrupted() ? 130 : status;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	if (tmpl && !strcmp(tmpl, "list")) {
		chat_list();
		return 0;
	}
	if (check_operands(argc, e))
		return -1;
	return live ? live_run(db, infer, argc, argv, e) : infer(argc, argv, e);
}

static const struct opt opts[] = {
	{ "prompt", 'p', OPT_TEXT, &prompt, "TEXT", "the prompt (or give it as second operand)", 0, 0 },
	{ "predict", 'n', OPT_INT, &n_predict, "N", "tokens to generate (default 128; a reply in a conversation: 512)", 0, 1 << 24 },
	{ "chat", 0, OPT_FLAG, &chat, NULL, "a conversation: lines of standard input are what you say", 0, 0 },
	{ "chat-template", 0, OPT_TEXT, &tmpl, "NAME", "how the model writes a conversation, or list (default: its own)",
	  0, 0 },
	{ "system", 0, OPT_TEXT, &system_text, "TEXT", "a conversation's instructions to the model", 0, 0 },
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
	{ "domain", 0, OPT_TEXT, &domain, "NAME", "domain of this sequence, for analyses (a conversation: chat)", 0, 0 },
	{ "name", 0, OPT_TEXT, &name, "NAME", "name of this sequence", 0, 0 },
	{ "drop", 0, OPT_FLAG, &drop, NULL, "if the log cannot keep up, drop and record the gap; else wait", 0, 0 },
	{ "log-text", 0, OPT_FLAG, &log_text, NULL, "also the text of the tokens, to read along in `top`", 0, 0 },
	{ "live", 0, OPT_FLAG, &live, NULL, "with the dashboard beside it; Ctrl-C ends both, q the dashboard", 0, 0 },
	{ "no-log", 0, OPT_FLAG, &no_log, NULL, "log nothing", 0, 0 },
	LOAD_OPTS(lo),
	{ 0 },
};

const struct cmd cmd_run = {
	"run", "[MODEL [PROMPT]]", "Generate from a prompt and log every routing decision",
	"MODEL is a GGUF file or sample:balanced, sample:collapsed (default: sample:balanced). The text\n"
	"goes to standard output; decisions go to the database. Ctrl-C ends the generation and closes the\n"
	"run properly. Watch it live from another terminal with `moescope top FILE`.\n\n"
	"With --chat each line of standard input is one turn of a conversation, and PROMPT the first.\n"
	"Ctrl-C stops a reply; /help lists what else can be said, /stats shows the routing of the last\n"
	"reply, Ctrl-D leaves. The whole conversation is one sequence of the run.\n", opts, run,
};
