/*
 * audit_fill.c - makes a log long: appends heartbeats to a database's audit log, for measuring.
 *
 *	build/moescope audit init big.db --origin example.org/big --key /elsewhere/key
 *	build/tests/audit_fill big.db 1000000
 *	time build/moescope-verify --pubkey /elsewhere/key.pub --headers big.db
 */
#include <stdio.h>
#include <stdlib.h>

#include "audit/admin.h"
#include "base/clock.h"

int main(int argc, char **argv)
{
	long long n = argc == 3 ? atoll(argv[2]) : 0;
	struct moe_err e = { 0 };
	struct admin a;
	struct buf rec;
	int64_t t0;
	int bad = 0;

	if (n <= 0) {
		fprintf(stderr, "usage: audit_fill DB LEAVES\n");
		return 2;
	}
	if (admin_open(&a, argv[1], NULL, 0, &e)) {
		fprintf(stderr, "audit_fill: %s\n", e.msg);
		return 3;
	}
	buf_init(&rec, 256);
	record_begin(&rec, "heartbeat");
	t0 = clock_mono();
	for (long long i = 0; i < n && !bad; i++)
		bad = log_record(&a.log, LEAF_HEARTBEAT, 0, 0, NULL, &rec, &e);
	printf("%lld leaves, %.2f us each\n", n, (double)(clock_mono() - t0) / 1e3 / (double)n);
	buf_free(&rec);
	if (admin_close(&a, bad, &e) || bad) {
		fprintf(stderr, "audit_fill: %s\n", e.msg);
		return 3;
	}
	return 0;
}
