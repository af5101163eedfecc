/*
 * expert_cache.c - see expert_cache.h.
 *
 * A round: victims give their slots to as many missing experts as there are slots without a pin, the
 * thread reads them in order of their ids, and what is there is computed meanwhile. What a round uses
 * is pinned until it ends, and slots are only given at the start of a round, so a read is never
 * overtaken. A round that cannot read anything has something to compute, after which its pins are
 * gone: so every round gets on, even with one slot.
 *
 * The thread reads with pread and gives the file's pages back to the kernel at once: what the cache
 * holds is all that the experts take. Its lock guards the queue and the counts, nothing else; a slot
 * belongs to the thread from the queue until it is counted as ready.
 */
#include "model/expert_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define ALIGN 64
#define NONE UINT32_MAX

/* A file of the model, or memory that it was opened over (fd -1). */
struct source { const uint8_t *data; uint64_t bytes; int fd; };

struct slot {
	uint32_t id;       /* layer * n_expert + expert, NONE = empty */
	uint64_t last;     /* when it was used: layer evaluation, then expert */
	int pinned, fixed; /* fixed: reserved for its expert */
};

struct want { uint32_t slot, il, expert; };

struct xcache {
	const struct model *m;
	struct source *source;
	size_t n_source, n_slot, slot_bytes;
	uint8_t *mem;          /* [n_slot][slot_bytes], mapped */
	struct slot *slot;     /* [n_slot] */
	uint32_t *where;       /* [n_layer * n_expert]: slot, or NONE */
	uint8_t *there;        /* [n_layer * n_expert]: 1 = its slot has been read */
	uint64_t *uses;        /* [n_layer * n_expert]: picks so far */
	enum session_policy policy;
	uint64_t clock;        /* layer evaluations */

	/* the layer in progress */
	size_t il;
	uint32_t *miss;        /* [n_expert] experts to read, ascending */
	size_t n_miss, next_miss; /* those before next_miss have a slot */
	uint32_t *hit;         /* [n_expert] */
	size_t n_hit;
	size_t round, taken;   /* reads of this round; given out */

	struct session_cache_stat stat;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	struct want *queue;    /* [n_expert] reads of this round */
	size_t asked, ready;   /* of queue; under the lock */
	int started, stop, failed;
	struct moe_err err;    /* of the thread, when failed */
};

/* ---- where an expert lies ---- */

static const struct weight *part_of(const struct layer *l, enum xcache_part p)
{
	return p == XCACHE_GATE ? &l->gate_exps : p == XCACHE_UP ? &l->up_exps : &l->down_exps;
}

static size_t part_bytes(const struct weight *w)
{
	return w->data ? (size_t)w->n_out * w->row_bytes : 0;
}

static size_t aligned(size_t n)
{
	return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Offset of a part in a slot of layer l. */
static size_t part_at(const struct layer *l, enum xcache_part p)
{
	size_t at = 0;

	for (int i = 0; i < (int)p; i++)
		at += aligned(part_bytes(part_of(l, (enum xcache_part)i)));
	return at;
}

size_t xcache_slot_bytes(const struct model *m)
{
	size_t most = 0;

	for (uint32_t i = 0; i < m->hp.n_layer; i++) {
		size_t n = part_at(&m->layer[i], XCACHE_PARTS);

		most = n > most ? n : most;
	}
	return most;
}

static uint64_t n_experts(const struct model *m)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < m->hp.n_layer; i++)
		n += m->layer[i].gate_exps.data || m->layer[i].up_exps.data ? m->hp.n_expert : 0;
	return n;
}

int xcache_slots(const struct model *m, const struct session_cache *o, uint64_t *n, struct moe_err *e)
{
	size_t one = xcache_slot_bytes(m);
	uint64_t all = n_experts(m), bytes = o->bytes;

	if (!all)
		return err_set(e, MOE_ERR_USAGE, "an expert cache for a model without experts");
	if (o->percent > 0)
		bytes = (uint64_t)((double)all * (double)one * o->percent / 100);
	*n = bytes / one;
	if (!*n)
		return err_set(e, MOE_ERR_USAGE, "an expert cache of %llu bytes: one expert takes %zu, all %llu of "
			"them %llu", (unsigned long long)bytes, one, (unsigned long long)all,
			(unsigned long long)(all * one));
	*n = *n < all ? *n : all;
	return 0;
}

/* ---- reading ---- */

