/*
 * refresh.c - what one refresh of the dashboard costs, by itself: CPU time of reading the figures
 * and alarms again and of drawing each screen, without threads, terminal and budget.
 *
 *	build/tests/refresh DB [--times 20] [--pause 500]
 *
 * The first load is not part of it. On a finished database nothing has changed at a refresh (and
 * the dashboard would not even read); on a live one the writer goes on during --pause milliseconds.
 * Prints medians and maxima in milliseconds. Drawing is into a grid of 110 x 32 that is not shown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/opt.h"
#include "tui/panel.h"

static long long times = 20, pause_ms = 500;
static const struct opt opts[] = {
	{ .name = "times", .kind = OPT_INT, .dst = &times, .arg = "N", .help = "refreshes", .min = 1,
		.max = 1e4 },
	{ .name = "pause", .kind = OPT_INT, .dst = &pause_ms, .arg = "MS", .help = "between them",
		.min = 0, .max = 1e5 },
	{ 0 },
};

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return 1e3 * (double)t.tv_sec + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(const char *what, double *ms)
{
	qsort(ms, (size_t)times, sizeof *ms, by_value);
	printf("%-9s median %7.3f ms, most %7.3f ms of CPU time\n", what, ms[times / 2], ms[times - 1]);
}

static int load(struct tui_source *s, struct tui_data *d, struct tui_alarms *a, double ms[2],
	struct moe_err *e)
{
	struct tui_want want = { .domain = -1 };
	double t0 = cpu_ms(), t1;

	if (tui_data_load(s, &want, d, e))
		return -1;
	t1 = cpu_ms();
	if (tui_alarms_load(s, &want, a, e)) {
		tui_data_free(d);
		return -1;
	}
	ms[0] = t1 - t0;
	ms[1] = cpu_ms() - t1;
	return 0;
}

static double draw_all(struct tui_grid *g, struct tui_state *st, struct tui_data *d,
	struct tui_alarms *a)
{
	struct tui_ctx c = { .g = g, .s = st, .d = d, .alarms = &a->list };
	double most = 0, t;

	for (st->screen = 0; tui_panels[st->screen]; st->screen++) {
		t = cpu_ms();
		tui_render(&c);
		t = cpu_ms() - t;
		most = t > most ? t : most;
	}
	return most;
}

static int measure(struct tui_source *s, struct tui_grid *g, struct moe_err *e)
{
	double *ms[3], one[2];
	struct tui_state st = { .want = { .domain = -1 }, .pos = -1, .path = "" };
	int rc = 0;

	for (int i = 0; i < 3; i++)
		ms[i] = calloc((size_t)times, sizeof **ms);
	for (long long i = -1; i < times && !rc; i++) {
		struct timespec t = { pause_ms / 1000, pause_ms % 1000 * 1000000 };
		struct tui_data d;
		struct tui_alarms a;

		if (i >= 0)
			nanosleep(&t, NULL);
		rc = load(s, &d, &a, one, e);
		if (rc)
			break;
		st.now = clock_wall();
		if (i >= 0) {
			ms[0][i] = one[0], ms[1][i] = one[1];
			ms[2][i] = draw_all(g, &st, &d, &a);
		} else {
			printf("first     figures %.3f ms, alarms %.3f ms of CPU time\n", one[0], one[1]);
		}
		tui_alarms_free(&a);
		tui_data_free(&d);
	}
	for (int i = 0; i < 3; i++) {
		if (!rc)
			report((const char *const[]){ "figures", "alarms", "drawing" }[i], ms[i]);
		free(ms[i]);
	}
	return rc;
}

int main(int argc, char **argv)
{
	struct tui_source s;
	struct tui_grid g = { 0 };
	struct moe_err e = { 0 };
	int rc = 1, n;

	if (opt_parse(opts, argc, argv, &n, &e) || n != 1 || tui_source_init(&s, NULL, &e)) {
		fprintf(stderr, "refresh: %s\n", e.msg[0] ? e.msg : "name one database");
		return 2;
	}
	s.r = reader_open(argv[0], &e);
	if (s.r && !tui_grid_init(&g, 110, 32, (struct tui_look){ .utf8 = 1, .colours = 256 }))
		rc = measure(&s, &g, &e) ? 1 : 0;
	if (rc)
		fprintf(stderr, "refresh: %s\n", e.msg);
	tui_grid_free(&g);
	tui_source_free(&s);
	if (s.r)
		reader_close(s.r);
	return rc;
}
