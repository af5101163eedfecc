/*
 * audit_recorded.h - the decisions of one sequence as they were recorded: from its rows, or from
 * leaves that were encrypted, with the key that opens them. What `audit replay` compares with and
 * `audit explain` reads its prefix from.
 */
#ifndef CMD_AUDIT_RECORDED_H
#define CMD_AUDIT_RECORDED_H

#include "audit/payload.h"
#include "event/event.h"
#include "trace/reader.h"

struct recorded {
	const struct run_info *info; /* borrowed */
	size_t k_row, k_at[MOE_MAX_LAYER]; /* picks of a token, where those of a layer begin */
	uint64_t seq;
	size_t n, cap, n_prompt; /* n_prompt: tokens that were read in, of all turns */
	int32_t *tokens;     /* [n] */
	uint8_t *phase;      /* [n] */
	uint8_t *looked;     /* [n] the caller's; 0 */
	uint16_t *experts;   /* [n][k_row] */
	float *weights;      /* [n][k_row] */
	float *margins;      /* [n][n_layer] */
};

void recorded_init(struct recorded *c, const struct run_info *info);
void recorded_free(struct recorded *c);
void recorded_clear(struct recorded *c); /* for another sequence; keeps the memory */

/* Fill in the sequence seq, from position 0 on. 0; 1 = it has a hole, c holds what is before it;
 * -1. sequence: sequence.id. */
int recorded_rows(struct recorded *c, struct reader *r, int64_t sequence, struct moe_err *e);
/* master: the key of --seal. What was sealed with a key that was destroyed is a hole. */
int recorded_sealed(struct recorded *c, struct reader *r, const unsigned char master[SEAL_KEY],
	struct moe_err *e);

/* The payload of a sealed leaf, opened. The caller wipes and frees `plain`, initialised before. */
int recorded_open(struct reader *r, const unsigned char master[SEAL_KEY], const struct log_row *row,
	struct buf *plain, struct moe_err *e);

#endif
