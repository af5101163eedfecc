/*
 * tok.c - encoding, decoding and the questions that a loaded tokenizer answers. See tok.h.
 *
 * Encoding goes from coarse to fine: special tokens are cut out of the text (find_specials), what
 * is between them goes to the tokenizer's algorithm: pieces (pre.c) and merges (bpe.c), characters
 * (chars.c) or the best cut (unigram.c).
 */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

/* A special token in the text: from..to also has the white space that goes with it. */
struct hit { size_t from, to; int32_t id; };

struct encoder {
	const struct tok *t;
	unsigned flags;
	const struct tok_span *outside;
	size_t n_outside;
	struct pre_match *match;
	char *blanked;     /* the text with U+2581 for blanks, where the algorithm wants it so */
	size_t cap_blanked;
	int32_t *ids;
	size_t n, cap;
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
		if (out[i] >= 0)
			out[kept++] = out[i];
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

static int add_hit(struct encoder *x, size_t from, size_t to, int32_t id)
{
	if (x->n_hit == x->cap_hit) {
		size_t cap = x->cap_hit ? 2 * x->cap_hit : 64;
		struct hit *p = realloc(x->hit, cap * sizeof *p);

		if (!p)
			return -1;
		x->hit = p;
		x->cap_hit = cap;
	}
	x->hit[x->n_hit++] = (struct hit){ from, to, id };
	return 0;
}

/* The stretch from outside that has a byte of from..to-1, or NULL. */
static const struct tok_span *touches(const struct encoder *x, size_t from, size_t to)
{
	size_t lo = 0, hi = x->n_outside, mid;

	while (lo < hi) { /* the first one that ends after `from` */
		mid = lo + (hi - lo) / 2;
		if (x->outside[mid].end <= from)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < x->n_outside && x->outside[lo].start < to ? &x->outside[lo] : NULL;
}

static int is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Take at..past-1 for a token, and the white space beside it that goes with it. */
static int take(struct encoder *x, int32_t id, const char *s, size_t n, size_t at, size_t past,
	uint8_t *taken)
{
	size_t from = at, to = past;

	if (x->t->strip[id] & TOK_STRIP_BEFORE)
		while (from && !taken[from - 1] && is_blank(s[from - 1]))
			from--;
	if (x->t->strip[id] & TOK_STRIP_AFTER)
		while (to < n && !taken[to] && is_blank(s[to]))
			to++;
	memset(taken + from, 1, to - from);
	return add_hit(x, from, to, id);
}

/* All places of one token that no longer token has taken, from the left. A token that was placed
 * before is at least as long, so it overlaps only if it covers the first or the last byte; taken
 * white space can also lie within, if the token has some, so the whole of a short one is looked at.
 * `where` 1: only outside of stretches from outside, 2: only touching them, 3: anywhere. */
static int find_one(struct encoder *x, int32_t id, const char *s, size_t n, uint8_t *taken,
	int where)
{
	struct gguf_str w = x->t->word[id];
	size_t at = 0, past;
	const char *p;

	while (at + w.n <= n && (p = memmem(s + at, n - at, w.s, w.n))) {
		const uint8_t *blocked;

		at = (size_t)(p - s);
		past = at + w.n;
		blocked = memchr(taken + at, 1, w.n);
		if (blocked) {
			const uint8_t *gap = memchr(blocked, 0, n - (size_t)(blocked - taken));

			at = !taken[at] ? at + 1 : gap ? (size_t)(gap - taken) : n;
			continue;
		}
		if (!(where & (touches(x, at, past) ? 2 : 1))) {
			at++;
			continue;
		}
		if (take(x, id, s, n, at, past, taken))
			return -1;
		at = past;
	}
	return 0;
}

static int hit_order(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

/* Does a user-defined token stand in the text outside of all stretches from outside? Then it is a
 * mark, and what others write is not. */
static int is_mark(const struct encoder *x, int32_t id, const char *s, size_t n)
{
	struct gguf_str w = x->t->word[id];
	size_t at = 0;
	const char *p;

	for (; at + w.n <= n && (p = memmem(s + at, n - at, w.s, w.n)); at++) {
		at = (size_t)(p - s);
		if (!touches(x, at, at + w.n))
			return 1;
	}
	return 0;
}

static int find_specials(struct encoder *x, const char *s, size_t n)
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
		int where = t->type[id] == TOK_USER ? 3 : x->flags & TOK_SPECIAL ? 1 : 0;

		if (!where || !may_occur(p, t->word[id]))
			continue;
		if (where == 3 && x->n_outside && is_mark(x, id, s, n))
			where = 1;
		if (find_one(x, id, s, n, taken, where))
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

/* Room for n more ids. */
static int reserve(struct encoder *x, size_t n)
{
	size_t cap = x->n + n;
	int32_t *p;

	if (cap <= x->cap)
		return 0;
	cap = cap > 2 * x->cap ? cap : 2 * x->cap;
	p = realloc(x->ids, cap * sizeof *p);
	if (!p)
		return -1;
	x->ids = p;
	x->cap = cap;
	return 0;
}

static int push(struct encoder *x, int32_t id)
{
	if (reserve(x, 1))
		return -1;
	x->ids[x->n++] = id;
	return 0;
}

/* The text as the vocabulary writes it, with a blank in front if asked for. */
static int64_t put_blanks(struct encoder *x, const char *s, size_t n, int blank)
{
	size_t i, len = n + 3 * (size_t)blank;
	char *p;

	for (i = 0; i < n; i++)
		len += s[i] == ' ' ? 2 : 0;
	if (len > x->cap_blanked) {
		p = realloc(x->blanked, len);
		if (!p)
			return -1;
		x->blanked = p;
		x->cap_blanked = len;
	}
	p = x->blanked;
	if (blank)
		p = (char *)memcpy(p, CHARS_BLANK, 3) + 3;
	for (i = 0; i < n; i++) {
		if (s[i] == ' ')
			p = (char *)memcpy(p, CHARS_BLANK, 3) + 3;
		else
			*p++ = s[i];
	}
	return (int64_t)len;
}

static int encode_chars(struct encoder *x, const char *s, size_t n, int blank)
{
	int64_t len = put_blanks(x, s, n, blank), got;

	if (len < 0 || reserve(x, (size_t)len))
		return -1;
	got = chars_encode(&x->t->chars, x->blanked, (size_t)len, x->ids + x->n);
	if (got < 0)
		return -1;
	x->n += (size_t)got;
	return 0;
}

static int encode_unigram(struct encoder *x, const char *s, size_t n)
{
	int32_t *ids;
	size_t n_ids;

	if (unigram_encode(&x->t->unigram, s, n, &ids, &n_ids))
		return -1;
	if (reserve(x, n_ids)) {
		free(ids);
		return -1;
	}
	if (n_ids)
		memcpy(x->ids + x->n, ids, n_ids * sizeof *ids);
	x->n += n_ids;
	free(ids);
	return 0;
}

/* Text without special tokens; blank = the tokenizer may put one in front of it. */
static int encode_text(struct encoder *x, const char *s, size_t n, int blank)
{
	if (!n)
		return 0;
	switch (x->t->algo) {
	case TOK_CHARS:
		return encode_chars(x, s, n, blank && x->t->space_prefix);
	case TOK_UNIGRAM:
		return encode_unigram(x, s, n);
	case TOK_BYTES:
		break;
	}
	return reserve(x, n) || pre_split(x->t->pre, x->match, s, n, encode_piece, x) ? -1 : 0;
}

static int encode_all(struct encoder *x, const char *s, size_t n)
{
	const struct tok *t = x->t;
	size_t i, at = 0;

	if (find_specials(x, s, n))
		return -1;
	if ((x->flags & TOK_BOS) && t->add_bos && t->bos >= 0 && push(x, t->bos))
		return -1;
	for (i = 0; i < x->n_hit; i++) {
		if (encode_text(x, s + at, x->hit[i].from - at, at || !(x->flags & TOK_CONTINUE)) ||
		    push(x, x->hit[i].id))
			return -1;
		at = x->hit[i].to;
	}
	if (encode_text(x, s + at, n - at, x->n_hit || !(x->flags & TOK_CONTINUE)))
		return -1;
	if ((x->flags & TOK_EOS) && t->add_eos && t->eos >= 0 && push(x, t->eos))
		return -1;
	return x->no_memory ? -1 : 0;
}

int tok_encode_around(const struct tok *t, const char *text, size_t len,
	const struct tok_span *outside, size_t n_outside, unsigned flags, int32_t **ids, size_t *n,
	struct moe_err *e)
{
	struct encoder x = { .t = t, .flags = flags, .outside = outside, .n_outside = n_outside };
	int32_t *fit;
	int rc = -1;

	if (len > INT32_MAX)
		return err_set(e, MOE_ERR_INPUT, "text has %zu bytes, at most %d can be encoded at once",
			len, INT32_MAX);
	x.match = pre_match_new(e);
	if (!x.match)
		return -1;
	if (encode_all(&x, text, len)) {
		err_nomem(e, (len + 1) * sizeof *x.ids, "token ids");
		goto out;
	}
	fit = realloc(x.ids, (x.n + 1) * sizeof *fit);
	if (!fit && !x.ids) {
		err_nomem(e, sizeof *x.ids, "token ids");
		goto out;
	}
	*ids = fit ? fit : x.ids;
	*n = x.n;
	x.ids = NULL;
	rc = 0;
out:
	free(x.hit);
	free(x.blanked);
	free(x.ids);
	pre_match_free(x.match);
	return rc;
}

int tok_encode(const struct tok *t, const char *text, size_t len, unsigned flags, int32_t **ids,
	size_t *n, struct moe_err *e)
{
	return tok_encode_around(t, text, len, NULL, 0, flags, ids, n, e);
}

/* ---- decoding ---- */

static int is_silent(const struct tok *t, int32_t id)
{
	return t->type[id] == TOK_CONTROL || t->type[id] == TOK_UNKNOWN;
}

int tok_decode(const struct tok *t, const int32_t *ids, size_t n, unsigned flags, char **text,
	size_t *len, struct moe_err *e)
{
	int blank = t->space_prefix && !(flags & TOK_CONTINUE);
	size_t i, k, total = 0;
	const char *p;
	char *out;

	for (i = 0; i < n; i++)
		total += tok_bytes(t, ids[i], &k) ? k : 0;
	*text = out = malloc(total + 1);
	if (!out)
		return err_nomem(e, total + 1, "a text");
	for (i = 0; i < n; i++) {
		p = tok_bytes(t, ids[i], &k);
		if (!p || (is_silent(t, ids[i]) && !(flags & TOK_SPECIAL))) {
			blank = blank && (p && ids[i] == t->bos);
			continue;
		}
		if (blank && k && *p == ' ' && !is_silent(t, ids[i]))
			p++, k--;
		blank = is_silent(t, ids[i]) && blank && ids[i] == t->bos;
		memcpy(out, p, k);
		out += k;
	}
	*len = (size_t)(out - *text);
	return 0;
}

/* How many bytes at the end of s are the start of a UTF-8 sequence that may still be completed. */
static size_t unfinished(const char *s, size_t n)
{
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		unsigned char c = (unsigned char)s[n - back];

		if (c >= 0xc2 && c < 0xf5)
			return back < (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u) ? back : 0;
		if ((c & 0xc0) != 0x80)
			return 0;
	}
	return 0;
}

size_t tok_stream_next(struct tok_stream *s, const struct tok *t, int32_t id, char *out)
{
	size_t n = s->n, k = 0, wait;
	const char *p = id >= 0 ? tok_bytes(t, id, &k) : NULL;

	memcpy(out, s->part, n);
	s->n = 0;
	if (p && !is_silent(t, id)) {
		memcpy(out + n, p, k);
		n += k;
	}
	wait = id >= 0 ? unfinished(out, n) : 0;
	memcpy(s->part, out + n - wait, wait);
	s->n = wait;
	return n - wait;
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

int tok_adds_bos(const struct tok *t)
{
	return t->add_bos && t->bos >= 0;
}

int tok_adds_blank(const struct tok *t)
{
	return t->space_prefix;
}

int32_t tok_find_special(const struct tok *t, const char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < t->n_special; i++) {
		struct gguf_str w = t->word[t->special[i]];

		if (w.n == n && !memcmp(w.s, text, n))
			return t->special[i];
	}
	return -1;
}
