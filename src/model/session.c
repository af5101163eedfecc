/*
 * session.c - one sequence's life: buffers, cache, batches, hooks. The arithmetic is forward.c's.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "model/forward.h"
#include "model/lora.h"

#define DEFAULT_CTX 4096
#define DEFAULT_BATCH 512

/* Zeroed, 64-byte aligned; n elements of size bytes. Sizes were range-checked by the loader, so their
 * products fit in 64 bits. The first round only counts. Large ones come from the system, zeroed, and
 * take memory where they are used: a short prompt does not pay for a large batch. */
static int get(struct session *s, void *pp, uint64_t n, size_t size, const char *what,
	struct moe_err *e)
{
	char *p;

	if (n == 0)
		n = 1;
	if (s->counting) {
		s->bytes += n * size;
		return 0;
	}
	assert(s->n_own < SESSION_BUFFERS);
	p = calloc(1, (size_t)n * size + 64);
	if (!p)
		return err_nomem(e, n * size, what);
	s->own[s->n_own++] = p;
	*(void **)pp = p + (64 - (uintptr_t)p % 64) % 64;
	return 0;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static int get_activations(struct session *s, struct moe_err *e)
{
	const struct hparams *hp = &s->m->hp;
	uint64_t t = s->n_batch, d = hp->n_embd, qw = (uint64_t)hp->n_head * hp->head_dim;
	uint64_t ow = (uint64_t)hp->n_head * hp->head_dim_v, ff = max_u64(hp->n_ff, hp->n_ff_shared);
	uint64_t row = max_u64(max_u64(d, ow), max_u64(ff, hp->n_ff_expert));
	uint64_t w = (uint64_t)pool_threads(s->pool), jobs = max_u64(3 * (uint64_t)hp->n_expert, hp->n_head);

	row = max_u64(row, max_u64(hp->q_rank, hp->kv_rank));
	s->scratch_n = kern_scratch((size_t)row);
	s->rounded_n = (size_t)product_rounded_bytes(s, s->n_batch);
	attend_sizes(s);
	s->lora_n = lora_scratch(s->m);
	return get(s, &s->x, t * d, 4, "activations", e) || get(s, &s->h, t * d, 4, "activations", e) ||
		get(s, &s->h2, s->m->arch->features & F_BESIDE ? t * d : 0, 4, "activations", e) ||
		get(s, &s->q, t * qw, 4, "activations", e) || get(s, &s->att, t * ow, 4, "activations", e) ||
		get(s, &s->out, t * d, 4, "activations", e) || get(s, &s->g, t * ff, 4, "activations", e) ||
		get(s, &s->u, t * ff, 4, "activations", e) ||
		get(s, &s->att_parts, s->att_parts_size, 4, "attention results", e) ||
		get(s, &s->att_buf, w * s->att_n, 4, "attention scratch", e) ||
		get(s, &s->scratch, w * s->scratch_n, 4, "kernel scratch", e) ||
		get(s, &s->scratch8, s->int8 ? w * INT8_SCRATCH : 0, 1, "kernel scratch", e) ||
		get(s, &s->rounded, s->int8 ? s->rounded_n : 0, 1, "rounded activations", e) ||
		get(s, &s->lora, w * s->lora_n, 4, "adapter scratch", e) ||
		get(s, &s->logits, (uint64_t)HEAD_ROWS * s->m->n_vocab, 4, "logits", e) ||
		get(s, &s->vseq, t, 8, "batch", e) || get(s, &s->vpos, t, 4, "batch", e) ||
		get(s, &s->vtok, t, 4, "batch", e) || get(s, &s->jobs, jobs, sizeof *s->jobs, "jobs", e) ? -1 : 0;
}

static int get_routing(struct session *s, struct moe_err *e)
{
	const struct hparams *hp = &s->m->hp;
	uint64_t t = s->n_batch, tk = t * hp->k, x = hp->n_expert;

	if (!x)
		return 0;
	/* yg also serves the shared expert, so it has at least one row a token (k >= 1) */
	return get(s, &s->rlogits, t * x, 4, "router logits", e) ||
		get(s, &s->experts, tk, 2, "choices", e) || get(s, &s->before, tk, 2, "choices", e) ||
		get(s, &s->weights, tk, 4, "gate weights", e) || get(s, &s->margin, t, 4, "margins", e) ||
		get(s, &s->flags, t, 1, "flags", e) || get(s, &s->rscratch, 4 * x, 4, "router", e) ||
		get(s, &s->slot, tk, 4, "slots", e) || get(s, &s->taken, tk, 4, "slots", e) || get(s, &s->first, x + 1, 4, "slots", e) ||
		get(s, &s->xg, tk * hp->n_embd, 4, "expert inputs", e) ||
		get(s, &s->gg, tk * hp->n_ff_expert, 4, "expert activations", e) ||
		get(s, &s->ug, tk * hp->n_ff_expert, 4, "expert activations", e) ||
		get(s, &s->yg, tk * hp->n_embd, 4, "expert outputs", e) ||
		get(s, &s->shgate, t, 4, "shared gate", e) || get(s, &s->group, x, 4, "experts", e) ? -1 : 0;
}

static int get_rope(struct session *s, struct moe_err *e)
{
	for (int i = 0; i < 2; i++) {
		const struct rope_par *r = &s->m->rope[i];

		if (i && r->base == 0)
			continue;
		if (get(s, &s->rope[i], (uint64_t)s->n_ctx * r->n_rot, 4, "RoPE table", e))
			return -1;
	}
	return 0;
}

static int get_cache(struct session *s, struct moe_err *e)
{
	const struct hparams *hp = &s->m->hp;
	int latent = (s->m->arch->features & F_MLA) != 0;
	uint64_t t = s->n_batch, kd = (uint64_t)hp->kv_rank + hp->n_rot;
	uint64_t n = latent ? kd : (uint64_t)hp->n_head_kv * hp->head_dim;

	if (get(s, &s->k, t * n, 4, "keys", e) || get(s, &s->v, latent ? 0 : t * n, 4, "values", e) ||
	    get(s, &s->qa, t * hp->q_rank, 4, "latent queries", e) ||
	    get(s, &s->ql, latent ? t * hp->n_head * kd : 0, 4, "latent queries", e) ||
	    get(s, &s->lat, latent ? t * hp->n_head * hp->kv_rank : 0, 4, "latent values", e))
		return -1;
	if (s->counting) {
		s->bytes += kv_bytes(s->m, s->kv_type, s->n_ctx, s->n_batch);
		return kv_check(s->m, s->kv_type, e);
	}
	s->kv = kv_new(s->m, s->kern, s->kv_type, s->n_ctx, s->n_batch, e);
	return s->kv ? 0 : -1;
}

/* All buffers, counted first: the kernel promises memory that it does not have, and ends the process
 * that writes to it. */
static int get_all(struct session *s, const struct session_cache *cache, struct moe_err *e)
{
	uint64_t slots = 0;
	uint64_t have = mem_available();

	if (cache && xcache_slots(s->m, cache, &slots, e))
		return -1;
	s->bytes = slots * xcache_slot_bytes(s->m);
	for (s->counting = 1; s->counting >= 0; s->counting--) {
		if (get_activations(s, e) || get_routing(s, e) || get_rope(s, e) || get_cache(s, e))
			return -1;
		if (s->counting && s->bytes > have)
			return err_set(e, MOE_ERR_SYS, "a context of %u tokens in batches of %u takes %llu MiB of "
				"memory, %llu MiB are available (see --ctx, --kv-type, --batch, --expert-cache)", s->n_ctx, s->n_batch,
				(unsigned long long)(s->bytes >> 20), (unsigned long long)(have >> 20));
	}
	if (cache && !(s->xcache = xcache_new(s->m, cache, e)))
		return -1;
	return 0;
}

struct session *session_new(const struct model *m, const struct session_opt *opt, struct moe_err *e)
{
	struct session *s = calloc(1, sizeof *s);
	uint32_t trained = m->hp.n_ctx_train;