static int read_file(const struct source *s, uint64_t at, uint8_t *out, size_t n, struct moe_err *e)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = pread(s->fd, out + got, n - got, (off_t)(at + got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_errno(e, "reading an expert of %zu bytes at %llu", n, (unsigned long long)at);
		if (!r)
			return err_set(e, MOE_ERR_INPUT, "an expert of %zu bytes at %llu: the file was cut", n,
				(unsigned long long)at);
		got += (size_t)r;
	}
	posix_fadvise(s->fd, (off_t)at, (off_t)n, POSIX_FADV_DONTNEED);
	return 0;
}

static int read_part(const struct xcache *c, const uint8_t *from, size_t n, uint8_t *out, struct moe_err *e)
{
	for (size_t i = 0; i < c->n_source; i++) {
		const struct source *s = &c->source[i];

		if (from < s->data || from >= s->data + s->bytes)
			continue;
		if (s->fd >= 0)
			return read_file(s, (uint64_t)(from - s->data), out, n, e);
		break;
	}
	memcpy(out, from, n); /* the model lies in memory */
	return 0;
}

static int read_expert(const struct xcache *c, const struct want *w, struct moe_err *e)
{
	const struct layer *l = &c->m->layer[w->il];
	uint8_t *out = c->mem + w->slot * c->slot_bytes;

	for (int p = 0; p < XCACHE_PARTS; p++) {
		const struct weight *t = part_of(l, (enum xcache_part)p);
		size_t n = part_bytes(t);

		if (n && read_part(c, t->data + w->expert * t->mat_bytes, n, out + part_at(l, (enum xcache_part)p), e))
			return err_wrap(e, "layer %u, expert %u", w->il, w->expert);
	}
	return 0;
}

