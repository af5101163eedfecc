/*
 * tok.c - encoding and the questions that a loaded tokenizer answers. See tok.h.
 *
 * Encoding goes from coarse to fine: special tokens are cut out of the text (find_specials), what is
 * between them is cut into pieces (pre.c), each piece is merged (bpe.c). A token is never longer in
 * ids than its text in bytes, so the output is allocated once, one id per byte.
 */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

struct hit { size_t at; int32_t id; };

struct encoder {
	const struct tok *t;
	struct pre_match *match;
	int32_t *ids;      /* room for one per byte of the text, and BOS */
	size_t n;
	int no_memory;
	struct hit *hit;   /* special tokens found, by position once sorted */
	size_t n_hit, cap_hit;
};

/* ---- pieces ---- */

static void encode_piece(void *arg, const char *s, size_t n)
{
	struct encoder *x = arg;
	const struct tok *t = x->t;
	int32_t *out = x->ids + x->n;
	size_t i, left, kept = 0;
	int32_t id;

	if (t->whole.slot && n <= t->longest && (id = map_find(&t->whole, s, n)) >= 0) {
		x->ids[x->n++] = id;
		return;
	}
	for (i = 0; i < n; i++)
		out[i] = t->byte_id[(unsigned char)s[i]];
	left = n > 1 ? bpe_merge(&t->bpe, out, n) : n;
	if (!left)
		x->no_memory = 1;
	for (i = 0; i < left; i++)
		if (out[i] >= 0 || t->unk >= 0)
			out[kept++] = out[i] >= 0 ? out[i] : t->unk;
	x->n += kept;
}

/* ---- special tokens ---- */

/* Which hashes of PREFIX bytes occur in the text: most special tokens need no search at all. */
#define PREFIX 3
#define PREFIX_BITS 16
struct prefixes { uint8_t bit[(1 << PREFIX_BITS) / 8]; };

static unsigned prefix_of(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;

	return ((u[0] * 0x9e3779b1u) ^ (u[1] * 0x85ebca6bu) ^ (u[2] * 0xc2b2ae35u)) >>
		(32 - PREFIX_BITS);
}

static void note_prefixes(struct prefixes *p, const char *s, size_t n)
{
	size_t i;

	memset(p, 0, sizeof *p);
	for (i = 0; i + PREFIX <= n; i++) {
		unsigned h = prefix_of(s + i);

		p->bit[h / 8] |= (uint8_t)(1 << h % 8);
	}
}

static int may_occur(const struct prefixes *p, struct gguf_str w)
{
	unsigned h;

	if (w.n < PREFIX)
		return 1;
	h = prefix_of(w.s);
	return p->bit[h / 8] >> h % 8 & 1;
}

static int add_hit(struct encoder *x, size_t at, int32_t id)
{
	if (x->n_hit == x->cap_hit) {
		size_t cap = x->cap_hit ? 2 * x->cap_hit : 64;
		struct hit *p = realloc(x->hit, cap * sizeof *p);

		if (!p)
			return -1;
		x->hit = p;
		x->cap_hit = cap;
	}
	x->hit[x->n_hit++] = (struct hit){ at, id };
	return 0;
}

/* All places of one token that no longer token has taken, from the left. A token that was placed
 * before is at least as long, so it overlaps only if it covers the first or the last byte. */
static int find_one(struct encoder *x, int32_t id, const char *s, size_t n, uint8_t *taken)
{
	struct gguf_str w = x->t->word[id];
	size_t at = 0, past;
	const char *p;

	while (at + w.n <= n && (p = memmem(s + at, n - at, w.s, w.n))) {
		at = (size_t)(p - s);
		past = at + w.n;
		if (taken[at] || taken[past - 1]) {
			const uint8_t *blocked = taken + (taken[at] ? at : past - 1);
			const uint8_t *gap = memchr(blocked, 0, n - (size_t)(blocked - taken));

			at = taken[at] ? (gap ? (size_t)(gap - taken) : n) : at + 1;
			continue;
		}
		if (add_hit(x, at, id))
			return -1;
		memset(taken + at, 1, w.n);
		at = past;
	}
	return 0;
}

