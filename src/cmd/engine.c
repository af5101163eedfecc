/* engine.c - see engine.h. */
#include "cmd/engine.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/show.h"
#include "model/aware.h"
#include "trace/reader.h"

/* ---- words of the command line ---- */

/* A number that is the whole of s. */
static int number(const char *s, double *out)
{
	char *end;

	*out = strtod(s, &end);
	return end != s && !*end && isfinite(*out);
}

/* "4G", "512M", "1.5g", "1000000", "25%". */
static int read_size(const char *s, struct session_cache *c, struct moe_err *e)
{
	static const char units[] = "KMGT";
	char text[32];
	size_t n = strlen(s);
	const char *unit;
	double x, by = 1;

	if (n && n < sizeof text) {
		memcpy(text, s, n + 1);
		unit = strchr(units, text[n - 1] & ~32);
		if (text[n - 1] == '%') {
			text[n - 1] = 0;
			if (number(text, &c->percent) && c->percent > 0 && c->percent <= 100)
				return 0;
		} else {
			if (unit) {
				by = ldexp(1, 10 * (int)(unit - units + 1));
				text[n - 1] = 0;
			}
			if (number(text, &x) && x > 0 && x * by < 0x1p62) {
				c->bytes = (uint64_t)(x * by);
				return 0;
			}
		}
	}
	return err_set(e, MOE_ERR_USAGE, "--expert-cache: '%s' is no size; expected bytes with K, M, G "
		"or T, or up to 100%%", show(s).s);
}

/* "2,6" */
static int read_aware(const char *s, uint32_t *keep, uint32_t *within, struct moe_err *e)
{
	unsigned a, b;
	char rest;

	if (strspn(s, "0123456789,") != strlen(s) || sscanf(s, "%5u,%5u%c", &a, &b, &rest) != 2)
		return err_set(e, MOE_ERR_USAGE, "--cache-aware: '%s' is not KEEP,RANK", show(s).s);
	*keep = a;
	*within = b;
	return 0;
}

/* ---- adapters ---- */

/* FILE or FILE:SCALE. */
static int add_adapter(struct loaded *l, const char *arg, struct moe_err *e)
{
	struct adapter *a = &l->adapter[l->n_adapter];
	const char *colon = strrchr(arg, ':');
	size_t n = strlen(arg);

	a->scale = 1;
	if (colon && number(colon + 1, &a->scale))
		n = (size_t)(colon - arg);
	if (n >= sizeof a->path)
		return err_set(e, MOE_ERR_USAGE, "--lora: a path of %zu bytes", n);
	memcpy(a->path, arg, n);
	a->path[n] = 0;
	a->gguf = load_file(a->path, e);
	if (!a->gguf)
		return -1;
	l->n_adapter++;
	return model_add_adapter(l->model, a->gguf, a->scale, e);
}

static int add_adapters(struct loaded *l, const struct load_opts *o, struct moe_err *e)
{
	if (l->n_adapter)
		return 0;
	if (o->lora.n > LOAD_ADAPTERS)
		return err_set(e, MOE_ERR_USAGE, "%zu adapters: at most %d", o->lora.n, LOAD_ADAPTERS);
	for (size_t i = 0; i < o->lora.n; i++)
		if (add_adapter(l, o->lora.item[i], e))
			return -1;
	return 0;
}

/* ---- the expert cache ---- */

static int add_heat(const struct model_info *in, const struct load_set *set, uint64_t *heat,
	struct moe_err *e)
{
	if (set->n != in->n_moe_layer)
		return err_set(e, MOE_ERR_INPUT, "its model has %zu MoE layers, this one %u", set->n,
			in->n_moe_layer);
	for (size_t i = 0; i < set->n; i++) {
		const struct layer_load *y = &set->layer[i];

		if (y->layer != in->layers[i].layer || y->n_expert != in->layers[i].n_expert)
			return err_set(e, MOE_ERR_INPUT, "its model has %u experts at layer %u, this one %u at "
				"layer %u", y->n_expert, y->layer, in->layers[i].n_expert, in->layers[i].layer);
		for (size_t x = 0; x < y->n_expert; x++)
			heat[(size_t)y->layer * y->n_expert + x] += y->counts[x];
	}
	return 0;
}