static void *reader(void *arg)
{
	struct xcache *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct want w;
		int bad;

		while (!c->stop && (c->failed || c->ready == c->asked))
			pthread_cond_wait(&c->work, &c->lock);
		if (c->stop)
			break;
		w = c->queue[c->ready];
		pthread_mutex_unlock(&c->lock);
		bad = read_expert(c, &w, &c->err);
		pthread_mutex_lock(&c->lock);
		c->failed = bad != 0;
		c->ready += !bad;
		pthread_cond_signal(&c->done);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- slots ---- */

static uint32_t id_of(const struct xcache *c, size_t il, uint32_t expert)
{
	return (uint32_t)(il * c->m->hp.n_expert + expert);
}

/* Unique, so that a victim is too. */
static uint64_t now(const struct xcache *c, uint32_t expert)
{
	return c->clock * MOE_MAX_EXPERT + expert;
}

/* Would a give its slot up before b? */
static int before(const struct xcache *c, const struct slot *a, const struct slot *b)
{
	if ((a->id == NONE) != (b->id == NONE))
		return a->id == NONE;
	if (a->id != NONE && c->policy == SESSION_LFU && c->uses[a->id] != c->uses[b->id])
		return c->uses[a->id] < c->uses[b->id];
	return a->last < b->last;
}

/* A slot for an expert: its own if it has one, or the victim of the policy; NONE = all are pinned. */
static uint32_t find_slot(const struct xcache *c, uint32_t id)
{
	uint32_t best = NONE;

	if (c->where[id] != NONE)
		return c->where[id];
	for (uint32_t i = 0; i < c->n_slot; i++)
		if (!c->slot[i].pinned && !c->slot[i].fixed && (best == NONE || before(c, &c->slot[i],
			&c->slot[best])))
			best = i;
	return best;
}

/* Give slots to missing experts and have them read. */
static void start_round(struct xcache *c)
{
	c->round = c->taken = 0;
	pthread_mutex_lock(&c->lock);
	for (; c->next_miss < c->n_miss; c->next_miss++) {
		uint32_t x = c->miss[c->next_miss], id = id_of(c, c->il, x), at = find_slot(c, id);
		struct slot *s;

		if (at == NONE)
			break;
		s = &c->slot[at];
		if (s->id != NONE && s->id != id) {
			c->where[s->id] = NONE;
			c->there[s->id] = 0;
		}
		s->id = id;
		s->last = now(c, x);
		s->pinned = 1;
		c->where[id] = at;
		c->queue[c->round++] = (struct want){ at, (uint32_t)c->il, x };
	}
	c->ready = 0;
	c->asked = c->round;
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

static void end_round(struct xcache *c)
{
	for (size_t i = 0; i < c->n_slot; i++)
		c->slot[i].pinned = 0;
}

int xcache_holds(const struct xcache *c, size_t il, uint32_t expert)
{
	return c->there[id_of(c, il, expert)];
}

void xcache_begin(struct xcache *c, size_t il, const uint32_t *rows)
{
	c->il = il;
	c->clock++;
	c->n_hit = c->n_miss = c->next_miss = 0;
	for (uint32_t x = 0; x < c->m->hp.n_expert; x++) {
		uint32_t id = id_of(c, il, x);

		if (!rows[x])
			continue;
		c->uses[id] += rows[x];
		if (!c->there[id]) {
			c->miss[c->n_miss++] = x;
			continue;
		}
		c->slot[c->where[id]].last = now(c, x);
		c->slot[c->where[id]].pinned = 1;
		c->hit[c->n_hit++] = x;
	}
	c->stat.hits += c->n_hit;
	c->stat.misses += c->n_miss;
	start_round(c);
}

/* Wait for at least one more read; what is ready now. */
static int wait_ready(struct xcache *c, size_t *ready, struct moe_err *e)
{
	int64_t since = 0;
	int failed;

	pthread_mutex_lock(&c->lock);
	while (!c->failed && c->ready == c->taken) {
		since = since ? since : clock_mono();
		pthread_cond_wait(&c->done, &c->lock);
	}
	*ready = c->ready;
	failed = c->failed;
	pthread_mutex_unlock(&c->lock);
	if (since)
		c->stat.stall_ns += (uint64_t)(clock_mono() - since);
	if (failed)
		*e = c->err;
	return failed ? -1 : 0;
}

/* After an error nothing of this round counts as read. */
static int give_up(struct xcache *c)
{
	for (size_t i = c->taken; i < c->round; i++) {
		struct slot *s = &c->slot[c->queue[i].slot];

		if (!s->fixed) {
			c->where[s->id] = NONE;
			s->id = NONE;
		}
	}
	end_round(c);
	pthread_mutex_lock(&c->lock);
	c->failed = 0;
	c->asked = c->ready = 0;
	pthread_mutex_unlock(&c->lock);
	return -1;
}

int xcache_next(struct xcache *c, uint32_t *list, size_t *n, struct moe_err *e)
{
	size_t ready;

	*n = c->n_hit;
	if (c->n_hit) {
		memcpy(list, c->hit, c->n_hit * sizeof *list);
		c->n_hit = 0;
		return 1;
	}
	if (c->taken == c->round) {
		end_round(c);
		if (c->next_miss == c->n_miss)
			return 0;
		start_round(c);
	}
	if (wait_ready(c, &ready, e))
		return give_up(c);
	for (; c->taken < ready; c->taken++) {
		const struct want *w = &c->queue[c->taken];

		c->there[id_of(c, w->il, w->expert)] = 1;
		c->stat.read_bytes += part_at(&c->m->layer[w->il], XCACHE_PARTS);
		list[(*n)++] = w->expert;
	}
	return 1;
}

const uint8_t *xcache_at(const struct xcache *c, uint32_t expert, enum xcache_part part)
{
	return c->mem + c->where[id_of(c, c->il, expert)] * c->slot_bytes + part_at(&c->m->layer[c->il], part);
}

void xcache_stat(const struct xcache *c, struct session_cache_stat *out)
{
	*out = c->stat;
}

/* ---- making one ---- */

/* The file behind the mapping, if it is the same still; -1 over memory. */
static int open_source(const char *path, const uint8_t *data, uint64_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t head[4096];
	size_t n = bytes < sizeof head ? (size_t)bytes : sizeof head;
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes ||
	    pread(fd, head, n, 0) != (ssize_t)n || memcmp(head, data, n)) {
		close(fd);
		return -1;
	}
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	return fd;
}

static int open_sources(struct xcache *c, struct moe_err *e)
{
	const struct gguf *g = c->m->g;
	size_t n = gguf_n_parts(g);

	c->source = calloc(n, sizeof *c->source);
	if (!c->source)
		return err_nomem(e, n * sizeof *c->source, "expert cache");
	for (; c->n_source < n; c->n_source++) {
		struct gguf_part p = gguf_part_at(g, c->n_source);

		c->source[c->n_source] = (struct source){ p.data, p.bytes, open_source(p.path, p.data, p.bytes) };
	}
	return 0;
}

/* Pages of the mapping that experts were read through, by a checksum say, are given back. */
static void drop_pages(const struct xcache *c)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; i < c->n_source; i++)
		for (uint32_t il = 0; c->source[i].fd >= 0 && il < c->m->hp.n_layer; il++)
			for (int p = 0; p < XCACHE_PARTS; p++) {
				const struct weight *w = part_of(&c->m->layer[il], (enum xcache_part)p);
				uintptr_t from = (uintptr_t)w->data, end = !w->n_mat ? from : from + w->mat_bytes * (w->n_mat - 1) + part_bytes(w);
				const struct source *s = &c->source[i];

				if (!w->data || w->data < s->data || w->data >= s->data + s->bytes)
					continue;
				from = (from + page - 1) / page * page;
				end = end / page * page;
				if (from < end)
					madvise((void *)from, end - from, MADV_DONTNEED);
			}
}

