/*
 * serve.c - `moescope serve`: an OpenAI-compatible server whose every request is traced.
 *
 * This thread is the engine's: it takes requests from the queue one after the other
 * (cmd/respond.c). Those of HTTP only parse, encode and wait (serve/http.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "cmd/engine.h"
#include "cmd/respond.h"
#include "cmd/show.h"
#include "serve/http.h"

#define IDLE_MS   100
#define SEED_MOST ((int64_t)1 << 52) /* so that a JSON number is this seed, not one near it */

static struct load_opts lo;
static long long port = 8080, n_predict = -1, queue_len = 32, domains_most = 64, connections = 64,
				 timeout_s = 30, max_body = 4 << 20, top_k = 40, repeat_last = 64, seed = -1;
static double temperature = 0.8, top_p = 0.95, min_p = 0.05, repeat_penalty = 1.0;
static const char *model, *host = "127.0.0.1", *db = "moescope.db", *domain, *tmpl, *key_file;
static int detail = MOE_DETAIL_ROUTES, weights, drop, log_text, log_user;

struct server {
	struct respond r;
	struct queue *queue;
	struct domains *domains;
	struct keys *keys;
	struct http *http;
	struct http_about about;
	char id[128];
};

/* "sample:balanced", or a file's name without folder and ending. */
static void name_model(const char *path, char *out, size_t size)
{
	const char *base = strrchr(path, '/');
	size_t n;

	base = base ? base + 1 : path;
	n = strlen(base);
	if (n > 5 && !strcmp(base + n - 5, ".gguf"))
		n -= 5;
	snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), base);
}

static int load(struct server *v, const char *name, struct moe_err *e)
{
	struct gen *g = &v->r.g;

	if (load_model(name, &lo, &g->l, e))
		return -1;
	if (!model_info(g->l.model)->n_moe_layer)
		return err_set(e, MOE_ERR_INPUT, "%s is dense: it has no routers to log", name);
	name_model(name, v->id, sizeof v->id);
	if (chat_template(&g->l, tmpl, &v->about.row, e)) {
		if (tmpl)
			return -1;
		fprintf(stderr, "moescope serve: no chat completions: %s\n", show(e->msg).s);
		memset(e, 0, sizeof *e);
	}
	g->s = engine_session(&g->l, &lo, e);
	return g->s ? 0 : -1;
}

static int open_log(struct server *v, struct moe_err *e)
{
	struct gen_log o = { db, "serve", &lo, { .detail = (enum moe_detail)detail, .drop = drop,
		.weights = (enum moe_weights)weights }, log_text, respond_describe, &v->r };
	struct gen *g = &v->r.g;
	const struct model_info *in = model_info(g->l.model);

	v->r.seed = seed < 0 ? (uint64_t)clock_wall() & (SEED_MOST - 1) : (uint64_t)seed;
	v->r.log_user = log_user;
	v->domains = domains_new(domain, (size_t)domains_most, e);
	if (!v->domains)
		return err_wrap(e, "--domain");
	v->queue = queue_new((size_t)queue_len, e);
	v->r.meter = v->queue
		? meter_new(in->layers, in->n_moe_layer, v->domains, (size_t)domains_most, e)
		: NULL;
	if (!v->r.meter || gen_log_open(g, &o, e))
		return -1;
	return session_add_hook(g->s, meter_hook(v->r.meter), e);
}

static int start(struct server *v, struct moe_err *e)
{
	struct gen *g = &v->r.g;

	v->about.model = (struct answer_model){ v->id, clock_wall() / 1000000000, moe_trace_run(g->t),
		g->l.tok };
	v->about.tok = g->l.tok;
	v->about.n_vocab = model_info(g->l.model)->n_vocab;
	v->about.n_ctx = session_ctx(g->s);
	v->about.defaults = (struct sampler_opt){ temperature, (uint32_t)top_k, top_p, min_p,
		repeat_penalty, (uint32_t)repeat_last, 0 };
	v->about.most_chat = n_predict;
	v->about.most_text = n_predict < 0 ? 16 : n_predict;
	v->about.queue = v->queue;
	v->about.domains = v->domains;
	v->about.meter = v->r.meter;
	v->about.keys = v->keys;
	if (!v->keys && !http_is_local(v->http))
		fprintf(stderr,
			"moescope serve: other machines can reach this server, and it asks for no key "
			"(--api-key-file)\n");
	if (http_start(v->http, &v->about, e))
		return -1;
	fprintf(stderr, "serving %s on %s, run %lld of %s; Ctrl-C ends it\n", show(v->id).s,
		http_url(v->http), (long long)moe_trace_run(g->t), show(db).s);
	return 0;
}

static int loop(struct server *v, struct moe_err *e)
{
	int rc = 0;

	while (!rc && !load_interrupted()) {
		struct job *j = queue_take(v->queue, IDLE_MS);

		rc = j ? respond_to(&v->r, j, e) : respond_idle(&v->r, e);
		job_release(j);
	}
	return rc;
}

