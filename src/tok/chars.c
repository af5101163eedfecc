/* chars.c - see chars.h. */
#include "tok/chars.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define BESIDE_BITS 20

static uint32_t char_code(const char *s, size_t n)
{
	uint32_t c = 0;

	memcpy(&c, s, n < 4 ? n : 4);
	return c;
}

static size_t beside_bit(uint32_t left, uint32_t right)
{
	return map_mix((uint64_t)left << 32 | right) >> (64 - BESIDE_BITS);
}

static int are_beside(const struct chars *c, uint32_t left, uint32_t right)
{
	size_t bit = beside_bit(left, right);

	return c->beside[bit / 64] >> bit % 64 & 1;
}

static void note_neighbours(struct chars *c, struct gguf_str t)
{
	uint32_t left = 0, right;
	size_t i, len, bit;

	for (i = 0; i < t.n; i += len) {
		len = chars_len(t.s + i, t.n - i);
		right = char_code(t.s + i, len);
		if (i) {
			bit = beside_bit(left, right);
			c->beside[bit / 64] |= (uint64_t)1 << bit % 64;
		}
		left = right;
	}
}

int chars_init(struct chars *c, const struct gguf_str *text, const uint8_t *use, size_t n,
	uint64_t seed, struct moe_err *e)
{
	size_t i, words = ((size_t)1 << BESIDE_BITS) / 64;
	char byte;

	c->beside = calloc(words, sizeof *c->beside);
	if (!c->beside)
		return err_nomem(e, words * sizeof *c->beside, "a set of neighbours");
	if (map_init(&c->by_text, text, n, seed, e))
		return -1;
	for (i = 0; i < n; i++) {
		if (!use[i] || !text[i].n)
			continue;
		if (text[i].n > CHARS_LONGEST)
			return err_set(e, MOE_ERR_INPUT, "token %zu has %zu bytes, at most %d are read", i,
				text[i].n, CHARS_LONGEST);
		map_add(&c->by_text, (int32_t)i);
		note_neighbours(c, text[i]);
	}
	for (i = 0; i < 128; i++) {
		byte = (char)i;
		c->ascii[i] = map_find(&c->by_text, &byte, 1);
	}
	return 0;
}

void chars_free(struct chars *c)
{
	map_free(&c->by_text);
	bpe_free(&c->bpe);
	free(c->beside);
	c->beside = NULL;
}

/* ---- merges from scores ---- */

struct by_score { float score; int32_t id; };

static int better_first(const void *a, const void *b)
{
	const struct by_score *x = a, *y = b;

	return x->score > y->score ? -1 : x->score < y->score;
}

/* rank[id]: 0 = the best score; equal scores have equal ranks. */
static int rank_scores(const float *score, size_t n, uint32_t *rank, struct moe_err *e)
{
	struct by_score *list = malloc(n * sizeof *list);
	uint32_t r = 0;
	size_t i;

	if (!list)
		return err_nomem(e, n * sizeof *list, "scores");
	for (i = 0; i < n; i++)
		list[i] = (struct by_score){ score[i], (int32_t)i };
	qsort(list, n, sizeof *list, better_first);
	for (i = 0; i < n; i++) {
		if (i && list[i].score < list[i - 1].score)
			r++;
		rank[list[i].id] = r;
	}
	free(list);
	return 0;
}

struct merge { int32_t left, right, id; };
struct merges { struct merge *p; size_t n, cap; };

static int add_merge(struct merges *m, struct merge x, struct moe_err *e)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? 2 * m->cap : 4096;
		struct merge *p = realloc(m->p, cap * sizeof *p);

		if (!p)
			return err_nomem(e, cap * sizeof *p, "merges");
		m->p = p;
		m->cap = cap;
	}
	m->p[m->n++] = x;
	return 0;
}

