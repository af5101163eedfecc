/*
 * profile.c - `moescope profile`: run a corpus of documents by domain, log every decision, measure
 * perplexity per domain, and say what was found.
 *
 * A document longer than the context is read in parts, each a sequence of its own; the parts carry
 * the document's name, so that analyses treat them as one document.
 */
#include "cmd/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/corpus.h"
#include "cmd/energy.h"
#include "cmd/engine.h"
#include "cmd/live.h"
#include "cmd/progress.h"
#include "cmd/record.h"
#include "cmd/show.h"
#include "cmd/summary.h"
#include "cmd/words.h"
#include "model/sampler.h"

/* One part of a document: a sequence. */
struct part {
	const struct doc *doc;
	const int32_t *ids; /* [n], into the document's tokens */
	size_t n;
};

struct profile {
	struct loaded l;
	struct session *s;
	struct moe_trace *t;
	struct record rec;
	struct sampler *sampler;
	struct words words;
	struct energy energy;
	struct corpus corpus;
	int32_t **tokens;    /* [corpus.n] */
	struct part *part;   /* [n_part] */
	size_t n_part, cap_part;
	uint64_t total, done;
	struct progress bar;
	const struct part *now; /* the sequence being run */
	struct moe_seq_result result;
	int32_t next;
	const struct profile_opt *o;
};

/* -ln p(token) under logits [n]. */
static double surprise(const struct kern *k, const float *logits, size_t n, int32_t token)
{
	float max = logits[0], part[1024];
	double sum = 0;

	for (size_t i = 1; i < n; i++)
		max = logits[i] > max ? logits[i] : max;
	for (size_t i = 0; i < n; i += 1024) {
		size_t len = n - i < 1024 ? n - i : 1024;

		memcpy(part, logits + i, len * sizeof *part);
		k->exp_shift(part, max, len);
		sum += (double)k->sum(part, len);
	}
	return log(sum) + (double)max - (double)logits[token];
}

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct profile *p = ctx;
	size_t len;

	if (record_logits(&p->rec, p->result.seq, pos, row, model_info(p->l.model)->n_vocab, e))
		return -1;
	if (pos + 1 < p->now->n) {
		int32_t token = p->now->ids[pos + 1];

		if (p->o->no_perplexity)
			return 0;
		p->result.nll += surprise(session_kern(p->s), row, model_info(p->l.model)->n_vocab, token);
		p->result.n_scored++;
		if (!tok_is_special(p->l.tok, token) && tok_bytes(p->l.tok, token, &len))
			p->result.n_bytes += len;
		return 0;
	}
	if (p->sampler)
		p->next = sampler_next(p->sampler, row);
	return 0;
}

static int add_parts(struct profile *p, size_t d, size_t n, struct moe_err *e)
{
	size_t room = session_ctx(p->s);

	if (p->o->generate) /* leave room for the reply */
		room = room > 2 * (size_t)p->o->generate ? room - (size_t)p->o->generate : room - room / 2;
	for (size_t at = 0; at < n; at += room) {
		if (p->n_part == p->cap_part) {
			size_t cap = p->cap_part ? p->cap_part * 2 : 256;
			struct part *q = realloc(p->part, cap * sizeof *q);

			if (!q)
				return err_nomem(e, cap * sizeof *q, "corpus");
			p->part = q;
			p->cap_part = cap;
		}
		p->part[p->n_part++] = (struct part){ &p->corpus.doc[d], p->tokens[d] + at,
			n - at < room ? n - at : room };
	}
	p->total += n;
	return 0;
}

static int tokenise(struct profile *p, struct moe_err *e)
{
	p->tokens = calloc(p->corpus.n, sizeof *p->tokens);
	if (!p->tokens)
		return err_nomem(e, p->corpus.n * sizeof *p->tokens, "corpus");
	for (size_t i = 0; i < p->corpus.n && p->total < (uint64_t)p->o->max_tokens; i++) {
		size_t n;

		if (tok_encode(p->l.tok, p->corpus.doc[i].text, p->corpus.doc[i].len, TOK_BOS,
		    &p->tokens[i], &n, e))
			return -1;
		if (add_parts(p, i, n, e))
			return -1;
	}
	p->total += p->n_part * (uint64_t)p->o->generate;
	return 0;
}

