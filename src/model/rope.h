/*
 * rope.h - rotary positions: tables of angles and the rotation of heads. Private to src/model.
 */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include "model/arch.h"

/* Fill rows from .. to - 1 of cs [n_ctx][n_rot / 2][2] with cos and sin of these positions, times the
 * gain. LongRoPE's factors are chosen by n_ctx, as llama.cpp does: the long ones above the original
 * context. */
void rope_table(const struct rope_par *r, uint32_t n_ctx, uint32_t from, uint32_t to, float *cs);

/* Rotate the first n_rot elements of n_head heads, `stride` floats apart. cs: a position's row. */
void rope_apply(enum rope pairs, const float *cs, size_t n_rot, float *x, size_t n_head, size_t stride);

#endif
