/* test_ring.c - the ring between a producer and a consumer: the reserve, order, the end. */
#include <pthread.h>
#include <unistd.h>

#include "test_util.h"

#include "base/ring.h"

static void *consume(void *arg)
{
	struct ring *r = arg;
	uint64_t next = 0;

	for (;;) {
		int closed = ring_closed(r);
		size_t n = ring_wait(r, 3, 1000000);

		for (size_t i = 0; i < n; i++)
			if (*(uint64_t *)ring_at(r, i) != next++)
				return "out of order";
		ring_release(r, n);
		if (closed && !n)
			return next == 100000 ? NULL : "some are missing";
	}
}

static void test_ring(void **state)
{
	struct moe_err e;
	struct ring *r = ring_new(64, 7, &e);
	pthread_t th;
	void *why;

	(void)state;
	for (size_t i = 0; i < 5; i++) { /* the reserve: two stay free */
		assert_non_null(ring_reserve(r, 2, 0));
		ring_publish(r);
	}
	assert_null(ring_reserve(r, 2, 0));
	assert_non_null(ring_reserve(r, 1, 0));
	assert_int_equal(ring_wait(r, 1, 0), 5);
	ring_release(r, 5);
	pthread_create(&th, NULL, consume, r);
	for (uint64_t i = 0; i < 100000; i++) {
		*(uint64_t *)ring_reserve(r, i & 1, 1) = i;
		ring_publish(r);
	}
	ring_close(r);
	pthread_join(th, &why);
	if (why)
		fail_msg("%s", (char *)why);
	ring_stop(r);
	assert_null(ring_reserve(r, 0, 1));
	ring_free(r);
}

static void *count(void *arg)
{
	struct ring *r = arg;
	uintptr_t wakes = 0;

	while (!ring_closed(r)) {
		ring_release(r, ring_wait(r, 3, 3600 * INT64_C(1000000000)));
		wakes++;
	}
	return (void *)wakes;
}

/* A consumer that is held does what it owes first and nothing after; it is woken for what it asked
 * for. */
static void test_hold(void **state)
{
	struct moe_err e;
	struct ring *r = ring_new(64, 7, &e);
	pthread_t th;
	void *wakes;

	(void)state;
	pthread_create(&th, NULL, count, r);
	for (int i = 0; i < 3; i++)
		ring_reserve(r, 0, 1), ring_publish(r);
	ring_hold(r, 1); /* three: that is what it waits for */
	assert_non_null(ring_reserve(r, 6, 0)); /* it has taken them */
	for (int i = 0; i < 4; i++)
		ring_reserve(r, 0, 1), ring_publish(r);
	usleep(20000);
	assert_null(ring_reserve(r, 3, 0)); /* four are still there */
	ring_hold(r, 0);
	assert_non_null(ring_reserve(r, 0, 1));
	ring_hold(r, 1);
	assert_non_null(ring_reserve(r, 6, 0));
	ring_close(r); /* lets a held one go */
	pthread_join(th, &wakes);
	assert_int_equal((uintptr_t)wakes, 3);
	ring_free(r);
}

/* What was released last is filled next, the oldest first, whatever is still full. */
static void test_reuse(void **state)
{
	struct moe_err e;
	struct ring *r = ring_new(64, 100, &e);
	void *p[5];

	(void)state;
	for (int i = 0; i < 5; i++) {
		p[i] = ring_reserve(r, 0, 0);
		assert_ptr_equal(ring_reserve(r, 0, 0), p[i]);
		ring_publish(r);
	}
	assert_int_equal(ring_wait(r, 1, 0), 5);
	ring_release(r, 3);
	for (int i = 0; i < 3; i++) {
		assert_ptr_equal(ring_reserve(r, 0, 0), p[i]);
		ring_publish(r);
	}
	for (int i = 0; i < 5; i++)
		assert_ptr_equal(ring_at(r, (size_t)i), p[(i + 3) % 5]);
	ring_release(r, 5);
	assert_ptr_equal(ring_reserve(r, 0, 0), p[3]);
	ring_free(r);
}

/* Spare blocks change places with those of the ring; what is in them stays. */
static void test_swap(void **state)
{
	struct moe_err e;
	struct ring *r = ring_new(64, 4, &e);
	uint64_t *mine[3], *p, next = 0, *got;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_non_null(mine[i] = ring_spare(r, &e));
	for (uint64_t i = 0; i < 1000; i++) {
		*mine[i % 3] = i;
		assert_non_null(p = ring_reserve(r, 0, 0));
		got = ring_swap(r, mine[i % 3]);
		assert_ptr_equal(got, p);
		mine[i % 3] = got;
		*got = UINT64_MAX; /* nobody reads it */
		if (i % 5 == 4) {
			*(uint64_t *)ring_reserve(r, 0, 0) = UINT64_MAX - 1;
			ring_publish(r);
		}
		for (size_t n = ring_wait(r, 0, 0); n && i % 2; n--, ring_release(r, 1)) {
			p = ring_at(r, 0);
			if (*p == UINT64_MAX - 1)
				continue;
			assert_int_equal(*p, next);
			next++;
		}
	}
	assert_int_equal(next, 1000);
	ring_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_swap),
		cmocka_unit_test(test_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
