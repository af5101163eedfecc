/*
 * kv.h - the key/value cache of one sequence: rows of every layer and position in a type of their
 * own. Private to src/model.
 *
 * A position has n_head key rows of k_dim elements and value rows of v_dim:
 *
 *	k: [n_head][keep][k_dim]    v: [n_head][keep][v_dim], or a prefix of the key heads (v_in_k)
 *
 * What is written is rounded to the type once (F32 not at all); what is read enters the sums with its
 * exact value, in the order that kern.h defines. So a result depends on the type, never on batch,
 * threads or instruction set. A layer may keep only the last `keep` positions, as a ring.
 */
#ifndef MODEL_KV_H
#define MODEL_KV_H

#include "kern/kern.h"

struct model;

enum kv_type { KV_F16, KV_F32, KV_Q8_0, KV_N_TYPE }; /* as enum session_kv */

/* What a layer stores. To change a layer's: kv_shape_of. */
struct kv_shape {
	uint32_t n_head;       /* key/value heads */
	uint32_t k_dim, v_dim; /* elements of a head */
	int v_in_k;            /* the value of a head is the first v_dim elements of its key (MLA) */
	uint32_t keep;         /* positions stored; 0 = all of the context */
};

struct kv;

/* The shape of layer il: the table that attention reads and writes by. n_batch: the longest run of
 * positions written before they are read, which a window must hold on top of its length. */
struct kv_shape kv_shape_of(const struct model *m, size_t il, uint32_t n_batch);

/* Bytes of the cache; rows are touched when they are written, not before. */
uint64_t kv_bytes(const struct model *m, enum kv_type type, uint32_t n_ctx, uint32_t n_batch);
/* -1 with the numbers in e where a type does not fit the heads (Q8_0 has blocks of 32). */
int kv_check(const struct model *m, enum kv_type type, struct moe_err *e);
struct kv *kv_new(const struct model *m, const struct kern *kern, enum kv_type type, uint32_t n_ctx,
	uint32_t n_batch, struct moe_err *e);
void kv_free(struct kv *c);

const char *kv_type_name(enum kv_type t); /* "f16", ... */

/* Store the rows of n positions from pos on: k [n][n_head * k_dim], v [n][n_head * v_dim] (unused
 * where v_in_k). */
void kv_write(struct kv *c, size_t il, uint32_t pos, size_t n, const float *k, const float *v);

/* p[j*ps + i] = q[j] . key of `head` at position pos + i, for j < n_q, i < n; q [n_q][k_dim]. */
void kv_dot(const struct kv *c, size_t il, size_t head, uint32_t pos, size_t n, const float *q, size_t n_q,
	float *p, size_t ps);

/* Of one query: the positions pos + lo .. pos + hi - 1 that it sees (none if hi <= lo), its output
 * [v_dim]. */
struct kv_query { size_t lo, hi; float *o; };
/* o[j] += p[j*ps + i] * value of `head` at position pos + i, for i from lo to hi - 1 of query j in
 * ascending order; the outputs lie os floats apart. */
#define KV_VALUES 64 /* positions that all queries use before the next */
void kv_mix(const struct kv *c, size_t il, size_t head, uint32_t pos, const struct kv_query *q, size_t n_q,
	size_t os, const float *p, size_t ps);

#endif
