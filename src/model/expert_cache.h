/*
 * expert_cache.h - more experts than memory: they stay in the file, and a bounded number of slots holds
 * those that are used. Private to src/model.
 *
 * A slot holds one expert of one layer, gate, up and down together. What a batch needs of a layer comes
 * in groups, each as large as the slots allow: first what is there already, while a thread of the cache
 * reads the rest. Which experts are held follows from the decisions and the policy alone, never from
 * how long a read took; and an expert computes the same bits from a slot as from the mapping.
 */
#ifndef MODEL_EXPERT_CACHE_H
#define MODEL_EXPERT_CACHE_H

#include "model/arch.h"

struct xcache;

enum xcache_part { XCACHE_GATE, XCACHE_UP, XCACHE_DOWN, XCACHE_PARTS };

/* Bytes of one slot: the largest expert of the model. */
size_t xcache_slot_bytes(const struct model *m);

/* How many slots o gives: -1 with the numbers in e if it gives none. */
int xcache_slots(const struct model *m, const struct session_cache *o, uint64_t *n, struct moe_err *e);

struct xcache *xcache_new(const struct model *m, const struct session_cache *o, struct moe_err *e);
void xcache_free(struct xcache *c);

/* Start layer il: rows [n_expert] of a batch for each expert, 0 = not needed. */
void xcache_begin(struct xcache *c, size_t il, const uint32_t *rows);

/* The next experts to compute, ascending ids in list [n_expert]: 1 = *n of them, 0 = none are left,
 * -1 = reading failed. Those of the call before must not be used any more. */
int xcache_next(struct xcache *c, uint32_t *list, size_t *n, struct moe_err *e);

/* First row of a part of an expert that xcache_next gave. */
const uint8_t *xcache_at(const struct xcache *c, uint32_t expert, enum xcache_part part);

/* Is an expert in memory now? Only the session's thread may ask. */
int xcache_holds(const struct xcache *c, size_t il, uint32_t expert);

void xcache_stat(const struct xcache *c, struct session_cache_stat *out);

#endif
