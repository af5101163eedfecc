/* test_tui_layout.c - layout, scrolling, formats and the scale of the dashboard: pure functions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tui/data.h"
#include "tui/fmt.h"
#include "tui/layout.h"

static int inside(struct tui_rect r, int x, int y, int w, int h)
{
	return r.w <= 0 || r.h <= 0 ||
		(r.x >= x && r.y >= y && r.x + r.w <= x + w && r.y + r.h <= y + h);
}

static int overlap(struct tui_rect a, struct tui_rect b)
{
	return a.w > 0 && a.h > 0 && b.w > 0 && b.h > 0 && a.x < b.x + b.w && b.x < a.x + a.w &&
		a.y < b.y + b.h && b.y < a.y + a.h;
}

static void check_rects(const struct tui_rect *r, size_t n, struct tui_rect in)
{
	for (size_t i = 0; i < n; i++) {
		assert_true(inside(r[i], in.x, in.y, in.w, in.h));
		for (size_t j = 0; j < i; j++)
			assert_false(overlap(r[i], r[j]));
	}
}

static void frame_never_overlaps(void **state)
{
	(void)state;
	for (int w = 1; w <= 300; w += w < 90 ? 1 : 13)
		for (int h = 1; h <= 120; h += h < 40 ? 1 : 7) {
			struct tui_layout l = tui_layout(w, h, (w + h) % 2);
			struct tui_rect r[] = { l.head, l.tabs, l.body, l.time, l.foot };

			check_rects(r, 5, (struct tui_rect){ 0, 0, w, h });
			assert_true(l.body.h >= 1);
			assert_int_equal(l.head.h + l.tabs.h + l.body.h + l.time.h + l.foot.h, h);
		}
}

static void overview_never_overlaps(void **state)
{
	static const int layers[] = { 0, 1, 4, 6, 16, 61, 512 },
		experts[] = { 1, 8, 16, 64, 256, 1024 };

	(void)state;
	for (int w = 1; w <= 260; w += w < 100 ? 1 : 17)
		for (int h = 1; h <= 90; h += h < 40 ? 1 : 9)
			for (size_t i = 0; i < 7; i++)
				for (size_t j = 0; j < 6; j++) {
					struct tui_rect body = tui_layout(w, h, 0).body;
					struct tui_overview o = tui_layout_overview(body, layers[i], experts[j],
						(int)i, (int)(i + j) % 9);
					struct tui_rect r[] = { o.verdict, o.balance, o.alarms, o.heat, o.domains };

					check_rects(r, 5, body);
				}
}

static void card_never_overlaps(void **state)
{
	struct tui_card k;

	(void)state;
	for (int w = 1; w <= 260; w++)
		for (int h = 1; h <= 90; h++) {
			struct tui_rect body = tui_layout(w, h, h % 2).body;

			k = tui_layout_card(body);
			check_rects((struct tui_rect[]){ k.head, k.domains, k.tokens, k.peers, k.next,
				k.history }, 6, body);
		}
	k = tui_layout_card(tui_layout(80, 24, 0).body); /* everything is there */
	assert_true(k.domains.h >= 6 && k.tokens.h >= 6 && k.peers.h >= 6 && k.next.h >= 6 &&
		k.history.h >= 4);
}

static void overview_shows_all_at_80x24(void **state)
{
	struct tui_overview o = tui_layout_overview(tui_layout(80, 24, 0).body, 6, 16, 2, 2);

	(void)state;
	assert_true(o.verdict.h == 2);
	assert_true(o.balance.w >= 36 && o.balance.h >= 8); /* six layers and the frame */
	assert_true(o.alarms.w >= 36 && o.alarms.h >= 5);
	assert_true(o.heat.w >= 5 + 16 * 2 + 2 && o.heat.h >= 10); /* axis, six layers, scale */
	assert_true(o.domains.w >= 36 && o.domains.h >= 5);
}

static void map_fits_and_reaches_everything(void **state)
{
	(void)state;
	for (int w = 0; w <= 300; w++)
		for (int n = 1; n <= 1024; n = n < 20 ? n + 1 : n * 2 - n / 3)
			for (int zoom = -6; zoom <= 6; zoom++) {
				struct tui_mapfit m = tui_layout_map(w, n, 5, zoom);

				assert_true(m.cell >= 1 && m.cell <= 6 && m.group >= 1);
				assert_true(m.visible <= m.n_col);
				if (w > 5) {
					assert_true(m.visible >= 1);
					assert_true(5 + m.visible * m.cell <= w);
					assert_true(m.n_col * m.group >= n && (m.n_col - 1) * m.group < n);
				}
				if (w > 5 && zoom <= 0)
					assert_int_equal(m.visible, m.n_col);
			}
}

static void scroll_keeps_the_cursor_in_view(void **state)
{
	(void)state;
	for (int n = 1; n < 40; n++)
		for (int visible = 1; visible < 30; visible++)
			for (int cursor = 0, first = 0; cursor < n; cursor++) {
				first = tui_scroll(first, cursor, visible, n);
				assert_true(first >= 0 && cursor >= first && cursor < first + visible);
				assert_true(n <= visible ? first == 0 : first + visible <= n);
			}
	assert_int_equal(tui_scroll(3, 5, 4, 10), 3); /* in view: nothing moves */
	assert_int_equal(tui_scroll(3, 5, 0, 10), 0);
}

