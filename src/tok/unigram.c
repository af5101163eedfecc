/* unigram.c - see unigram.h. */
#include "tok/unigram.h"

#include <float.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "tok/chars.h"

/* ---- the trie ---- */

struct word { struct gguf_str s; int32_t id; };

static int by_bytes(const void *a, const void *b)
{
	const struct word *x = a, *y = b;
	int c = memcmp(x->s.s, y->s.s, x->s.n < y->s.n ? x->s.n : y->s.n);

	if (c)
		return c;
	if (x->s.n != y->s.n)
		return x->s.n < y->s.n ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

/* Nodes but the root: what each word adds to the one before it. */
static size_t count_nodes(const struct word *w, size_t n)
{
	size_t nodes = 0, same;

	for (size_t i = 0; i < n; i++) {
		for (same = 0; i && same < w[i].s.n && same < w[i - 1].s.n; same++)
			if (w[i].s.s[same] != w[i - 1].s.s[same])
				break;
		nodes += w[i].s.n - same;
	}
	return nodes;
}

/* Words lo..hi-1 are those below a node, all alike in their first `depth` bytes. */
struct range { uint32_t lo, hi, depth; };

/* Take the words of node v apart; its children become nodes n.. Returns the new n. */
static size_t add_children(struct unigram *u, const struct word *w, struct range *r, size_t v,
	size_t n)
{
	uint32_t i = r[v].lo, depth = r[v].depth, from;
	uint8_t byte;

	u->token[v] = -1;
	for (; i < r[v].hi && w[i].s.n == depth; i++) /* of equal texts the lowest id */
		if (u->token[v] < 0)
			u->token[v] = w[i].id;
	while (i < r[v].hi) {
		byte = (uint8_t)w[i].s.s[depth];
		for (from = i; i < r[v].hi && (uint8_t)w[i].s.s[depth] == byte; i++)
			;
		u->byte[n] = byte;
		r[n++] = (struct range){ from, i, depth + 1 };
	}
	return n;
}

static int build(struct unigram *u, struct word *w, size_t n_words, struct moe_err *e)
{
	struct range *r;
	size_t v, n = 1;

	qsort(w, n_words, sizeof *w, by_bytes);
	u->n_node = 1 + count_nodes(w, n_words);
	if (u->n_node >= UINT32_MAX)
		return err_set(e, MOE_ERR_INPUT, "the tokens have %zu bytes together", u->n_node);
	u->first = malloc((u->n_node + 1) * sizeof *u->first);
	u->token = malloc(u->n_node * sizeof *u->token);
	u->byte = calloc(u->n_node, 1);
	r = malloc(u->n_node * sizeof *r);
	if (!u->first || !u->token || !u->byte || !r) {
		free(r);
		return err_nomem(e, u->n_node * 21, "a trie of tokens");
	}
	r[0] = (struct range){ 0, (uint32_t)n_words, 0 };
	for (v = 0; v < u->n_node; v++) {
		u->first[v] = (uint32_t)n;
		n = add_children(u, w, r, v, n);
	}
	u->first[u->n_node] = (uint32_t)n;
	free(r);
	return 0;
}

int unigram_init(struct unigram *u, const struct gguf_str *text, const uint8_t *use,
	const float *score, size_t n, float lowest, struct moe_err *e)
{
	struct word *w = malloc((n + 1) * sizeof *w);
	size_t i, n_words = 0;
	int rc = 0;

	u->score = malloc(n * sizeof *u->score);
	if (!w || !u->score) {
		free(w);
		return err_nomem(e, n * (sizeof *w + sizeof *u->score), "the vocabulary");
	}
	memcpy(u->score, score, n * sizeof *score);
	u->unk_score = lowest - 10.0f;
	for (i = 0; !rc && i < n; i++) {
		if (!use[i] || !text[i].n)
			continue;
		if (text[i].n > UNIGRAM_LONGEST)
			rc = err_set(e, MOE_ERR_INPUT, "token %zu has %zu bytes, at most %d are read", i,
				text[i].n, UNIGRAM_LONGEST);
		w[n_words++] = (struct word){ text[i], (int32_t)i };
	}
	if (!rc)
		rc = build(u, w, n_words, e);
	free(w);
	return rc;
}

void unigram_free(struct unigram *u)
{
	free(u->first);
	free(u->token);
	free(u->byte);
	free(u->score);
	free(u->map);
	free(u->text);
	memset(u, 0, sizeof *u);
}

/* The child of v by a byte, or 0. */
static uint32_t child(const struct unigram *u, uint32_t v, uint8_t byte)
{
	uint32_t lo = u->first[v], hi = u->first[v + 1], mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (u->byte[mid] == byte)
			return mid;
		if (u->byte[mid] < byte)
			lo = mid + 1;
		else
			hi = mid;
	}
	return 0;
}

/* ---- normalising ---- */

int unigram_charsmap(struct unigram *u, const uint8_t *blob, size_t n, struct moe_err *e)
{
	uint32_t size;

	if (n < 4)
		return err_set(e, MOE_ERR_INPUT, "precompiled_charsmap has %zu bytes", n);
	memcpy(&size, blob, 4);
	if (size % 4 || size >= n - 4 || blob[n - 1])
		return err_set(e, MOE_ERR_INPUT, "precompiled_charsmap of %zu bytes: an array of %" PRIu32
			" bytes and NUL-terminated texts do not fit in it", n, size);
	u->n_map = size / 4;
	u->n_text = n - 4 - size;
	u->map = malloc(size + 1);
	u->text = malloc(u->n_text);
	if (!u->map || !u->text)
		return err_nomem(e, n, "precompiled_charsmap");
	memcpy(u->map, blob + 4, size);
	memcpy(u->text, blob + 4 + size, u->n_text);
	return 0;
}

