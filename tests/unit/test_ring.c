/* test_ring.c - the ring between a producer and a consumer: the reserve, order, the end. */
#include <pthread.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
