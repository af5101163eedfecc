/* num.c - one way to write each kind of number, as HTML; see page.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "reports/page.h"

#define DASH "–"

/* 1234567 -> "1,234,567" */
static void grouped(char *out, size_t size, double v)
{
	char plain[40];
	size_t n, k = 0;

	snprintf(plain, sizeof plain, "%.0f", v);
	n = strlen(plain);
	for (size_t i = 0; i < n && k + 2 < size; i++) {
		if (i && (n - i) % 3 == 0 && plain[i - 1] != '-')
			out[k++] = ',';
		out[k++] = plain[i];
	}
	out[k] = 0;
}

static void scaled(char *out, size_t size, double v, const char *const *name, double base)
{
	int i = 0;

	while (v >= base && name[i + 1])
		v /= base, i++;
	snprintf(out, size, i && v < 99.95 ? "%.1f%s" : "%.0f%s", v, name[i]);
}

static void duration(char *out, size_t size, double s)
{
	if (s < 60)
		snprintf(out, size, "%.1f s", s);
	else if (s < 3600)
		snprintf(out, size, "%d min %d s", (int)s / 60, (int)s % 60);
	else if (s < 86400 * 2)
		snprintf(out, size, "%d h %d min", (int)s / 3600, (int)s % 3600 / 60);
	else
		snprintf(out, size, "%.1f days", s / 86400);
}

static void percent(char *out, size_t size, double v)
{
	if (v > 0 && v < 0.0005)
		snprintf(out, size, "&lt; 0.1 %%");
	else
		snprintf(out, size, v == 0 || v >= 0.9995 ? "%.0f %%" : "%.1f %%", v * 100);
}

struct report_str report_num(enum report_unit u, double v)
{
	static const char *const bytes[] = { " B", " kB", " MB", " GB", " TB", NULL };
	static const char *const amount[] = { "", " thousand", " million", " billion", " trillion",
		NULL };
	struct report_str r;

	if (!isfinite(v)) {
		snprintf(r.s, sizeof r.s, "%s", isnan(v) ? DASH : v < 0 ? "−∞" : "∞");
		return r;
	}
	switch (u) {
	case REPORT_COUNT:
		grouped(r.s, sizeof r.s, v);
		break;
	case REPORT_TIMES:
		snprintf(r.s, sizeof r.s, v < 9.995 ? "%.2f×" : v < 99.95 ? "%.1f×" : "%.0f×", v);
		break;
	case REPORT_PERCENT:
		percent(r.s, sizeof r.s, v);
		break;
	case REPORT_SHARE:
	case REPORT_BITS:
		if (v > 0 && v < 0.0005)
			snprintf(r.s, sizeof r.s, "&lt; 0.001");
		else
			snprintf(r.s, sizeof r.s, "%.3f", v > -0.0005 && v < 0 ? 0 : v);
		break;
	case REPORT_TENTH:
		snprintf(r.s, sizeof r.s, "%.1f", v);
		break;
	case REPORT_SPEED:
		if (v < 99.95)
			snprintf(r.s, sizeof r.s, "%.1f", v);
		else
			grouped(r.s, sizeof r.s, v);
		break;
	case REPORT_CHANCE:
		snprintf(r.s, sizeof r.s, v >= 0.0095 || v == 0 ? "%.2f" : "%.0e", v);
		break;
	case REPORT_SIZE:
		scaled(r.s, sizeof r.s, v, bytes, 1000);
		break;
	case REPORT_AMOUNT:
		scaled(r.s, sizeof r.s, v, amount, 1000);
		break;
	case REPORT_DURATION:
		duration(r.s, sizeof r.s, v);
		break;
	case REPORT_DATE:
		return report_date((int64_t)v);
	}
	return r;
}

struct report_str report_interval(enum report_unit u, double lo, double hi)
{
	struct report_str a = report_num(u, lo), b = report_num(u, hi), r;
	size_t n = strlen(a.s);

	if (u == REPORT_TIMES && n > 2 && !strcmp(a.s + n - 2, "×"))
		n -= 2;
	snprintf(r.s, sizeof r.s, "%.*s–%.30s", n < 30 ? (int)n : 30, a.s, b.s);
	return r;
}

struct report_str report_date(int64_t ns)
{
	struct report_str r = { DASH };
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	if (ns > 0 && gmtime_r(&t, &tm))
		strftime(r.s, sizeof r.s, "%Y-%m-%d %H:%M:%S UTC", &tm);
	return r;
}

struct report_str report_nth(uint64_t n)
{
	static const char *const end[] = { "th", "st", "nd", "rd" };
	struct report_str r = report_num(REPORT_COUNT, (double)n);
	size_t len = strlen(r.s);

	snprintf(r.s + len, sizeof r.s - len, "%s", n % 100 / 10 != 1 && n % 10 < 4 ? end[n % 10] :
		end[0]);
	return r;
}