/* static: the experts that an earlier trace used most get slots of their own; a few stay for the
 * others, enough for one token's experts, at most half. */
static int reserve(struct xcache *c, const uint64_t *heat, struct moe_err *e)
{
	size_t n = (size_t)c->m->hp.n_layer * c->m->hp.n_expert, spare = c->m->hp.k;
	unsigned char *taken = calloc(n, 1);

	if (!taken)
		return err_nomem(e, n, "expert cache");
	if (spare > c->n_slot / 2)
		spare = c->n_slot / 2;
	if (c->n_slot >= n_experts(c->m))
		spare = 0;
	else if (!spare)
		spare = 1;
	for (size_t i = 0; i + spare < c->n_slot; i++) {
		size_t best = n;

		for (size_t j = 0; j < n; j++)
			if (!taken[j] && c->m->layer[j / c->m->hp.n_expert].down_exps.data &&
				(best == n || heat[j] > heat[best]))
				best = j;
		if (best == n)
			break;
		taken[best] = 1;
		c->slot[i] = (struct slot){ (uint32_t)best, 0, 0, 1 };
		c->where[best] = (uint32_t)i;
	}
	free(taken);
	return 0;
}

static int get_arrays(struct xcache *c, struct moe_err *e)
{
	size_t n = (size_t)c->m->hp.n_layer * c->m->hp.n_expert, x = c->m->hp.n_expert;

	c->slot = calloc(c->n_slot, sizeof *c->slot);
	c->where = malloc(n * sizeof *c->where);
	c->there = calloc(n, 1);
	c->uses = calloc(n, sizeof *c->uses);
	c->miss = calloc(x, sizeof *c->miss);
	c->hit = calloc(x, sizeof *c->hit);
	c->queue = calloc(x, sizeof *c->queue);
	if (!c->slot || !c->where || !c->there || !c->uses || !c->miss || !c->hit || !c->queue)
		return err_nomem(e, n * 16, "expert cache");
	memset(c->where, 0xff, n * sizeof *c->where);
	for (size_t i = 0; i < c->n_slot; i++)
		c->slot[i].id = NONE;
	c->mem = mmap(NULL, c->n_slot * c->slot_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		0);
	if (c->mem == MAP_FAILED) {
		c->mem = NULL;
		return err_nomem(e, c->n_slot * c->slot_bytes, "expert cache");
	}
	return 0;
}

static int start_thread(struct xcache *c, struct moe_err *e)
{
	sigset_t all, old;

	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->done, NULL);
	sigfillset(&all); /* signals are the session's */
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	c->started = !pthread_create(&c->thread, NULL, reader, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return c->started ? 0 : err_set(e, MOE_ERR_SYS, "starting the thread that reads experts failed");
}

struct xcache *xcache_new(const struct model *m, const struct session_cache *o, struct moe_err *e)
{
	struct xcache *c = calloc(1, sizeof *c);
	uint64_t n;

	if (!c) {
		err_nomem(e, sizeof *c, "expert cache");
		return NULL;
	}
	c->m = m;
	c->policy = o->policy;
	c->slot_bytes = xcache_slot_bytes(m);
	if (xcache_slots(m, o, &n, e))
		goto fail;
	c->n_slot = (size_t)n;
	c->stat.slots = n;
	c->stat.slot_bytes = c->slot_bytes;
	c->stat.experts = n_experts(m);
	if (get_arrays(c, e) || open_sources(c, e) ||
	    (o->policy == SESSION_STATIC && reserve(c, o->heat, e)) || start_thread(c, e))
		goto fail;
	drop_pages(c);
	return c;
fail:
	xcache_free(c);
	return NULL;
}

void xcache_free(struct xcache *c)
{
	if (!c)
		return;
	if (c->started) {
		pthread_mutex_lock(&c->lock);
		c->stop = 1;
		pthread_cond_signal(&c->work);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->thread, NULL);
		pthread_cond_destroy(&c->work);
		pthread_cond_destroy(&c->done);
		pthread_mutex_destroy(&c->lock);
	}
	for (size_t i = 0; i < c->n_source; i++)
		if (c->source[i].fd >= 0)
			close(c->source[i].fd);
	if (c->mem)
		munmap(c->mem, c->n_slot * c->slot_bytes);
	free(c->source);
	free(c->slot);
	free(c->where);
	free(c->there);
	free(c->uses);
	free(c->miss);
	free(c->hit);
	free(c->queue);
	free(c);
}