	if (!s) {
		err_nomem(e, sizeof *s, "session");
		return NULL;
	}
	s->m = m;
	s->n_ctx = opt->n_ctx ? opt->n_ctx : trained < DEFAULT_CTX ? trained : DEFAULT_CTX;
	s->n_batch = opt->n_batch ? opt->n_batch : DEFAULT_BATCH;
	if (s->n_batch > s->n_ctx)
		s->n_batch = s->n_ctx;
	s->kv_type = (enum kv_type)opt->kv_type;
	s->kern = kern_pick(opt->isa, e);
	if (!s->kern)
		goto fail;
	s->bf16 = s->kern->bf16();
	if (opt->activations == SESSION_ACT_INT8)
		s->int8 = int8_for(s->kern);
	snprintf(s->arithmetic, sizeof s->arithmetic, "%s %s kv:%s", s->kern->name, session_act_name(s),
		session_kv_name(s));
	s->pool = pool_new(opt->n_threads ? (int)opt->n_threads : pool_default_threads(), e);
	if (!s->pool || get_all(s, opt->cache, e))
		goto fail;
	return s;
fail:
	session_free(s);
	return NULL;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	pool_free(s->pool);
	kv_free(s->kv);
	for (size_t i = 0; i < s->n_own; i++)
		free(s->own[i]);
	xcache_free(s->xcache);
	free(s);
}

int session_add_hook(struct session *s, struct moe_hook *h, struct moe_err *e)
{
	if (s->n_hook == MAX_HOOK)
		return err_set(e, MOE_ERR_USAGE, "more than %d hooks", MAX_HOOK);
	for (uint32_t i = 0; i < s->m->hp.n_layer; i++)
		s->hook[s->n_hook].wants[i] = !h->wants || h->wants(h->ctx, (int)i);
	s->hook[s->n_hook++].h = h;
	s->editing |= h->edit || h->prefer;
	return 0;
}

void session_remove_hook(struct session *s, const struct moe_hook *h)
{
	size_t n = 0;

	s->editing = 0;
	for (size_t i = 0; i < s->n_hook; i++) {
		if (s->hook[i].h == h)
			continue;
		s->editing |= s->hook[i].h->edit || s->hook[i].h->prefer;
		if (n != i)
			s->hook[n] = s->hook[i];
		n++;
	}
	s->n_hook = n;
}

int session_begin(struct session *s, const struct moe_seq_info *info, struct moe_err *e)
{
	s->seq = info->seq;
	s->pos = 0;
	s->open = 1;
	s->broken = 0;
	for (size_t i = 0; i < s->n_hook; i++) {
		struct moe_hook *h = s->hook[i].h;

		if (h->seq_begin && h->seq_begin(h->ctx, info, e))
			return err_wrap(e, "hook %s", h->name);
	}
	return 0;
}

int session_seek(struct session *s, uint64_t seq, uint32_t pos, struct moe_err *e)
{
	uint32_t first = 0;

	if (s->m->info.n_window_layer && s->reach > s->n_batch)
		first = s->reach - s->n_batch;
	if (pos > s->reach || pos < first)
		return err_set(e, MOE_ERR_USAGE, "position %u: the cache holds what positions %u to %u "
			"need", pos, first, s->reach);
	s->seq = seq;
	s->pos = pos;
	s->open = 1;
	s->broken = 0;
	return 0;
}

/* Of the last `kept` of n tokens, whose states s->x holds. */
static int give_logits(struct session *s, const struct session_want *want, size_t n, size_t kept,
	struct moe_err *e)
{
	uint32_t first = s->pos + (uint32_t)(n - kept);

