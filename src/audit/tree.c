/* tree.c - see tree.h. The two checks are those of RFC 9162, sections 2.1.3.2 and 2.1.4.2. */
#include "audit/tree.h"

#include <string.h>

#include "base/err.h"

void tree_leaf(const void *leaf, size_t n, unsigned char out[SHA_BYTES])
{
	struct sha s;

	sha_init(&s);
	sha_add(&s, "\0", 1);
	sha_add(&s, leaf, n);
	sha_end(&s, out);
}

void tree_node(const unsigned char left[SHA_BYTES], const unsigned char right[SHA_BYTES],
	unsigned char out[SHA_BYTES])
{
	unsigned char both[1 + 2 * SHA_BYTES] = { 1 };

	memcpy(both + 1, left, SHA_BYTES);
	memcpy(both + 1 + SHA_BYTES, right, SHA_BYTES);
	sha_of(both, sizeof both, out);
}

int tree_add(struct tree *t, const unsigned char hash[SHA_BYTES], tree_done_fn *done, void *ctx,
	struct moe_err *e)
{
	unsigned char h[SHA_BYTES];
	unsigned level = 0;

	memcpy(h, hash, sizeof h);
	for (; t->n >> level & 1; level++) {
		if (done && done(ctx, level, t->n >> level, h, e))
			return -1;
		tree_node(t->roots[level], h, h);
	}
	if (done && done(ctx, level, t->n >> level, h, e))
		return -1;
	memcpy(t->roots[level], h, sizeof h);
	t->n++;
	return 0;
}

void tree_root(const struct tree *t, unsigned char out[SHA_BYTES])
{
	int have = 0;

	if (!t->n)
		sha_of("", 0, out);
	for (unsigned l = 0; l < 64; l++) {
		if (!(t->n >> l & 1))
			continue;
		if (have)
			tree_node(t->roots[l], out, out);
		else
			memcpy(out, t->roots[l], SHA_BYTES);
		have = 1;
	}
}

/* The largest power of two below n, n > 1, as its exponent. */
static unsigned split(uint64_t n)
{
	return 63u - (unsigned)__builtin_clzll(n - 1);
}

/* MTH of the n > 0 leaves from `at`, which is a multiple of the power of two at or above n. */
static int range(const struct tree_source *s, uint64_t at, uint64_t n, unsigned char out[SHA_BYTES],
	struct moe_err *e)
{
	unsigned char left[SHA_BYTES], right[SHA_BYTES];
	unsigned k;

	if (!(n & (n - 1))) {
		k = (unsigned)__builtin_ctzll(n);
		return s->node(s->ctx, k, at >> k, out, e);
	}
	k = split(n);
	if (s->node(s->ctx, k, at >> k, left, e) ||
		range(s, at + (UINT64_C(1) << k), n - (UINT64_C(1) << k), right, e))
		return -1;
	tree_node(left, right, out);
	return 0;
}

int tree_root_at(const struct tree_source *s, uint64_t n, unsigned char out[SHA_BYTES],
	struct moe_err *e)
{
	if (n)
		return range(s, 0, n, out, e);
	sha_of("", 0, out);
	return 0;
}

static void turn(unsigned char (*path)[SHA_BYTES], int n)
{
	for (int i = 0; i < n / 2; i++) {
		unsigned char t[SHA_BYTES];

		memcpy(t, path[i], sizeof t);
		memcpy(path[i], path[n - 1 - i], sizeof t);
		memcpy(path[n - 1 - i], t, sizeof t);
	}
}

