/*
 * test_tui_palette.c - can everybody tell the colours apart? Each palette is seen through a model
 * of eyes that lack a receptor: the matrices for full protanopia, deuteranopia and tritanopia of
 * Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision
 * Deficiency", IEEE TVCG 15 (2009), in linear RGB; distances are CIE 1976 dE in L*a*b* (2.3 is just
 * noticeable side by side; Sharma, Digital Color Imaging Handbook).
 */
#include <math.h>

#include "test_util.h"
#include "tui/palette.h"

enum { N_EYES = 4, TRITAN = 3 };
static const double eyes[N_EYES][3][3] = {
	{ { 1, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 } },
	{ { .152286, 1.052583, -.204868 }, { .114503, .786281, .099216 },
		{ -.003882, -.048116, 1.051998 } },
	{ { .367322, .860646, -.227968 }, { .280085, .672501, .047413 },
		{ -.011820, .042940, .968881 } },
	{ { 1.255528, -.076749, -.178779 }, { -.078411, .930809, .147602 },
		{ .004733, .691367, .303900 } },
};

static double linear(double c)
{
	return c <= .04045 ? c / 12.92 : pow((c + .055) / 1.055, 2.4);
}

static double curve(double x)
{
	return x > 216. / 24389 ? cbrt(x) : (24389. / 27 * x + 16) / 116;
}

/* sRGB, white of D65. */
static void lab(uint32_t rgb, int eye, double out[3])
{
	static const double xyz[3][3] = { { .4124564, .3575761, .1804375 },
		{ .2126729, .7151522, .0721750 },
		{ .0193339, .1191920, .9503041 } }, white[3] = { .95047, 1, 1.08883 };
	double in[3] = { linear((rgb >> 16) / 255.), linear((rgb >> 8 & 255) / 255.),
		linear((rgb & 255) / 255.) }, seen[3], f[3];

	for (int i = 0; i < 3; i++) {
		seen[i] = eyes[eye][i][0] * in[0] + eyes[eye][i][1] * in[1] + eyes[eye][i][2] * in[2];
		seen[i] = fmin(1, fmax(0, seen[i]));
	}
	for (int i = 0; i < 3; i++)
		f[i] = curve((xyz[i][0] * seen[0] + xyz[i][1] * seen[1] + xyz[i][2] * seen[2]) / white[i]);
	out[0] = 116 * f[1] - 16;
	out[1] = 500 * (f[0] - f[1]);
	out[2] = 200 * (f[1] - f[2]);
}

static double apart(uint32_t a, uint32_t b, int eye)
{
	double x[3], y[3];

	lab(a, eye, x);
	lab(b, eye, y);
	return sqrt(pow(x[0] - y[0], 2) + pow(x[1] - y[1], 2) + pow(x[2] - y[2], 2));
}

static uint32_t back(enum tui_palette p, int level)
{
	return tui_rgb(tui_paint(p, 0, 256, TUI_HEAT + level).bg);
}

static uint32_t front(enum tui_palette p, int light, int style)
{
	return tui_rgb(tui_paint(p, light, 256, style).fg);
}

/* The known values of the model: L*a*b* of sRGB red, and that a protanope sees red darker than we
 * do. */
static void test_model(void **state)
{
	double x[3], y[3];

	(void)state;
	lab(0xff0000, 0, x);
	assert_true(fabs(x[0] - 53.24) < .05 && fabs(x[1] - 80.09) < .05 && fabs(x[2] - 67.20) < .05);
	lab(0xff0000, 1, y);
	assert_true(y[0] < x[0] - 10);
	/* our default red and green for alarms: the reason for another palette */
	assert_true(apart(0xcc0000, 0x808000, 2) < apart(0xcc0000, 0x808000, 0) / 2);
	assert_int_equal(tui_rgb(196), 0xff0000);
	assert_int_equal(tui_rgb(232), 0x080808);
	assert_int_equal(tui_rgb(255), 0xeeeeee);
	assert_int_equal(tui_rgb(16), 0);
}