	for (size_t t = 0; t < kept; t += HEAD_ROWS) {
		size_t rows = min_size(kept - t, HEAD_ROWS);

		forward_head(s, t, rows);
		part_ends(s, SESSION_HEAD);
		for (size_t i = 0; i < rows; i++)
			if (want->logits(want->ctx, first + (uint32_t)(t + i), s->logits + i * s->m->n_vocab, e))
				return -1;
	}
	return 0;
}

int session_cache_stat(const struct session *s, struct session_cache_stat *out)
{
	if (!s->xcache)
		return 0;
	xcache_stat(s->xcache, out);
	return 1;
}

static int end_batch(struct session *s, size_t n, enum moe_phase phase, uint64_t ns, struct moe_err *e)
{
	struct moe_batch_info b = { s->seq, s->pos, (uint32_t)n, (uint8_t)phase, ns, { 0 } };
	struct session_cache_stat c;

	if (session_cache_stat(s, &c)) {
		b.cache = (struct moe_cache_use){ c.hits - s->used.hits, c.misses - s->used.misses,
			c.read_bytes - s->used.read_bytes, c.stall_ns - s->used.stall_ns };
		s->used = c;
	}

	s->speed[phase].ns += ns;
	s->speed[phase].tokens += n;
	for (size_t i = 0; i < s->n_hook; i++) {
		struct moe_hook *h = s->hook[i].h;

		if (h->batch_end && h->batch_end(h->ctx, &b, e))
			return err_wrap(e, "hook %s", h->name);
	}
	part_ends(s, SESSION_HOOKS);
	return 0;
}

static int check_eval(const struct session *s, const int32_t *ids, size_t n, struct moe_err *e)
{
	if (!s->open || s->broken)
		return err_set(e, MOE_ERR_USAGE, "no sequence was begun");
	if (n > s->n_ctx - s->pos)
		return err_set(e, MOE_ERR_INPUT, "%zu tokens at position %u do not fit in a context of %u", n,
			s->pos, s->n_ctx);
	for (size_t i = 0; i < n; i++)
		if (ids[i] < 0 || (uint32_t)ids[i] >= s->m->n_vocab)
			return err_set(e, MOE_ERR_INPUT, "token id %d at position %zu: the vocabulary has %u", ids[i],
				s->pos + i, s->m->n_vocab);
	return 0;
}

int session_eval(struct session *s, const int32_t *ids, size_t n, enum moe_phase phase,
	const struct session_want *want, struct moe_err *e)
{
	if (check_eval(s, ids, n, e))
		return -1;
	s->broken = 1;
	s->reach = s->pos ? s->reach : 0;
	for (size_t at = 0; at < n;) {
		size_t len = n - at < s->n_batch ? n - at : s->n_batch;
		size_t kept = !want ? 0 : want->all ? len : at + len == n;
		int64_t start = clock_mono();

		s->mark = start;
		if (forward_batch(s, ids + at, len, kept, phase, e) || give_logits(s, want, len, kept, e))
			return -1;
		if (end_batch(s, len, phase, (uint64_t)(clock_mono() - start), e))
			return -1;
		s->pos += (uint32_t)len;
		s->reach = s->pos > s->reach ? s->pos : s->reach;
		at += len;
	}
	gguf_copy_begin(s->m->g); /* not before the first results */
	s->broken = 0;
	return 0;
}

int session_end(struct session *s, const struct moe_seq_result *r, struct moe_err *e)
{
	s->open = 0;
	for (size_t i = 0; i < s->n_hook; i++) {
		struct moe_hook *h = s->hook[i].h;

		if (h->seq_end && h->seq_end(h->ctx, r, e))
			return err_wrap(e, "hook %s", h->name);
	}
	return 0;
}

uint32_t session_pos(const struct session *s)
{
	return s->pos;
}

uint32_t session_ctx(const struct session *s)
{
	return s->n_ctx;
}

uint32_t session_batch(const struct session *s)
{
	return s->n_batch;
}

int session_threads(const struct session *s)
{
	return pool_threads(s->pool);
}

const struct kern *session_kern(const struct session *s)
{
	return s->kern;
}

int session_holds(const struct session *s, int layer, int expert)
{
	return !s->xcache || xcache_holds(s->xcache, (size_t)layer, (uint32_t)expert);
}

const char *session_arithmetic(const struct session *s)
{
	return s->arithmetic;
}

const char *session_act_name(const struct session *s)
{
	return s->int8 ? "int8" : "f32";
}

const char *session_kv_name(const struct session *s)
{
	return kv_type_name(s->kv_type);
}

uint64_t session_kv_bytes(const struct session *s, uint32_t n)
{
	return kv_bytes(s->m, s->kv_type, n + 1, 1);
}

void session_time_parts(struct session *s, int on)
{
	s->timing = on;
	memset(s->part, 0, sizeof s->part);
}

const uint64_t *session_parts(const struct session *s)
{
	return s->part;
}

const char *session_part_name(enum session_part p)
{
	static const char *const name[SESSION_N_PART] = { [SESSION_ATTENTION] = "attention",
		[SESSION_ROUTER] = "router", [SESSION_EXPERTS] = "experts", [SESSION_DENSE] = "dense FFN",
		[SESSION_HEAD] = "output head", [SESSION_HOOKS] = "logging" };

	return name[p];
}

void session_speed(const struct session *s, enum moe_phase phase, uint64_t *ns, uint64_t *tokens)
{
	*ns = s->speed[phase].ns;
	*tokens = s->speed[phase].tokens;
}
