/*
 * pack.h - codec 2: the packed BLOBs of a chunk, both ways. Bytes: docs/TRACE.md.
 *
 * On disk arrays lie layer by layer, so that a scan of one layer reads one piece. What is packed
 * does so too, as in block.h: [layers][cap][k] of which n <= cap tokens count, [layers][cap]
 * margins and flags. What is unpacked are rows as in codec 1: [n][k_row] picks, [n][layers]
 * margins and flags. Expert ids take as many bits as the layer's experts need; they and their rank
 * order are exact. Weights and margins are kept in one of three forms, which the first byte of
 * their blob names.
 *
 * Part of the loadable extension: pure functions, no SQLite. Bytes that come from a file are never
 * trusted: a reader says 0, or -1 if they are not what they must be.
 */
#ifndef TRACE_PACK_H
#define TRACE_PACK_H

#include "trace/layout.h"

enum pack_form {
	PACK_F32, /* as they were, bit for bit */
	PACK_F16, /* IEEE half precision, to nearest: relative error <= 2^-11, below
	             2^-14 absolute 2^-25 */
	PACK_U8   /* weights: 256 steps up to a power of two, error <= half a step; margins: 4 steps to
	             an octave from 2^-22 up, relative error <= 1/8 */
};

/* Bits of an expert id of a layer: 1..10. */
unsigned pack_bits(unsigned n_expert);

/* ---- ids ---- */

size_t pack_layer_bytes(const struct layout *l, size_t i, size_t n); /* layer i */
size_t pack_experts_bytes(const struct layout *l, size_t n);         /* all */
/* ids [layers][cap][k] -> out; returns pack_experts_bytes(). */
size_t pack_experts(const struct layout *l, size_t n, size_t cap, const uint16_t *ids,
	unsigned char *out);
/* in has pack_experts_bytes(). Ids are not checked against n_expert. */
void unpack_experts(const struct layout *l, size_t n, const unsigned char *in, uint16_t *rows);
/* One layer's ids: in [len] -> out [count], where count * bits fit into len bytes. */
void unpack_ids(const unsigned char *in, size_t len, unsigned bits, size_t count, uint16_t *out);

/* ---- flags ---- */

void pack_flags(const struct layout *l, size_t n, size_t cap, const uint8_t *flags,
	unsigned char *out);
void unpack_flags(const struct layout *l, size_t n, const unsigned char *in, uint8_t *rows);

/* ---- weights and margins ---- */

size_t pack_weights_most(const struct layout *l, size_t n); /* room that any form needs */
/* w [layers][cap][k] -> out; returns the bytes. What a form cannot hold (NaN, negative weights,
 * above 65504) is written as PACK_F32 instead. */
size_t pack_weights(const struct layout *l, size_t n, size_t cap, const float *w,
	enum pack_form form, unsigned char *out);
int unpack_weights(const struct layout *l, size_t n, const unsigned char *in, size_t len,
	float *rows);
/* Layer i alone: out [n][k]. What lies before and behind it is only looked at as far as it
 * takes. */
int unpack_weights_layer(const struct layout *l, size_t i, size_t n, const unsigned char *in,
	size_t len, float *out);

size_t pack_margins_most(const struct layout *l, size_t n);
size_t pack_margins(const struct layout *l, size_t n, size_t cap, const float *m,
	enum pack_form form, unsigned char *out);
int unpack_margins(const struct layout *l, size_t n, const unsigned char *in, size_t len,
	float *rows);
int unpack_margins_layer(const struct layout *l, size_t i, size_t n, const unsigned char *in,
	size_t len, float *out); /* layer i alone: out [n] */

#endif