static int generate(struct profile *p, const struct session_want *want, struct moe_err *e)
{
	for (long long i = 0; i < p->o->generate && !load_interrupted(); i++) {
		if (tok_is_end(p->l.tok, p->next) || session_pos(p->s) == session_ctx(p->s))
			break;
		p->result.n_generated++;
		if (session_eval(p->s, &p->next, 1, MOE_DECODE, want, e))
			return -1;
	}
	return 0;
}

static int run_part(struct profile *p, size_t i, struct moe_err *e)
{
	const struct part *q = &p->part[i];
	struct session_want want = { !p->o->no_perplexity, on_logits, p };
	struct moe_seq_info info = { i + 1, q->doc->domain, q->doc->name, (uint32_t)q->n };

	p->now = q;
	p->result = (struct moe_seq_result){ .seq = i + 1, .n_prompt = (uint32_t)q->n };
	if (session_begin(p->s, &info, e) ||
	    session_eval(p->s, q->ids, q->n, MOE_PREFILL,
		    p->o->no_perplexity && !p->sampler ? NULL : &want, e) ||
	    generate(p, &want, e) || session_end(p->s, &p->result, e))
		return err_wrap(e, "document %s", q->doc->name);
	p->done += q->n + p->result.n_generated;
	progress_to(&p->bar, p->done, q->doc->domain);
	return 0;
}

static void describe_reading(struct buf *b, void *ctx)
{
	const struct profile *p = ctx;

	record_text(b, "temperature_bits", "0000000000000000"); /* greedy */
	record_int(b, "generate", p->o->generate);
}

static int open_all(struct profile *p, char **corpus, int n_corpus, struct moe_err *e)
{
	const struct profile_opt *o = p->o;
	struct moe_trace_opt to = { .detail = o->detail, .drop = o->drop,
		.weights = o->weights };
	struct sampler_opt so = { .temperature = 0 };
	struct record_about about = { .l = &p->l, .more = describe_reading, .ctx = p };
	struct moe_run_desc d;

	if (load_model(o->model, o->load, &p->l, e))
		return -1;
	if (!model_info(p->l.model)->n_moe_layer)
		return err_set(e, MOE_ERR_INPUT, "%s is dense: it has no routers to profile", o->model);
	p->s = engine_session(&p->l, o->load, e);
	if (!p->s || corpus_read(&p->corpus, corpus, n_corpus, e) || tokenise(p, e))
		return -1;
	if (o->generate && !(p->sampler = sampler_new(&so, model_info(p->l.model)->n_vocab, e)))
		return -1;
	engine_describe(&p->l, p->s, o->load, "profile", &d);
	about.s = p->s;
	about.logits = !o->no_perplexity ? "all" : p->sampler ? "last" : "none";
	if (record_start(&p->rec, o->db, &about, &to, &d, e))
		return -1;
	p->t = moe_trace_open(o->db, &to, &d, e);
	energy_init(&p->energy);
	if (!p->t || session_add_hook(p->s, moe_trace_hook(p->t), e) ||
	    session_add_hook(p->s, &p->energy.hook, e))
		return -1;
	if (!o->log_text)
		return 0;
	return words_init(&p->words, p->t, p->l.tok, model_info(p->l.model)->n_vocab, e) ||
		session_add_hook(p->s, &p->words.hook, e) ? -1 : 0;
}

static void close_all(struct profile *p)
{
	for (size_t i = 0; p->tokens && i < p->corpus.n; i++)
		free(p->tokens[i]);
	free(p->tokens);
	free(p->part);
	corpus_free(&p->corpus);
	sampler_free(p->sampler);
	record_free(&p->rec);
	session_free(p->s);
	words_free(&p->words);
	load_free(&p->l);
}

int profile_run(const struct profile_opt *o, char **corpus, int n_corpus, int64_t *run,
	struct moe_err *e)
{
	struct profile p = { .o = o };
	int failed = open_all(&p, corpus, n_corpus, e);