/* A unit of the double array: bits 0..7 and 31 its label, 8 "has a value", 10..30 the offset to its
 * children, shifted by 8 if bit 9 is set (Darts-clone). 0 beyond the end: no label matches it. */
static uint32_t unit(const struct unigram *u, uint32_t at)
{
	return at < u->n_map ? u->map[at] : 0;
}

static uint32_t offset(uint32_t unit)
{
	return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement of the longest prefix that has one: its bytes, and how many it replaces;
 * 0 = none. */
static size_t replaced(const struct unigram *u, const char *s, size_t n, const char **by)
{
	uint32_t at = offset(unit(u, 0)), x, value;
	size_t i, longest = 0;

	for (i = 0; u->n_map && i < n && s[i]; i++) {
		at ^= (uint8_t)s[i];
		x = unit(u, at);
		if ((x & (1u << 31 | 0xff)) != (uint8_t)s[i])
			break;
		at ^= offset(x);
		if (!(x >> 8 & 1))
			continue;
		value = unit(u, at) & ~(1u << 31);
		if (value >= u->n_text)
			continue;
		longest = i + 1;
		*by = u->text + value;
	}
	return longest;
}

struct normal { struct buf out; int blank_next, in_word; };

static void add_text(const struct unigram *u, struct normal *x, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i] == ' ') {
			x->in_word = 0;
			if (!u->squeeze)
				buf_add(&x->out, CHARS_BLANK, 3);
			continue;
		}
		if (!x->in_word && (x->blank_next || u->squeeze)) {
			buf_add(&x->out, CHARS_BLANK, 3);
			x->blank_next = 0;
		}
		x->in_word = 1;
		buf_char(&x->out, s[i]);
	}
}

/* -1 for want of memory. */
static int normalise(const struct unigram *u, const char *s, size_t n, struct normal *x)
{
	const char *by;
	uint32_t cp;
	size_t i, len;

	for (i = 0; i < n; i += len) {
		len = replaced(u, s + i, n - i, &by);
		if (len) {
			add_text(u, x, by, strlen(by));
			continue;
		}
		len = text_decode(s + i, n - i, &cp);
		if (len) {
			add_text(u, x, s + i, len);
			continue;
		}
		add_text(u, x, "\xef\xbf\xbd", 3); /* U+FFFD for a byte that is not UTF-8 */
		len = 1;
	}
	return x->out.failed ? -1 : 0;
}

/* ---- the best cut ---- */

struct best { double sum; uint32_t from; int32_t id; };

static void offer(struct best *b, double sum, size_t from, int32_t id)
{
	if (sum > b->sum)
		*b = (struct best){ sum, (uint32_t)from, id };
}

static void from_here(const struct unigram *u, struct best *b, const char *s, size_t n, size_t at)
{
	size_t len = chars_len(s + at, n - at), i;
	int covered = 0;
	uint32_t v = 0;

	for (i = at; i < n && (v = child(u, v, (uint8_t)s[i])); i++) {
		int32_t id = u->token[v];

		if (id < 0)
			continue;
		covered |= i + 1 - at == len;
		offer(&b[i + 1], b[at].sum + (double)u->score[id], at, id);
	}
	if (!covered)
		offer(&b[at + len], b[at].sum + (double)u->unk_score, at, u->unk);
}

/* From the end to the start, then turned round; a run of unknown tokens is one. */
static size_t collect(const struct unigram *u, const struct best *b, size_t n, int32_t *ids)
{
	size_t count = 0, i, at;
	int32_t last = -1, id;

	for (at = n; at; at = b[at].from) {
		id = b[at].id;
		if (id >= 0 && !(id == u->unk && last == u->unk))
			ids[count++] = id;
		last = id;
	}
	for (i = 0; i < count / 2; i++) {
		id = ids[i];
		ids[i] = ids[count - 1 - i];
		ids[count - 1 - i] = id;
	}
	return count;
}

int unigram_encode(const struct unigram *u, const char *s, size_t n, int32_t **ids, size_t *n_ids)
{
	struct normal x = { .blank_next = u->prefix };
	struct best *b = NULL;
	size_t len, i;
	int rc = -1;

	*ids = NULL;
	*n_ids = 0;
	buf_init(&x.out, UINT32_MAX / 2);
	if (normalise(u, s, n, &x))
		goto out;
	len = x.out.len;
	b = malloc((len + 1) * sizeof *b);
	*ids = malloc((len + 1) * sizeof **ids);
	if (!b || !*ids)
		goto out;
	for (i = 0; i <= len; i++)
		b[i] = (struct best){ -DBL_MAX, 0, u->unk };
	b[0].sum = 0;
	for (i = 0; i < len; i += chars_len(x.out.data + i, len - i))
		from_here(u, b, x.out.data, len, i);
	*n_ids = collect(u, b, len, *ids);
	rc = 0;
out:
	if (rc) {
		free(*ids);
		*ids = NULL;
	}
	free(b);
	buf_free(&x.out);
	return rc;
}
