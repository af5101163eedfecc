/*
 * test_event.c - events out of a view, and the canonical bytes against bytes written by hand from
 * the drawing in docs/TRACE.md.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "event/event.h"

/* k = 2 of 3 experts, edited, with logits: every field differs from every other. */
static const unsigned char golden[] = {
	0x01, 0x03, 0x01, 0x02,
	0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
	0x00, 0x00, 0x10, 0x01,
	0xff, 0xff, 0xff, 0xfe,
	0x00, 0x07, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00,
	0x3e, 0x80, 0x00, 0x00,                         /* 0.25 */
	0x00, 0x02, 0x00, 0x00,
	0x3f, 0x40, 0x00, 0x00, 0x3e, 0x80, 0x00, 0x00, /* 0.75 0.25 */
	0x00, 0x01, 0x00, 0x02,
	0x3f, 0x80, 0x00, 0x00, 0xff, 0x80, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, /* 1 -inf 2 */
};
static const uint16_t g_experts[] = { 2, 0 }, g_before[] = { 1, 2 };
static const float g_weights[] = { 0.75f, 0.25f };

static struct moe_event golden_event(const float *logits)
{
	return (struct moe_event){ .seq = 0x0102030405060708u, .pos = 0x1001, .token = -2, .layer = 7,
		.n_expert = 3, .k = 2, .phase = MOE_DECODE, .flags = MOE_EV_EDITED, .margin = 0.25f,
		.experts = g_experts, .weights = g_weights, .before = g_before, .logits = logits };
}

static void test_golden(void **state)
{
	const float logits[] = { 1, -INFINITY, 2 };
	struct moe_event ev = golden_event(logits), back;
	static struct event_store store;
	unsigned char out[EVENT_MAX_BYTES];
	struct moe_err e;
	size_t used;

	(void)state;
	assert_int_equal(event_bytes(&ev), sizeof golden);
	assert_int_equal(event_encode(&ev, out, sizeof out, &e), sizeof golden);
	assert_memory_equal(out, golden, sizeof golden);
	assert_int_equal(event_encode(&ev, out, sizeof golden - 1, &e), 0);
	assert_int_equal(event_decode(golden, sizeof golden, &store, &back, &used, &e), 0);
	assert_int_equal(used, sizeof golden);
	assert_int_equal(back.seq, ev.seq);
	assert_int_equal(back.token, -2);
	assert_int_equal(back.experts[0], 2);
	assert_int_equal(back.before[1], 2);
	assert_true(back.weights[0] == 0.75f && back.margin == 0.25f);
	assert_true(isinf(back.logits[1]) && back.logits[1] < 0);
}

/* Cut at every byte, and one field broken at a time: always an error, never a read beyond. */
static void test_hostile(void **state)
{
	static const struct { size_t at; unsigned char v; const char *why; } bad[] = {
		{ 0, 0, "version" }, { 0, 2, "version" }, { 1, 4, "unknown bits" }, { 2, 2, "phase" },
		{ 3, 4, "unknown bits" }, { 20, 2, "layer" }, { 22, 8, "experts" }, { 23, 0, "experts" },
		{ 25, 0, "picks" }, { 25, 4, "picks" }, { 26, 1, "unknown bits" },
		{ 27, 1, "unknown bits" },
		{ 33, 3, "expert 3 of 3" }, { 45, 9, "expert 9 of 3" },
	};
	static struct event_store store;
	struct moe_event ev;
	struct moe_err e;
	size_t used;

	(void)state;
	for (size_t n = 0; n < sizeof golden; n++) {
		unsigned char *p = malloc(n ? n : 1); /* exact, so that a sanitizer sees one byte too far */

		memcpy(p, golden, n);
		assert_int_equal(event_decode(p, n, &store, &ev, &used, &e), -1);
		free(p);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		unsigned char p[sizeof golden];

		memcpy(p, golden, sizeof p);
		p[bad[i].at] = bad[i].v;
		assert_int_equal(event_decode(p, sizeof p, &store, &ev, &used, &e), -1);
		if (!strstr(e.msg, bad[i].why))
			fail_msg("byte %zu = %d: %s", bad[i].at, bad[i].v, e.msg);
	}
}

