/*
 * block.h - what travels through the ring from the engine's thread to the writer's thread.
 *
 * A block is a head and then either a chunk of decisions (arrays, each with room for `cap` tokens)
 * or a list of messages (what is not a decision), each a struct msg followed by its bytes. Both
 * ends are this process, so this is no format: it never reaches a disk.
 *
 * A chunk lies layer by layer, as decisions come and as they are packed: a layer of a batch is
 * copied in one piece. Layer i of an array with k numbers a decision begins cap * k_at[i] numbers
 * behind its first one.
 */
#ifndef TRACE_BLOCK_H
#define TRACE_BLOCK_H

#include "trace/layout.h"

#define BLOCK_MIN_BYTES 16384 /* a block holds any message */
#define BLOCK_NAME_MAX 255    /* bytes of a domain, sequence or hook name; longer ones are cut */
#define BLOCK_TEXT_MAX 4096   /* bytes of a note or of a token's text */

struct block_head {
	uint32_t n;         /* chunk: tokens; messages: bytes that follow the head */
	uint8_t is_chunk, phase, has_logits, any_flags, edited;
	uint64_t seq;
	uint32_t pos;
	int64_t time;       /* ns, the run's clock (see commit.h), of the first decision */
	int64_t sequence;   /* sequence.id; filled in by the writer's thread */
};

/* Offsets of a chunk's arrays in a block, for at most cap tokens. */
struct block_shape {
	const struct layout *lay;
	uint32_t cap;
	size_t tokens, margins, weights, logits, experts, before, flags, bytes;
};
/* The largest cap <= LAYOUT_CHUNK for which a block takes at most max_bytes; at least 1. */
void block_shape(struct block_shape *s, const struct layout *lay, size_t max_bytes);

int32_t *block_tokens(const struct block_shape *s, void *block); /* [n] */

/* The arrays of a chunk's layer i; those of layer 0 begin where the whole chunk's do. */
struct block_rows {
	float *margins;    /* [n] */
	float *weights;    /* [n][k] */
	float *logits;     /* [n][n_expert], meaningless without has_logits */
	uint16_t *experts; /* [n][k] */
	uint16_t *before;  /* [n][k], meaningless without edited; same as experts where no hook did */
	uint8_t *flags;    /* [n] */
};
void block_rows(const struct block_shape *s, void *block, size_t i, struct block_rows *out);

/* Is there a decision in a chunk that a hook edited? */
int block_any_edited(const struct block_shape *s, void *block);

/* How many numbers a decision has in an array: one for each pick, one for each expert, or one. */
enum block_per { BLOCK_PICK, BLOCK_EXPERT, BLOCK_DECISION };
/* An array of numbers of `size` bytes, of n tokens and all layers, token by token: to [n][row]. */
void block_by_token(const struct block_shape *s, const void *array, enum block_per per,
	size_t size, size_t n, void *to);

enum msg_kind { MSG_BEGIN, MSG_END, MSG_NOTE, MSG_GAP, MSG_PACE, MSG_TOKEN };

struct msg {
	uint32_t kind, len[2];     /* len: bytes of the two strings that follow */
	int32_t layer;             /* NOTE: -1 = none */
	int64_t time;
	uint64_t seq;              /* BEGIN, END, GAP */
	uint32_t pos, n_prompt, n_generated, n_scored;
	uint64_t n_bytes, tokens, busy_ns, batches; /* GAP: tokens; PACE */
	double nll;
	int32_t token;             /* TOKEN */
	uint8_t phase;             /* PACE */
	struct moe_cache_use cache; /* PACE */
};
/* Bytes of a message with its strings, padded so that the next one is aligned. */
size_t msg_bytes(const struct msg *m);

#endif
