/* test_rapl.c - energy counters, in a tree that the test makes and whose counters it moves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rapl.h"
#include "test_util.h"

static char root[64];

static void put(const char *zone, const char *file, const char *text)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", root, zone);
	mkdir(path, 0700);
	snprintf(path, sizeof path, "%s/%s/%s", root, zone, file);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void zone(const char *dir, const char *name, const char *energy, const char *range)
{
	put(dir, "name", name);
	put(dir, "energy_uj", energy);
	put(dir, "max_energy_range_uj", range);
}

static int start(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/moescope-rapl-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int stop(void **state)
{
	char cmd[100];

	(void)state;
	snprintf(cmd, sizeof cmd, "rm -rf %s", root);
	return system(cmd);
}

/* Two packages; their parts, the platform and the second way to the same packages do not count. */
static void test_packages(void **state)
{
	struct moe_err e = { 0 };
	struct rapl r;
	uint64_t uj;

	(void)state;
	zone("intel-rapl:0", "package-0\n", "1000\n", "262143328850\n");
	zone("intel-rapl:1", "package-1\n", "5000000\n", "262143328850\n");
	zone("intel-rapl:2", "psys\n", "1\n", "262143328850\n");
	zone("intel-rapl:0:0", "core\n", "1\n", "262143328850\n");
	zone("intel-rapl-mmio:0", "package-0\n", "1\n", "262143328850\n");
	put("intel-rapl", "enabled", "1\n");
	assert_int_equal(rapl_open(&r, root, &e), 0);
	assert_int_equal(r.n, 2);
	assert_string_equal(r.zone[0].name, "package-0");
	assert_string_equal(r.zone[1].name, "package-1");
	assert_int_equal(rapl_look(&r, &uj, &e), 0);
	assert_int_equal(uj, 0);
	put("intel-rapl:0", "energy_uj", "1500\n");
	put("intel-rapl:1", "energy_uj", "5000007\n");
	put("intel-rapl:2", "energy_uj", "900000\n");
	put("intel-rapl-mmio:0", "energy_uj", "900000\n");
	assert_int_equal(rapl_look(&r, &uj, &e), 0);
	assert_int_equal(uj, 507);
	assert_int_equal(rapl_look(&r, &uj, &e), 0); /* only what came since the last look */
	assert_int_equal(uj, 0);
}

/* 262143328850 - 262143328000 = 850 up to the end, and 150 from the begin. */
static void test_wrap(void **state)
{
	struct moe_err e = { 0 };
	struct rapl r;
	uint64_t uj;

	(void)state;
	zone("intel-rapl:0", "package-0", "262143328000", "262143328850");
	assert_int_equal(rapl_open(&r, root, &e), 0);
	put("intel-rapl:0", "energy_uj", "150");
	assert_int_equal(rapl_look(&r, &uj, &e), 0);
	assert_int_equal(uj, 1000);
	put("intel-rapl:0", "energy_uj", "151");
	assert_int_equal(rapl_look(&r, &uj, &e), 0);
	assert_int_equal(uj, 1);
	zone("intel-rapl:0", "package-0", "900", "800"); /* beyond its own end: a wrap cannot be told */
	assert_int_equal(rapl_open(&r, root, &e), 0);
	put("intel-rapl:0", "energy_uj", "5");
	assert_int_equal(rapl_look(&r, &uj, &e), -1);
	assert_non_null(strstr(e.msg, "from 900 to 5, but it ends at 800"));
}

static void refused(const char *words)
{
	struct moe_err e = { 0 };
	struct rapl r;

	assert_int_equal(rapl_open(&r, root, &e), -1);
	if (!strstr(e.msg, words))
		fail_msg("'%s' does not say '%s'", e.msg, words);
}

static void test_refused(void **state)
{
	struct moe_err e = { 0 };
	char long_name[400], path[100];
	struct rapl r;
	uint64_t uj;

	(void)state;
	refused("no counter of a processor package");
	zone("intel-rapl:0", "package-0", "12x", "100");
	refused("'12x' is no counter");
	zone("intel-rapl:0", "package-0", "-5", "100");
	refused("'-5' is no counter");
	zone("intel-rapl:0", "package-0", "99999999999999999999999", "100");
	refused("is no counter");
	zone("intel-rapl:0", "package-0", "", "100");
	refused("nothing in it to read");
	zone("intel-rapl:0", "package-0", "5", "100");
	snprintf(path, sizeof path, "%s/intel-rapl:0/max_energy_range_uj", root);
	unlink(path);
	refused("max_energy_range_uj: No such file");
	snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", root);
	if (geteuid()) { /* nothing is forbidden to root */
		zone("intel-rapl:0", "package-0", "5", "100");
		chmod(path, 0);
		refused("energy_uj: Permission denied");
		chmod(path, 0600);
	}
	zone("intel-rapl:0", "package-0", "5", "100"); /* it goes while it is watched */
	assert_int_equal(rapl_open(&r, root, &e), 0);
	unlink(path);
	assert_int_equal(rapl_look(&r, &uj, &e), -1);
	memset(long_name, 'x', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = 0;
	assert_int_equal(rapl_open(&r, long_name, &e), -1);
	assert_int_equal(rapl_open(&r, "/nonexistent/powercap", &e), -1);
	assert_non_null(strstr(e.msg, "has no powercap tree"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_packages, start, stop),
		cmocka_unit_test_setup_teardown(test_wrap, start, stop),
		cmocka_unit_test_setup_teardown(test_refused, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
