/* ckpt.h - checkpoints of the trainer, little-endian:
 *   "MOECKPT1", u32 tensors, u32 has_moments, struct net_config (13 words), one word of padding,
 *   struct ckpt_state, then per tensor { name[40], u64 off, count, rows, cols },
 *   u64 size, float weights[size], and with moments float m[size], v[size].
 * A checkpoint is written beside its name and renamed, so a reader never sees half of one.
 */
#ifndef CKPT_H
#define CKPT_H

#include "net.h"

struct ckpt_state {
	uint64_t step, tokens, rng, seed;
	double start, deadline;		/* Unix time of the first step and of the schedule's end */
	double busy;			/* seconds of training, pauses left out */
	double best;			/* lowest mean held-out bits per byte so far, 0: none yet */
};

/* m and v may be NULL (weights only). Return 0, or -1 with a message on stderr. */
int ckpt_write(const char *path, struct net *n, const struct ckpt_state *st, const float *m,
	       const float *v);
/* Configuration alone, to open a net of the right shape. */
int ckpt_peek(const char *path, struct net_config *cfg, struct ckpt_state *st);
int ckpt_read(const char *path, struct net *n, struct ckpt_state *st, float *m, float *v);

#endif
