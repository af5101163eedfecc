/* load.c - see load.h. */
#include "cmd/load.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit/sha.h"
#include "base/err.h"
#include "base/mem.h"
#include "cmd/show.h"
#include "model/aware.h"
#include "version.h"

#define HASH_MOST (64ull << 20) /* bytes; about 0.2 s */
#define GRACE_S   2 /* behind a second signal, to close the run */

static volatile sig_atomic_t interrupted;

/*
 * A file that another process cuts while it is mapped raises SIGBUS on access; nothing that was
 * read before can be trusted then. So the program says which file it was and ends: what the trace
 * has committed stays, and the next writer marks the run failed. One model a process.
 */
static struct bus { char text[1200]; size_t len; const struct gguf *g; } bus[1 + LOAD_ADAPTERS];
static const struct bus *opening;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	const struct bus *b = opening;

	(void)context;
	for (size_t i = 0; !b && i < sizeof bus / sizeof bus[0]; i++)
		if (bus[i].g && gguf_holds(bus[i].g, info->si_addr))
			b = &bus[i];
	if (b) {
		if (write(STDERR_FILENO, b->text, b->len) < 0)
			_exit(MOE_ERR_SYS);
		_exit(MOE_ERR_INPUT);
	}
	signal(sig, SIG_DFL); /* somebody else's: happens again on return */
}

struct gguf *load_file(const char *path, struct moe_err *e)
{
	struct sigaction a = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	struct bus *b = bus;
	struct gguf *g;

	while (b->g && b < bus + LOAD_ADAPTERS)
		b++;
	b->len = (size_t)snprintf(b->text, sizeof b->text,
		"moescope: %s: the file was cut, or its disk failed, while it was in use\n", show(path).s);
	opening = b;
	sigaction(SIGBUS, &a, NULL);
	g = gguf_open(path, e);
	b->g = g;
	opening = NULL;
	return g;
}

static const struct embedded *find_sample(const char *name, struct moe_err *e)
{
	char list[256] = "";
	size_t len = 0;

	for (const struct embedded *m = embed_models; m->name; m++) {
		if (!strcmp(m->name, name))
			return m;
		len += (size_t)snprintf(list + len, len < sizeof list ? sizeof list - len : 0, " sample:%s",
			m->name);
	}
	err_set(e, MOE_ERR_USAGE, "no embedded model 'sample:%s'; there are%s", name,
		*list ? list : " none");
	return NULL;
}

int load_gguf(const char *name, struct gguf **out, struct moe_err *e)
{
	if (!strncmp(name, "sample:", 7)) {
		const struct embedded *m = find_sample(name + 7, e);

		*out = m ? gguf_open_memory(m->data, (size_t)(m->end - m->data), name, e) : NULL;
	} else {
		*out = load_file(name, e);
	}
	return *out ? 0 : -1;
}

#define COPY_LEAST (64ull << 20) /* bytes: below, a processor's caches do most of the work */

static int copies(const struct load_opts *o, const struct gguf *g)
{
	uint64_t bytes = gguf_file_bytes(g);

	if (!o || o->cache || o->where == LOAD_MAP)
		return 0;
	return o->where == LOAD_COPY ||
		(bytes >= COPY_LEAST && gguf_large_pages() && bytes <= mem_available() / 2);
}

int load_model(const char *name, const struct load_opts *o, struct loaded *l, struct moe_err *e)
{
	memset(l, 0, sizeof *l);
	if (load_gguf(name, &l->gguf, e))
		return -1;
	if (copies(o, l->gguf) && gguf_to_memory(l->gguf, gguf_read_whole, e)) {
		load_free(l);
		return -1;
	}
	l->model = model_open(l->gguf, e);
	l->tok = l->model ? tok_load(l->gguf, e) : NULL;
	if (l->tok && tok_n_vocab(l->tok) > model_info(l->model)->n_vocab) {
		err_set(e, MOE_ERR_INPUT, "%s: tokenizer of %zu tokens, embedding of %u", name,
			tok_n_vocab(l->tok), model_info(l->model)->n_vocab);
		tok_free(l->tok);
		l->tok = NULL;
	}
	if (l->tok)
		return 0;
	load_free(l);
	return -1;
}

void load_free(struct loaded *l)
{
	tok_free(l->tok);
	model_close(l->model);
	memset(bus, 0, sizeof bus);
	for (size_t i = 0; i < l->n_aware; i++)
		aware_free(l->aware[i]);
	for (size_t i = 0; i < l->n_adapter; i++)
		gguf_close(l->adapter[i].gguf);
	gguf_close(l->gguf);
	memset(l, 0, sizeof *l);
}

struct session_opt load_session_opt(const struct load_opts *o)
{
	return (struct session_opt){ .n_ctx = (uint32_t)o->ctx, .n_batch = (uint32_t)o->batch,
		.n_threads = (uint32_t)o->threads, .isa = o->isa, .kv_type = o->kv_type,
		.activations = o->activations };
}

/* Hex SHA-256 of the model file, of a split model of its parts' bytes one after the other; NULL for
 * a large one, where it would delay every start. */
static const char *file_hash(const struct gguf *g)
{
	static char hex[2 * SHA_BYTES + 1]; /* one model a process */
	unsigned char sum[SHA_BYTES];
	struct sha state;

	if (gguf_file_bytes(g) > HASH_MOST || sodium_init() < 0)
		return NULL;
	sha_init(&state);
	for (size_t i = 0; i < gguf_n_parts(g); i++) {
		struct gguf_part p = gguf_part_at(g, i);

		sha_add(&state, p.data, p.bytes);
	}
	sha_end(&state, sum);
	return sodium_bin2hex(hex, sizeof hex, sum, sizeof sum);
}

void load_describe(const struct loaded *l, const struct session *s, const char *command,
	struct moe_run_desc *d)
{
	static char router[160]; /* one model a process */
	const struct model_info *in = model_info(l->model);

	memset(d, 0, sizeof *d);
	d->command = command;
	d->model_name = in->name;
	d->model_path = gguf_path(l->gguf);
	d->arch = in->arch;
	d->quant = in->quant;
	d->tokenizer = tok_describe(l->tok);
	d->model_hash = file_hash(l->gguf);
	d->model_bytes = gguf_file_bytes(l->gguf);
	d->n_params = in->n_params;
	d->n_params_active = in->n_params_active;
	d->n_layer = in->n_layer;
	d->n_vocab = in->n_vocab;
	d->n_ctx = session_ctx(s);
	d->layers = in->layers;
	d->n_moe_layer = in->n_moe_layer;
	if (in->n_moe_layer) {
		moe_route_describe(&in->route, router, sizeof router);
		d->router = router;
		d->score = moe_route_score_name(in->route.score);
	}
	d->engine = "moescope " MOESCOPE_VERSION " " MOESCOPE_COMMIT;
	d->isa = session_kern(s)->name;
	d->n_threads = (uint32_t)session_threads(s);
	d->n_batch = session_batch(s);
}

static void on_alarm(int sig)
{
	(void)sig;
	signal(SIGINT, SIG_DFL);
	raise(SIGINT);
}

static void on_signal(int sig)
{
	if (interrupted) {
		signal(SIGALRM, on_alarm);
		alarm(GRACE_S);
		signal(sig, SIG_DFL); /* a third one ends the program at once */
	}
	interrupted = 1;
}

void load_catch_interrupt(void)
{
	struct sigaction a = { .sa_handler = on_signal };

	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	signal(SIGPIPE, SIG_IGN); /* so that the run is closed when nobody reads the text any more */
}

int load_interrupted(void)
{
	return interrupted;
}
