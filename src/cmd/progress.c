/* progress.c - see progress.h. ASCII only, 79 columns at most. */
#include "cmd/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define BAR 24

static void draw(const struct progress *p, uint64_t done, const char *note, double s)
{
	double share = p->total ? (double)done / (double)p->total : 1,
		rate = s > 0 ? (double)done / s : 0;
	double left = rate > 0 && done < p->total ? (double)(p->total - done) / rate : 0;
	int fill = (int)(share * BAR);
	char bar[BAR + 1], safe[13] = "";

	for (size_t i = 0; i < 12 && note[i]; i++)
		safe[i] = note[i] >= 0x20 && note[i] < 0x7f ? note[i] : '?';

	memset(bar, '-', BAR);
	memset(bar, '#', (size_t)(fill < 0 ? 0 : fill > BAR ? BAR : fill));
	bar[BAR] = 0;
	fprintf(stderr, "\r%s [%s] %3.0f %%  %.0f/s  %.0fs left  %-12s", p->what, bar, 100 * share,
		rate, left < 999999 ? left : 999999, safe);
	fflush(stderr);
}

void progress_start(struct progress *p, const char *what, uint64_t total)
{
	p->what = what;
	p->total = total;
	p->start = clock_mono();
	p->last = 0;
	p->tty = isatty(STDERR_FILENO);
}

void progress_to(struct progress *p, uint64_t done, const char *note)
{
	int64_t now = clock_mono();

	if (!p->tty || now - p->last < 100000000)
		return;
	p->last = now;
	draw(p, done, note, (double)(now - p->start) * 1e-9);
}

void progress_stop(struct progress *p)
{
	if (p->tty)
		fprintf(stderr, "\r\x1b[K");
}

void progress_end(struct progress *p, uint64_t done)
{
	double s = (double)(clock_mono() - p->start) * 1e-9;

	progress_stop(p);
	fprintf(stderr, "%s: %llu tokens in %.1f s, %.0f tokens/s\n", p->what, (unsigned long long)done,
		s, s > 0 ? (double)done / s : 0.0);
}