/* Neighbouring steps stay apart, and so do the two sides of fair at the same distance. */
static void test_steps(void **state)
{
	(void)state;
	for (int eye = 0; eye < N_EYES; eye++)
		for (int i = 0; i < TUI_HEAT_LEVELS; i++) {
			if (i && apart(back(TUI_SAFE, i - 1), back(TUI_SAFE, i), eye) < 14)
				fail_msg("safe palette, eye %d: steps %d and %d are %.1f apart", eye, i - 1, i,
					apart(back(TUI_SAFE, i - 1), back(TUI_SAFE, i), eye));
			if (i && apart(back(TUI_BLUE_RED, i - 1), back(TUI_BLUE_RED, i), eye) < 12)
				fail_msg("default palette, eye %d: steps %d and %d", eye, i - 1, i);
			if (i < TUI_HEAT_FAIR && apart(back(TUI_SAFE, i),
			    back(TUI_SAFE, TUI_HEAT_LEVELS - 1 - i), eye) < 40)
				fail_msg("safe palette, eye %d: %d and its opposite", eye, i);
		}
}

/* Text on a step can be read: at least 40 of the 100 units of lightness, whoever looks. */
static void test_text_on_steps(void **state)
{
	double a[3], b[3];

	(void)state;
	for (int p = 0; p < TUI_PALETTES; p++)
		for (int eye = 0; eye < N_EYES; eye++)
			for (int i = 0; i < TUI_HEAT_LEVELS; i++) {
				lab(back((enum tui_palette)p, i), eye, a);
				lab(front((enum tui_palette)p, 0, TUI_HEAT + i), eye, b);
				if (fabs(a[0] - b[0]) < 40)
					fail_msg("palette %d, eye %d, step %d: text %.0f on %.0f", p, eye, i, b[0],
						a[0]);
			}
}

/* Experts of the stream in the safe palette, on dark and on light: any two, also for those without
 * red or green; the default one fails that, which is why there are two. */
static void test_experts(void **state)
{
	double least = 1e9;

	(void)state;
	for (int light = 0; light < 2; light++)
		for (int eye = 0; eye < TRITAN; eye++)
			for (int i = 0; i < TUI_EXPERT_COLOURS; i++)
				for (int j = 0; j < i; j++) {
					double d = apart(front(TUI_SAFE, light, TUI_EXPERT_COLOUR + i),
						front(TUI_SAFE, light, TUI_EXPERT_COLOUR + j), eye);

					if (d < 28)
						fail_msg("light %d, eye %d: experts %d and %d are %.1f apart", light, eye,
							j, i, d);
					d = apart(front(TUI_BLUE_RED, light, TUI_EXPERT_COLOUR + i),
						front(TUI_BLUE_RED, light, TUI_EXPERT_COLOUR + j), eye);
					least = d < least ? d : least;
				}
	assert_true(least < 10);
}

/* Above, below, good, warning, alarm are told apart, and every style has a look with few
 * colours. */
static void test_meanings(void **state)
{
	static const int style[] = { TUI_ABOVE, TUI_BELOW, TUI_GOOD, TUI_WARN };

	(void)state;
	for (int eye = 0; eye < TRITAN; eye++)
		for (size_t i = 0; i < 4; i++)
			for (size_t j = 0; j < i; j++) {
				double d = apart(front(TUI_SAFE, 0, style[i]), front(TUI_SAFE, 0, style[j]), eye);

				if (d < 15)
					fail_msg("eye %d: styles %d and %d are %.1f apart", eye, style[j], style[i], d);
			}
	for (int p = 0; p < TUI_PALETTES; p++)
		for (int light = 0; light < 2; light++)
			for (int s = 0; s < TUI_STYLE_MAX; s++) {
				struct tui_paint few = tui_paint((enum tui_palette)p, light, 8, s);
				struct tui_paint none = tui_paint((enum tui_palette)p, light, 0, s);

				assert_true(few.fg < 8 && few.bg < 8 && few.fg >= -1 && few.bg >= -1);
				assert_true(none.fg == -1 && none.bg == -1);
				if (light && few.bg < 0) /* white and yellow cannot be read on white */
					assert_true(few.fg != 7 && few.fg != 3);
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_text_on_steps),
		cmocka_unit_test(test_experts),
		cmocka_unit_test(test_meanings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