static int serve(struct server *v, const char *name, struct moe_err *e)
{
	struct http_opt ho = { host, (int)port, (size_t)max_body, (unsigned)connections,
		(unsigned)timeout_s };
	int64_t id;
	int rc = -1;

	if (key_file && !(v->keys = keys_load(key_file, e)))
		return -1;
	v->http = http_open(&ho, e); /* before a run is added that nobody could ask for */
	if (!v->http || load(v, name, e))
		return -1;
	load_catch_interrupt();
	if (!open_log(v, e) && !start(v, e))
		rc = loop(v, e);
	if (v->queue)
		queue_close(v->queue);
	/* before the wait for clients that are slow, which a second signal cuts short */
	id = gen_log_close(&v->r.g, rc, e);
	http_close(v->http);
	v->http = NULL;
	if (id < 0 || rc)
		return -1;
	fprintf(stderr, "%llu requests answered\n", (unsigned long long)v->r.n);
	engine_print_cache(&v->r.g.l, v->r.g.s);
	gen_print_logged(db, id);
	return 0;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	static struct server v;
	int rc;

	if (tmpl && !strcmp(tmpl, "list")) {
		chat_list();
		return 0;
	}
	if (argc > 1 || (argc && model))
		return err_set(e, MOE_ERR_USAGE, "one model is expected, %d were given", argc + !!model);
	rc = serve(&v, argc ? argv[0] : model ? model : "sample:balanced", e);
	http_close(v.http);
	queue_free(v.queue);
	gen_free(&v.r.g);
	meter_free(v.r.meter);
	domains_free(v.domains);
	keys_free(v.keys);
	return rc;
}

static const struct opt opts[] = {
	{ "model", 'm', OPT_TEXT, &model, "MODEL", "the model, if it is not the operand", 0, 0 },
	{ "host", 0, OPT_TEXT, &host, "ADDRESS", "address to listen on (default 127.0.0.1)", 0, 0 },
	{ "port", 'p', OPT_INT, &port, "N", "port to listen on, 0 = one that is free (default 8080)", 0,
		65535 },
	{ "api-key-file", 0, OPT_TEXT, &key_file, "FILE",
		"clients must have one of the keys in it, one a line", 0, 0 },
	{ "domain", 0, OPT_TEXT, &domain, "NAME", "domain of requests that name none", 0, 0 },
	{ "domains", 0, OPT_INT, &domains_most, "N", "new domains that requests may name (default 64)",
		0, 65536 },
	{ "chat-template", 0, OPT_TEXT, &tmpl, "NAME",
		"how the model writes a conversation, or list (default: its own)", 0, 0 },
	{ "predict", 'n', OPT_INT, &n_predict, "N",
		"tokens of an answer where the request does not say (default: chat: "
		"up to the context, else 16)",
		0, 1 << 24 },
	{ "temperature", 'T', OPT_REAL, &temperature, "X",
		"where the request does not say: 0 = greedy (default 0.8)", 0, 100 },
	{ "top-k", 0, OPT_INT, &top_k, "K", "sample from the K best tokens, 0 = all (default 40)", 0,
		1 << 24 },
	{ "top-p", 0, OPT_REAL, &top_p, "P", "and from the fewest that reach P (default 0.95)", 0, 1 },
	{ "min-p", 0, OPT_REAL, &min_p, "P", "and not below P times the best (default 0.05)", 0, 1 },
	{ "repeat-penalty", 0, OPT_REAL, &repeat_penalty, "X",
		"divide recent tokens' logits (default 1 = off)", 0.1, 10 },
	{ "repeat-last", 0, OPT_INT, &repeat_last, "N", "how many tokens are recent (default 64)", 0,
		4096 },
	{ "seed", 's', OPT_INT, &seed, "N",
		"request n has random seed N + n if it says none (default: from the clock)", 0,
		SEED_MOST },
	{ "queue", 0, OPT_INT, &queue_len, "N", "requests that may wait; more get 429 (default 32)", 1,
		65536 },
	{ "connections", 0, OPT_INT, &connections, "N", "connections at a time (default 64)", 1, 4096 },
	{ "max-body", 0, OPT_INT, &max_body, "BYTES", "of a request (default 4194304)", 1024, 1 << 30 },
	{ "timeout", 0, OPT_INT, &timeout_s, "S",
		"seconds for a request to come in, and for a client that does not read "
		"(default 30)",
		1, 86400 },
	{ "db", 'd', OPT_TEXT, &db, "FILE", "database to log to (default moescope.db)", 0, 0 },
	{ "detail", 0, OPT_ENUM, &detail, "counts|routes|full", "what to log (default routes)", 0, 0 },
	{ "weights", 0, OPT_ENUM, &weights, "exact|16bit|8bit|none",
		"how weights and margins are kept (default exact)", 0, 0 },
	{ "drop", 0, OPT_FLAG, &drop, NULL,
		"if the log cannot keep up, drop and record the gap; else wait", 0, 0 },
	{ "log-text", 0, OPT_FLAG, &log_text, NULL,
		"also the text of the tokens, to read along in `top`", 0, 0 },
	{ "log-user", 0, OPT_FLAG, &log_user, NULL, "a request's field user names its sequence", 0, 0 },
	LOAD_OPTS(lo),
	{ 0 },
};

const struct cmd cmd_serve = {
	"serve",
	"[MODEL]",
	"Serve a model over HTTP, OpenAI-compatible, and log every routing decision",
	"MODEL is a GGUF file or sample:balanced, sample:collapsed (default: sample:balanced). Paths:\n"
	"/v1/chat/completions, /v1/completions, /v1/models, /health, /metrics; see docs/SERVE.md.\n"
	"Each request is a sequence of one run; header X-Moescope-Domain names its domain, and the\n"
	"answer's header X-Moescope-Seq its number. Requests are answered one after the other. Plain\n"
	"HTTP: put a reverse proxy in front for TLS. Ctrl-C ends the server and closes the run.\n",
	opts,
	run,
};