static void scale_is_symmetric_around_fair_share(void **state)
{
	(void)state;
	assert_int_equal(tui_heat_level(1), TUI_HEAT_FAIR);
	assert_int_equal(tui_heat_level(0), 0);
	assert_int_equal(tui_heat_level(1e9), TUI_HEAT_LEVELS - 1);
	assert_int_equal(tui_heat_level(NAN), -1);
	for (double x = 1.02; x < 40; x *= 1.03) /* 0.71 and 0.87 are rounded: stay off the bounds */
		if (fabs(x - 1.41) > .03 && fabs(x - 1.15) > .03)
			assert_int_equal(tui_heat_level(x) - TUI_HEAT_FAIR,
				TUI_HEAT_FAIR - tui_heat_level(1 / x - 1e-9));
}

static void levels_differ_without_colour(void **state)
{
	struct tui_look looks[] = { { 1, 0 }, { 0, 0 }, { 1, 8 }, { 0, 16 } };

	(void)state;
	for (size_t k = 0; k < 4; k++)
		for (int i = 0; i < TUI_HEAT_LEVELS; i++)
			for (int j = 0; j < i; j++)
				assert_true(tui_heat_glyph(i, looks[k]) != tui_heat_glyph(j, looks[k]));
}

static void numbers_read_well(void **state)
{
	char t[TUI_FMT];

	(void)state;
	assert_string_equal(tui_fmt_count(t, sizeof t, 0), "0");
	assert_string_equal(tui_fmt_count(t, sizeof t, 999), "999");
	assert_string_equal(tui_fmt_count(t, sizeof t, 184220), "184,220");
	assert_string_equal(tui_fmt_count(t, sizeof t, 9999999), "9,999,999");
	assert_string_equal(tui_fmt_count(t, sizeof t, 22106400), "22.1 M");
	assert_string_equal(tui_fmt_count(t, sizeof t, UINT64_MAX), "18.4 E");
	assert_string_equal(tui_fmt_rel(t, sizeof t, 4.1), "4.10");
	assert_string_equal(tui_fmt_rel(t, sizeof t, 12.34), "12.3");
	assert_string_equal(tui_fmt_rel(t, sizeof t, 256), "256");
	assert_string_equal(tui_fmt_percent(t, sizeof t, .0625), "6.2 %");
	assert_string_equal(tui_fmt_percent(t, sizeof t, .71), "71 %");
	assert_string_equal(tui_fmt_percent(t, sizeof t, 0), "0 %");
	assert_string_equal(tui_fmt_unit(t, sizeof t, .97), ".97");
	assert_string_equal(tui_fmt_unit(t, sizeof t, .999), "1.00");
	assert_string_equal(tui_fmt_unit(t, sizeof t, NAN), "\xe2\x80\x93");
	assert_string_equal(tui_fmt_clock(t, sizeof t, 151.9), "00:02:31");
	assert_string_equal(tui_fmt_clock(t, sizeof t, 3 * 86400 + 61), "3 d 00:01:01");
	assert_string_equal(tui_fmt_clock(t, sizeof t, -1e300), "00:00:00");
	assert_string_equal(tui_fmt_ago(t, sizeof t, 12 * INT64_C(60000000000)), "12 min");
	assert_string_equal(tui_fmt_ago(t, sizeof t, -5), "0 s");
	tui_fmt_time(t, sizeof t, INT64_MIN, INT64_MAX / 2);
	tui_fmt_rate(t, sizeof t, INFINITY);
	tui_fmt_rel(t, sizeof t, -INFINITY);
	assert_true(strlen(tui_fmt_rel(t, sizeof t, 1e300)) < sizeof t);
}

static void windows_cover_what_they_say(void **state)
{
	struct run_info run = { .bucket_ns = INT64_C(10000000000), .started = 0 };
	int64_t second = 1000000000, a, b;

	(void)state;
	tui_window_buckets(&run, 100, 0, 0, &a, &b);
	assert_true(a == 0 && b == 0); /* whole run */
	tui_window_buckets(&run, 100, 60 * second, 0, &a, &b);
	assert_true(a == 93 && b == 100); /* a full minute before the last, partial bucket */
	tui_window_buckets(&run, 5, 60 * second, 0, &a, &b);
	assert_true(a == 0 && b == 0); /* shorter than the window */
	run.alive = 1; /* live and idle for 1000 s: the window is the last minute, not the last data */
	tui_window_buckets(&run, 100, 60 * second, 2000 * second, &a, &b);
	assert_true(a == 194 && b == 201);
	run.bucket_ns = 0;
	tui_window_buckets(&run, 5, 60 * second, 0, &a, &b);
	assert_true(a == 0 && b == 0);
}

static void capacity_counts_the_overflow(void **state)
{
	/* 4 experts, top-1, 100 tokens: capacity ceil(25 * 1.25) = 32;
	 * 60 and 34 are over by 28 and 2 */
	uint64_t counts[] = { 60, 34, 6, 0 };
	struct view_layer l = { .n_expert = 4, .k = 1, .tokens = 100, .counts = counts };

	(void)state;
	assert_true(fabs(tui_over_capacity(&l, 1.25) - .30) < 1e-12);
	l.tokens = 0;
	assert_true(isnan(tui_over_capacity(&l, 1.25)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_never_overlaps),
		cmocka_unit_test(overview_never_overlaps),
		cmocka_unit_test(card_never_overlaps),
		cmocka_unit_test(overview_shows_all_at_80x24),
		cmocka_unit_test(map_fits_and_reaches_everything),
		cmocka_unit_test(scroll_keeps_the_cursor_in_view),
		cmocka_unit_test(scale_is_symmetric_around_fair_share),
		cmocka_unit_test(levels_differ_without_colour),
		cmocka_unit_test(numbers_read_well),
		cmocka_unit_test(windows_cover_what_they_say),
		cmocka_unit_test(capacity_counts_the_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