/* How often each expert was picked in the newest run of a trace: [n_layer][n_expert], malloced. */
static uint64_t *read_heat(const struct model_info *in, const char *path, struct moe_err *e)
{
	uint64_t *heat = calloc((size_t)in->n_layer * (in->route.n_expert ? in->route.n_expert : 1u),
		sizeof *heat);
	struct load_filter f = { .domain = -1, .phase = -1 };
	struct run_info *run = malloc(sizeof *run);
	struct load_set set = { 0 };
	struct reader *r = reader_open(path, e);
	int bad = 1;

	if (!heat || !run) {
		err_nomem(e, sizeof *run, "counts of experts");
	} else if (r && !reader_run(r, 0, run, e)) {
		f.run = run->id;
		bad = reader_load(r, &f, &set, e) || add_heat(in, &set, heat, e);
	}
	load_set_free(&set);
	reader_close(r);
	free(run);
	if (!bad)
		return heat;
	free(heat);
	err_wrap(e, "--expert-policy static:%s", path);
	return NULL;
}

static int read_policy(const struct model_info *in, const char *s, struct session_cache *c,
	uint64_t **heat, struct moe_err *e)
{
	if (!s || !strcmp(s, "lru")) {
		c->policy = SESSION_LRU;
		return 0;
	}
	if (!strcmp(s, "lfu")) {
		c->policy = SESSION_LFU;
		return 0;
	}
	if (strncmp(s, "static:", 7))
		return err_set(e, MOE_ERR_USAGE, "--expert-policy: '%s' is none of lru, lfu, static:TRACE",
			show(s).s);
	c->policy = SESSION_STATIC;
	c->heat = *heat = read_heat(in, s + 7, e);
	return *heat ? 0 : -1;
}

/* ---- the session ---- */

static int add_aware(struct loaded *l, struct session *s, const char *arg, struct moe_err *e)
{
	uint32_t keep, within;
	struct aware *a;

	if (read_aware(arg, &keep, &within, e))
		return -1;
	a = aware_new(s, l->model, keep, within, e);
	if (!a)
		return -1;
	if (l->n_aware == LOAD_SESSIONS || session_add_hook(s, aware_hook(a), e)) {
		aware_free(a);
		return -1;
	}
	l->aware[l->n_aware++] = a;
	return 0;
}

/* Nothing forbids a longer context than the model has seen,
 * but nobody should take it for granted. */
static void warn_context(struct loaded *l, const struct session *s)
{
	const struct model_info *in = model_info(l->model);

	if (session_ctx(s) > in->n_ctx_train && !l->warned)
		fprintf(stderr, "moescope: warning: --ctx %u is beyond the %u tokens that the model was "
			"trained with (RoPE scaling: %s); do not trust what it predicts past them\n",
			session_ctx(s), in->n_ctx_train, in->rope_scaling);
	l->warned = 1;
}

struct session *engine_session(struct loaded *l, const struct load_opts *o, struct moe_err *e)
{
	struct session_opt so = load_session_opt(o);
	struct session_cache cache = { 0 };
	struct session *s = NULL;
	uint64_t *heat = NULL;

	if (add_adapters(l, o, e))
		return NULL;
	if (!o->cache && (o->policy || o->aware)) {
		err_set(e, MOE_ERR_USAGE, "--%s needs --expert-cache",
			o->policy ? "expert-policy" : "cache-aware");
		return NULL;
	}
	if (o->cache) {
		if (read_size(o->cache, &cache, e) ||
		    read_policy(model_info(l->model), o->policy, &cache, &heat, e))
			return NULL;
		so.cache = &cache;
	}
	s = session_new(l->model, &so, e);
	free(heat);
	if (s && o->aware && add_aware(l, s, o->aware, e)) {
		session_free(s);
		return NULL;
	}
	if (s)
		warn_context(l, s);
	return s;
}

