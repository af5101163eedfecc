/* fmt.c - see fmt.h. */
#include "tui/fmt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY_NS INT64_C(86400000000000)

static const char none[] = "\xe2\x80\x93"; /* en dash: nothing to say */

char *tui_fmt_count(char *out, size_t size, uint64_t n)
{
	char digits[24];
	size_t len, j = 0;

	if (n >= 10000000) {
		static const struct { double unit; const char *name; } big[] = {
			{ 1e18, "E" }, { 1e15, "P" }, { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" } };
		size_t i = 0;
		double x;

		while ((double)n < big[i].unit)
			i++;
		x = (double)n / big[i].unit;
		snprintf(out, size, "%.*f %s", x < 10 ? 2 : x < 100 ? 1 : 0, x, big[i].name);
		return out;
	}
	len = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
	for (size_t i = 0; i < len && j + 2 < size; i++) {
		if (i && (len - i) % 3 == 0)
			out[j++] = ',';
		out[j++] = digits[i];
	}
	out[j] = 0;
	return out;
}

char *tui_fmt_rate(char *out, size_t size, double x)
{
	if (isnan(x) || x < 0)
		snprintf(out, size, "%s", none);
	else if (x < 10)
		snprintf(out, size, "%.1f", x);
	else if (x < 1e18)
		tui_fmt_count(out, size, (uint64_t)(x + .5));
	else
		snprintf(out, size, "%.2g", x);
	return out;
}

char *tui_fmt_rel(char *out, size_t size, double x)
{
	if (isnan(x))
		snprintf(out, size, "%s", none);
	else
		snprintf(out, size, "%.*f", x < 9.995 ? 2 : x < 99.95 ? 1 : 0, x);
	return out;
}

char *tui_fmt_percent(char *out, size_t size, double x)
{
	x *= 100;
	if (isnan(x))
		snprintf(out, size, "%s", none);
	else
		snprintf(out, size, "%.*f %%", x == 0 ? 0 : x < .995 ? 2 : x < 9.95 ? 1 : 0, x);
	return out;
}

char *tui_fmt_unit(char *out, size_t size, double x)
{
	if (isnan(x))
		snprintf(out, size, "%s", none);
	else if (x >= 0 && x < .995)
		snprintf(out, size, ".%02d", (int)(x * 100 + .5));
	else
		snprintf(out, size, "%.2f", x);
	return out;
}

char *tui_fmt_clock(char *out, size_t size, double s)
{
	long long t = isnan(s) || s < 0 || s > 1e12 ? 0 : (long long)s;
	int h = (int)(t / 3600 % 24), m = (int)(t / 60 % 60), sec = (int)(t % 60);

	if (t >= 86400)
		snprintf(out, size, "%lld d %02d:%02d:%02d", t / 86400, h, m, sec);
	else
		snprintf(out, size, "%02d:%02d:%02d", h, m, sec);
	return out;
}

char *tui_fmt_ago(char *out, size_t size, int64_t ns)
{
	int64_t s = ns < 0 ? 0 : ns / 1000000000;

	if (s < 120)
		snprintf(out, size, "%d s", (int)s);
	else if (s < 7200)
		snprintf(out, size, "%d min", (int)(s / 60));
	else if (s < 48 * 3600)
		snprintf(out, size, "%d h", (int)(s / 3600));
	else
		snprintf(out, size, "%lld d", (long long)(s / 86400));
	return out;
}

int64_t tui_elapsed(int64_t now, int64_t then)
{
	return then >= now ? 0 : then > 0 ? now - then : now;
}

char *tui_fmt_time(char *out, size_t size, int64_t t, int64_t now)
{
	time_t sec = (time_t)(t / 1000000000);
	int64_t age = tui_elapsed(now, t);
	struct tm tm;

	if (!localtime_r(&sec, &tm)) {
		snprintf(out, size, "%s", none);
		return out;
	}
	strftime(out, size, age > 300 * DAY_NS ? "%Y-%m-%d" : age > DAY_NS ? "%b %d %H:%M" :
		"%H:%M:%S", &tm);
	return out;
}