	load_catch_interrupt();
	if (!failed) {
		progress_start(&p.bar, "profile", p.total);
		for (size_t i = 0; i < p.n_part && !failed && !load_interrupted(); i++)
			failed = run_part(&p, i, e);
		progress_stop(&p.bar);
	}
	if (p.t) {
		struct moe_err late = { 0 };

		*run = moe_trace_run(p.t);
		(void)energy_note(&p.energy, p.t, &late); /* what fails here fails closing, too */
		if (moe_trace_close(p.t, failed ? MOE_RUN_FAILED : MOE_RUN_DONE, &late) && !failed) {
			*e = late;
			failed = -1;
		}
	}
	if (!failed) {
		progress_end(&p.bar, p.done);
		engine_print_cache(&p.l, p.s);
	}
	close_all(&p);
	return failed;
}

/* ---- the command ---- */

static struct load_opts lo;
static struct profile_opt po = { .model = "sample:balanced", .db = "moescope.db",
	.detail = MOE_DETAIL_ROUTES, .max_tokens = 1LL << 40 };
static int detail = MOE_DETAIL_ROUTES, weights, quiet, live;

static int infer(int argc, char **argv, struct moe_err *e)
{
	int64_t id = 0;

	if (argc)
		po.model = argv[0];
	po.detail = (enum moe_detail)detail;
	po.weights = (enum moe_weights)weights;
	po.load = &lo;
	if (profile_run(&po, argv + 1, argc > 1 ? argc - 1 : 0, &id, e))
		return -1;
	if (!quiet && summary_print(po.db, id, e))
		return -1;
	if (!quiet) {
		struct shown d = show(po.db);

		printf("\nrun %lld is in %s: `%s top %s`, `%s report %s`, `%s stat %s`\n", (long long)id,
			d.s, cmd_program, d.s, cmd_program, d.s, cmd_program, d.s);
	}
	return load_interrupted() ? 130 : 0;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	return live ? live_run(po.db, infer, argc, argv, e) : infer(argc, argv, e);
}

static const struct opt opts[] = {
	{ "db", 'd', OPT_TEXT, &po.db, "FILE", "database to log to (default moescope.db)", 0, 0 },
	{ "detail", 0, OPT_ENUM, &detail, "counts|routes|full", "what to log (default routes)", 0, 0 },
	{ "weights", 0, OPT_ENUM, &weights, "exact|16bit|8bit|none",
	  "how weights and margins are kept (default exact)", 0, 0 },
	{ "generate", 'g', OPT_INT, &po.generate, "N", "after each document generate up to N tokens, "
		"greedily",
	  0, 1 << 20 },
	{ "max-tokens", 0, OPT_INT, &po.max_tokens, "N", "stop adding documents after N tokens",
		1, 1e15 },
	{ "no-perplexity", 0, OPT_FLAG, &po.no_perplexity, NULL, "do not score the documents (faster)",
		0, 0 },
	{ "drop", 0, OPT_FLAG, &po.drop, NULL, "if the log cannot keep up, drop and record the gap; "
		"else wait",
	  0, 0 },
	{ "log-text", 0, OPT_FLAG, &po.log_text, NULL, "also the text of the tokens, to read along in "
		"`top`",
	  0, 0 },
	{ "live", 0, OPT_FLAG, &live, NULL, "with the dashboard beside it; Ctrl-C ends both, q the "
		"dashboard", 0, 0 },
	{ "quiet", 'q', OPT_FLAG, &quiet, NULL, "no summary", 0, 0 },
	LOAD_OPTS(lo),
	{ 0 },
};

const struct cmd cmd_profile = {
	"profile", "[MODEL [CORPUS...]]", "Run a corpus by domain, log every decision, summarise",
	"MODEL is a GGUF file or sample:balanced, sample:collapsed (default: sample:balanced). CORPUS is\n"
	"folders whose subfolders are domains, text files (domain = file name), or FILE.jsonl with a line\n"
	"{\"domain\": ..., \"text\": ...} per document; without one, short texts of 13 domains that are\n"
	"embedded in the program. A line <|endoftext|> in a text file separates documents. A document\n"
	"longer than the context is read in parts.\n", opts, run,
};