/* What decodes encodes to the same bytes again: random events, and random damage. */
static void test_round_trip(void **state)
{
	static struct event_store a, b;
	unsigned char out[EVENT_MAX_BYTES], again[EVENT_MAX_BYTES];
	struct moe_event ev, back;
	struct moe_err e;
	struct rng r;
	size_t n, used, ok = 0;

	(void)state;
	rng_seed(&r, 7);
	for (int round = 0; round < 300; round++) {
		memset(&ev, 0, sizeof ev);
		ev.seq = rng_u64(&r);
		ev.pos = (uint32_t)rng_u64(&r);
		ev.token = (int32_t)rng_u64(&r);
		ev.layer = (uint16_t)rng_below(&r, MOE_MAX_LAYER);
		ev.n_expert = (uint16_t)(1 + rng_below(&r, round % 3 ? 64 : MOE_MAX_EXPERT));
		ev.k = (uint16_t)(1 + rng_below(&r, ev.n_expert));
		ev.phase = round & 1;
		ev.flags = round & 3;
		for (size_t i = 0; i < MOE_MAX_EXPERT; i++) {
			a.experts[i] = (uint16_t)rng_below(&r, ev.n_expert);
			a.before[i] = (uint16_t)rng_below(&r, ev.n_expert);
			a.weights[i] = (float)rng_unit(&r);
			a.logits[i] = (float)rng_unit(&r) - 0.5f;
		}
		ev.experts = a.experts;
		ev.weights = a.weights;
		ev.before = round & 2 ? a.before : NULL;
		ev.logits = round & 4 ? a.logits : NULL;
		n = event_encode(&ev, out, sizeof out, &e);
		assert_int_equal(n, event_bytes(&ev));
		assert_int_equal(event_decode(out, n, &b, &back, &used, &e), 0);
		assert_int_equal(used, n);
		assert_int_equal(event_encode(&back, again, sizeof again, &e), n);
		assert_memory_equal(out, again, n);
		for (int i = 0; i < 20; i++) {
			out[rng_below(&r, n)] ^= (unsigned char)(1u << rng_below(&r, 8));
			if (event_decode(out, n, &b, &back, &used, &e))
				continue;
			ok++;
			assert_true(used <= n);
			assert_int_equal(event_encode(&back, again, sizeof again, &e), used);
			assert_memory_equal(out, again, used);
		}
	}
	assert_true(ok > 0);
}

static void test_view(void **state)
{
	const uint64_t seq[] = { 5, 5 };
	const uint32_t pos[] = { 10, 11 };
	const int32_t token[] = { 100, 101 };
	const uint16_t experts[] = { 1, 0, 2, 3 }, before[] = { 1, 0, 3, 2 };
	const float weights[] = { .6f, .4f, .7f, .3f }, margin[] = { .1f, .2f };
	const float logits[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	const uint8_t flags[] = { 0, MOE_EV_EDITED };
	struct moe_route_view v = { .layer = 3, .n_expert = 4, .k = 2, .phase = MOE_PREFILL, .n_tok = 2,
		.seq = seq, .pos = pos, .token = token, .experts = experts, .weights = weights,
		.margin = margin, .logits = logits, .flags = flags, .before = before };
	struct moe_event ev;

	(void)state;
	moe_event_at(&v, 1, &ev);
	assert_int_equal(ev.pos, 11);
	assert_int_equal(ev.token, 101);
	assert_int_equal(ev.experts[0], 2);
	assert_int_equal(ev.before[0], 3);
	assert_true(ev.logits[3] == 7 && ev.weights[1] == .3f && ev.margin == .2f);
	moe_event_at(&v, 0, &ev);
	assert_null(ev.before); /* nothing was edited here */
	v.logits = NULL;
	moe_event_at(&v, 0, &ev);
	assert_null(ev.logits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden), cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_view),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