/* Every way to cut the token in two, between characters, so that both halves are tokens. */
static int add_halves(const struct chars *c, int32_t id, struct merges *m, struct moe_err *e)
{
	struct gguf_str t = c->by_text.word[id];
	int32_t left, right;
	size_t i;

	for (i = chars_len(t.s, t.n); i < t.n; i += chars_len(t.s + i, t.n - i)) {
		left = map_find(&c->by_text, t.s, i);
		right = left < 0 ? -1 : map_find(&c->by_text, t.s + i, t.n - i);
		if (right >= 0 && add_merge(m, (struct merge){ left, right, id }, e))
			return -1;
	}
	return 0;
}

int chars_merges_from_scores(struct chars *c, const float *score, size_t n, uint64_t seed,
	struct moe_err *e)
{
	uint32_t *rank = malloc(n * sizeof *rank);
	struct merges m = { 0 };
	int rc = -1;
	size_t i;

	if (!rank) {
		err_nomem(e, n * sizeof *rank, "ranks");
		goto out;
	}
	if (rank_scores(score, n, rank, e))
		goto out;
	for (i = 0; i < n; i++) { /* only the token that its text finds */
		struct gguf_str t = c->by_text.word[i];

		if (t.n && t.n <= CHARS_LONGEST && map_find(&c->by_text, t.s, t.n) == (int32_t)i &&
		    add_halves(c, (int32_t)i, &m, e))
			goto out;
	}
	if (bpe_init(&c->bpe, m.n, seed, e))
		goto out;
	for (i = 0; i < m.n; i++)
		bpe_add(&c->bpe, m.p[i].left, m.p[i].right, rank[m.p[i].id], m.p[i].id);
	rc = 0;
out:
	free(m.p);
	free(rank);
	return rc;
}

/* ---- encoding ---- */

/* The piece that grows at the end of ids: start..n-1, `last` is its last character. */
struct piece {
	const struct chars *c;
	int32_t *ids;
	size_t start, n;
	uint32_t last;
	int no_memory;
};

static void end_piece(struct piece *p)
{
	size_t n = p->n - p->start, left = n > 1 ? bpe_merge(&p->c->bpe, p->ids + p->start, n) : n;

	p->no_memory |= n && !left;
	p->n = p->start += left;
}

static void add_bytes(struct piece *p, const char *s, size_t n)
{
	int32_t id;

	end_piece(p);
	for (size_t i = 0; i < n; i++) {
		id = p->c->byte_id[(unsigned char)s[i]];
		id = id < 0 ? p->c->unk : id;
		if (id >= 0)
			p->ids[p->n++] = id;
	}
	p->start = p->n;
}

static void add_char(struct piece *p, const char *s, size_t n)
{
	const struct chars *c = p->c;
	uint32_t code = char_code(s, n);
	int32_t id = n == 1 && (unsigned char)*s < 128 ? c->ascii[(unsigned char)*s] :
		map_find(&c->by_text, s, n);

	if (id < 0) {
		add_bytes(p, s, n);
		return;
	}
	if (p->n > p->start && !are_beside(c, p->last, code))
		end_piece(p);
	p->ids[p->n++] = id;
	p->last = code;
}

/* The line feeds at s[0]; returns how many. */
static size_t add_lines(struct piece *p, const char *s, size_t n)
{
	size_t k = 0;
	int32_t id = -1;

	while (k < n && s[k] == '\n')
		k++;
	end_piece(p);
	if ((p->c->flags & CHARS_WHOLE) && k <= CHARS_LONGEST)
		id = map_find(&p->c->by_text, s, k);
	if (id >= 0) {
		p->ids[p->n++] = id;
		p->start = p->n;
		return k;
	}
	for (size_t i = 0; i < k; i++)
		add_char(p, s + i, 1);
	end_piece(p);
	return k;
}

int64_t chars_encode(const struct chars *c, const char *s, size_t n, int32_t *ids)
{
	struct piece p = { .c = c, .ids = ids };
	size_t i, len;

	for (i = 0; i < n; i += len) {
		if (s[i] == '\n' && (c->flags & CHARS_LINES)) {
			len = add_lines(&p, s + i, n - i);
			continue;
		}
		len = chars_len(s + i, n - i);
		add_char(&p, s + i, len);
	}
	end_piece(&p);
	return p.no_memory ? -1 : (int64_t)p.n;
}