int tree_path(const struct tree_source *s, uint64_t index, uint64_t n,
	unsigned char path[TREE_PATH_MAX][SHA_BYTES], struct moe_err *e)
{
	uint64_t at = 0;
	int used = 0;

	if (index >= n)
		return err_set(e, MOE_ERR_USAGE, "leaf %llu of a log of %llu", (unsigned long long)index,
			(unsigned long long)n);
	while (n > 1) { /* from the root down */
		uint64_t k = UINT64_C(1) << split(n);

		if (index - at < k) {
			if (range(s, at + k, n - k, path[used++], e))
				return -1;
			n = k;
		} else {
			if (range(s, at, k, path[used++], e))
				return -1;
			at += k;
			n -= k;
		}
	}
	turn(path, used);
	return used;
}

int tree_consistency(const struct tree_source *s, uint64_t m, uint64_t n,
	unsigned char path[TREE_CONSISTENCY_MAX][SHA_BYTES], struct moe_err *e)
{
	uint64_t at = 0;
	int used = 0, whole = 1;

	if (!m || m > n)
		return err_set(e, MOE_ERR_USAGE, "consistency of %llu with %llu leaves",
			(unsigned long long)m, (unsigned long long)n);
	while (m != n) { /* SUBPROOF(m, D[n], whole) */
		uint64_t k = UINT64_C(1) << split(n);

		if (m <= k) {
			if (range(s, at + k, n - k, path[used++], e))
				return -1;
			n = k;
		} else {
			if (range(s, at, k, path[used++], e))
				return -1;
			at += k;
			m -= k;
			n -= k;
			whole = 0;
		}
	}
	if (!whole && range(s, at, n, path[used++], e))
		return -1;
	turn(path, used);
	return used;
}

/*
 * Up a path from node fn of a level whose last node is sn: r becomes the root. old, unless NULL,
 * takes in the siblings on the left only, so that it becomes the root of the leaves up to fn. Is
 * the path as long as the way?
 */
static int climb(uint64_t fn, uint64_t sn, const unsigned char (*path)[SHA_BYTES], size_t n_path,
	unsigned char r[SHA_BYTES], unsigned char *old)
{
	for (size_t i = 0; i < n_path; i++) {
		if (!sn)
			return 0;
		if ((fn & 1) || fn == sn) {
			tree_node(path[i], r, r);
			if (old)
				tree_node(path[i], old, old);
			while (!(fn & 1) && fn) {
				fn >>= 1;
				sn >>= 1;
			}
		} else {
			tree_node(r, path[i], r);
		}
		fn >>= 1;
		sn >>= 1;
	}
	return !sn;
}

int tree_check_path(uint64_t index, uint64_t n, const unsigned char leaf[SHA_BYTES],
	const unsigned char (*path)[SHA_BYTES], size_t n_path, const unsigned char root[SHA_BYTES])
{
	unsigned char r[SHA_BYTES];

	if (index >= n)
		return 0;
	memcpy(r, leaf, sizeof r);
	return climb(index, n - 1, path, n_path, r, NULL) && !memcmp(r, root, sizeof r);
}

int tree_check_consistency(uint64_t m, uint64_t n, const unsigned char (*path)[SHA_BYTES],
	size_t n_path, const unsigned char root_m[SHA_BYTES], const unsigned char root_n[SHA_BYTES])
{
	unsigned char fr[SHA_BYTES], sr[SHA_BYTES];
	uint64_t fn = m - 1, sn = n - 1;
	size_t used = 0;

	if (m > n || (!m && n))
		return 0;
	if (m == n)
		return !n_path && !memcmp(root_m, root_n, SHA_BYTES);
	if (m & (m - 1)) { /* the first m leaves are no complete subtree: the path begins with one */
		if (!n_path)
			return 0;
		memcpy(fr, path[used++], sizeof fr);
	} else {
		memcpy(fr, root_m, sizeof fr);
	}
	memcpy(sr, fr, sizeof sr);
	while (fn & 1) {
		fn >>= 1;
		sn >>= 1;
	}
	return climb(fn, sn, path + used, n_path - used, sr, fr) && !memcmp(fr, root_m, sizeof fr) &&
		!memcmp(sr, root_n, sizeof sr);
}