static int hit_order(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

static int find_specials(struct encoder *x, const char *s, size_t n, unsigned flags)
{
	const struct tok *t = x->t;
	struct prefixes *p = NULL;
	uint8_t *taken = NULL;
	int rc = -1;
	size_t i;

	if (!t->n_special || !n)
		return 0;
	p = malloc(sizeof *p);
	taken = calloc(n, 1);
	if (!p || !taken)
		goto out;
	note_prefixes(p, s, n);
	for (i = 0; i < t->n_special; i++) {
		int32_t id = t->special[i];

		if (!(flags & TOK_SPECIAL) && t->type[id] != TOK_USER)
			continue;
		if (may_occur(p, t->word[id]) && find_one(x, id, s, n, taken))
			goto out;
	}
	if (x->n_hit)
		qsort(x->hit, x->n_hit, sizeof *x->hit, hit_order);
	rc = 0;
out:
	free(taken);
	free(p);
	return rc;
}

/* ---- the whole ---- */

static int encode_all(struct encoder *x, const char *s, size_t n, unsigned flags)
{
	const struct tok *t = x->t;
	size_t i, at = 0;

	if (find_specials(x, s, n, flags))
		return -1;
	if ((flags & TOK_BOS) && t->add_bos && t->bos >= 0)
		x->ids[x->n++] = t->bos;
	for (i = 0; i < x->n_hit; i++) {
		if (pre_split(t->pre, x->match, s + at, x->hit[i].at - at, encode_piece, x))
			return -1;
		x->ids[x->n++] = x->hit[i].id;
		at = x->hit[i].at + t->word[x->hit[i].id].n;
	}
	if (pre_split(t->pre, x->match, s + at, n - at, encode_piece, x))
		return -1;
	return x->no_memory ? -1 : 0;
}

int tok_encode(const struct tok *t, const char *text, size_t len, unsigned flags, int32_t **ids,
	size_t *n, struct moe_err *e)
{
	struct encoder x = { .t = t };
	int32_t *fit;
	int rc = -1;

	if (len > INT32_MAX)
		return err_set(e, MOE_ERR_INPUT, "text has %zu bytes, at most %d can be encoded at once", len,
			INT32_MAX);
	x.match = pre_match_new(e);
	if (!x.match)
		return -1;
	x.ids = malloc((len + 1) * sizeof *x.ids);
	if (!x.ids || encode_all(&x, text, len, flags)) {
		err_nomem(e, (len + 1) * sizeof *x.ids, "token ids");
		goto out;
	}
	fit = realloc(x.ids, (x.n + 1) * sizeof *fit);
	*ids = fit ? fit : x.ids;
	*n = x.n;
	x.ids = NULL;
	rc = 0;
out:
	free(x.hit);
	free(x.ids);
	pre_match_free(x.match);
	return rc;
}

/* ---- questions ---- */

static int in_range(const struct tok *t, int32_t id)
{
	return id >= 0 && (size_t)id < t->n_vocab;
}

const char *tok_bytes(const struct tok *t, int32_t id, size_t *len)
{
	if (!in_range(t, id)) {
		*len = 0;
		return NULL;
	}
	*len = t->word[id].n;
	return t->word[id].s;
}

size_t tok_n_vocab(const struct tok *t)
{
	return t->n_vocab;
}

int32_t tok_bos(const struct tok *t)
{
	return t->bos;
}

int32_t tok_eos(const struct tok *t)
{
	return t->eos;
}

int tok_is_end(const struct tok *t, int32_t id)
{
	return in_range(t, id) && t->end[id];
}

int tok_is_special(const struct tok *t, int32_t id)
{
	return in_range(t, id) && t->type[id] == TOK_CONTROL;
}

const char *tok_describe(const struct tok *t)
{
	return t->describe;
}