/* ---- what the trace is told ---- */

static void hash_of(const struct gguf *g, char out[2 * crypto_hash_sha256_BYTES + 1])
{
	unsigned char sum[crypto_hash_sha256_BYTES];
	struct gguf_part p = gguf_part_at(g, 0);

	strcpy(out, "-");
	if (sodium_init() < 0)
		return;
	crypto_hash_sha256(sum, p.data, p.bytes);
	sodium_bin2hex(out, 2 * sizeof sum + 1, sum, sizeof sum);
}

#define SETTINGS (LOAD_ADAPTERS + 5)
static struct moe_setting settings[SETTINGS]; /* one model a process */
static char keys[SETTINGS][32], values[SETTINGS][1200];

static void set(struct moe_run_desc *d, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void set(struct moe_run_desc *d, const char *key, const char *fmt, ...)
{
	uint32_t i = d->n_setting++;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(values[i], sizeof values[i], fmt, ap);
	va_end(ap);
	snprintf(keys[i], sizeof keys[i], "%s", key);
	settings[i] = (struct moe_setting){ keys[i], values[i] };
	d->settings = settings;
}

void engine_describe(const struct loaded *l, const struct session *s, const struct load_opts *o,
	const char *command, struct moe_run_desc *d)
{
	struct session_cache_stat c;

	load_describe(l, s, command, d);
	set(d, "activations", "%s", session_act_name(s));
	set(d, "kv type", "%s", session_kv_name(s));
	for (size_t i = 0; i < l->n_adapter; i++) {
		char key[32], scale[32], hash[2 * crypto_hash_sha256_BYTES + 1];

		hash_of(l->adapter[i].gguf, hash);
		snprintf(key, sizeof key, "adapter %zu", i + 1);
		snprintf(scale, sizeof scale, "%g", l->adapter[i].scale);
		if (strtod(scale, NULL) != l->adapter[i].scale) /* a replay must get the same bits */
			snprintf(scale, sizeof scale, "%.17g", l->adapter[i].scale);
		set(d, key, "%s %s %s", scale, hash, l->adapter[i].path);
	}
	if (session_cache_stat(s, &c))
		set(d, "expert cache", "%llu of %llu experts, %llu bytes each, %s",
			(unsigned long long)c.slots, (unsigned long long)c.experts,
			(unsigned long long)c.slot_bytes, o->policy ? o->policy : "lru");
	if (o->aware)
		set(d, "cache-aware routing", "%s: keep, highest rank; choices depend on what the expert "
			"cache held", o->aware);
}

void engine_print_cache(const struct loaded *l, const struct session *s)
{
	struct session_cache_stat c;
	uint64_t seen, changed;

	if (!session_cache_stat(s, &c))
		return;
	fprintf(stderr, "expert cache: %llu of %llu experts, %.1f MiB; %llu of %llu found (%.1f %%), "
		"%.1f MiB read, stalled %.2f s\n", (unsigned long long)c.slots,
		(unsigned long long)c.experts, (double)(c.slots * c.slot_bytes) / 1048576,
		(unsigned long long)c.hits, (unsigned long long)(c.hits + c.misses),
		c.hits + c.misses ? 100.0 * (double)c.hits / (double)(c.hits + c.misses) : 0.0,
		(double)c.read_bytes / 1048576, (double)c.stall_ns * 1e-9);
	for (size_t i = 0; i < l->n_aware; i++) {
		aware_counts(l->aware[i], &seen, &changed);
		fprintf(stderr, "cache-aware routing changed %llu of %llu decisions: the text depends on "
			"what the cache held\n", (unsigned long long)changed, (unsigned long long)seen);
	}
}
