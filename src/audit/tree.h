/*
 * tree.h - the Merkle tree of RFC 6962, section 2.1: hashes, roots, proofs. Pure arithmetic.
 *
 * Leaf hash SHA-256(0x00 || leaf), node SHA-256(0x01 || left || right); a tree of n leaves is split
 * at the largest power of two below n. The root of no leaves is SHA-256 of nothing.
 *
 * A log is appended to through its frontier: the roots of the complete subtrees that make up its
 * leaves, at most one for each bit of its size. Proofs are made from a source that knows the roots
 * of complete subtrees: node (level, index) covers the leaves index << level .. (index + 1) <<
 * level.
 */
#ifndef AUDIT_TREE_H
#define AUDIT_TREE_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#include "audit/sha.h"

#define TREE_PATH_MAX 64 /* most hashes of a proof of inclusion */
#define TREE_CONSISTENCY_MAX 65

void tree_leaf(const void *leaf, size_t n, unsigned char out[SHA_BYTES]);
void tree_node(const unsigned char left[SHA_BYTES], const unsigned char right[SHA_BYTES],
	unsigned char out[SHA_BYTES]);

struct tree {
	uint64_t n;                         /* leaves */
	unsigned char roots[64]
					[SHA_BYTES]; /* roots[l]: complete subtree of 2^l leaves, if bit l of n */
};

/* Add a leaf's hash. `done` may be NULL; else it is called for each subtree that this completes. */
typedef int tree_done_fn(void *ctx, unsigned level, uint64_t index,
	const unsigned char hash[SHA_BYTES], struct moe_err *e);
int tree_add(struct tree *t, const unsigned char hash[SHA_BYTES], tree_done_fn *done, void *ctx,
	struct moe_err *e);
void tree_root(const struct tree *t, unsigned char out[SHA_BYTES]);

/* Where roots of complete subtrees come from; -1 with e filled in. */
struct tree_source {
	int (*node)(void *ctx, unsigned level, uint64_t index, unsigned char out[SHA_BYTES],
		struct moe_err *e);
	void *ctx;
};

/* Root of the first n leaves. */
int tree_root_at(const struct tree_source *s, uint64_t n, unsigned char out[SHA_BYTES],
	struct moe_err *e);
/* PATH(index, D[n]), leaf's sibling first. Returns how many hashes, or -1. */
int tree_path(const struct tree_source *s, uint64_t index, uint64_t n,
	unsigned char path[TREE_PATH_MAX][SHA_BYTES], struct moe_err *e);
/* PROOF(m, D[n]), 0 < m <= n. */
int tree_consistency(const struct tree_source *s, uint64_t m, uint64_t n,
	unsigned char path[TREE_CONSISTENCY_MAX][SHA_BYTES], struct moe_err *e);

/* Does the path lead from the leaf's hash to the root? 1 or 0. */
int tree_check_path(uint64_t index, uint64_t n, const unsigned char leaf[SHA_BYTES],
	const unsigned char (*path)[SHA_BYTES], size_t n_path, const unsigned char root[SHA_BYTES]);
/* Is the tree (m, root_m) the beginning of (n, root_n)? 1 or 0. From the empty tree nothing can be
 * proved: m = 0 with n > 0 is refused. */
int tree_check_consistency(uint64_t m, uint64_t n, const unsigned char (*path)[SHA_BYTES],
	size_t n_path, const unsigned char root_m[SHA_BYTES], const unsigned char root_n[SHA_BYTES]);

#endif
