/*
 * event.h - the canonical bytes of a routing decision, both ways.
 *
 * One decision has exactly one encoding, the same on every machine: big-endian, no padding that may
 * vary, every unused bit zero. What is hashed or compared over time are these bytes, never rows or
 * JSON. Version 1 (docs/TRACE.md draws it):
 *
 *	 0  u8   version = 1
 *	 1  u8   parts: bit 0 logits follow, bit 1 `before` follows
 *	 2  u8   phase: 0 prefill, 1 decode
 *	 3  u8   flags: MOE_EV_NAN, MOE_EV_EDITED
 *	 4  u64  seq
 *	12  u32  pos
 *	16  i32  token
 *	20  u16  layer
 *	22  u16  n_expert   1..1024
 *	24  u16  k          1..n_expert
 *	26  u16  zero
 *	28  f32  margin     bits as they are
 *	32  u16  experts[k], then f32 weights[k], then u16 before[k] if present,
 *	         then f32 logits[n_expert] if present
 */
#ifndef EVENT_EVENT_H
#define EVENT_EVENT_H

#include <moescope/event.h>

#define EVENT_VERSION 1
#define EVENT_HEAD 32
#define EVENT_MAX_BYTES (EVENT_HEAD + MOE_MAX_EXPERT * (2 + 4 + 2 + 4))

/* Where a decoded event's arrays live. */
struct event_store {
	uint16_t experts[MOE_MAX_EXPERT], before[MOE_MAX_EXPERT];
	float weights[MOE_MAX_EXPERT], logits[MOE_MAX_EXPERT];
};

/* Bytes that the encoding takes; at most EVENT_MAX_BYTES. */
size_t event_bytes(const struct moe_event *ev);

/* Encode into out[size]; returns the length, or 0 with e filled in if the event breaks a bound
 * above or does not fit. */
size_t event_encode(const struct moe_event *ev, unsigned char *out, size_t size,
	struct moe_err *e);

/* Decode one event from in[size]; *used = its length. The event's pointers go into store. Refuses
 * what event_encode() would not have written, with the offset and the numbers. */
int event_decode(const unsigned char *in, size_t size, struct event_store *store,
	struct moe_event *out, size_t *used, struct moe_err *e);

#endif
