/*
 * heat.c - the one scale of all heat maps: relative load to level, level to character.
 *
 * The bounds are symmetric on a log scale (1/4 1/2 1/1.4 1/1.15 | 1.15 1.4 2 4), so that half a
 * fair share is as far from neutral as two. Level -1 means that nothing was seen.
 */
#include "tui/style.h"

#include <math.h>

static const double bounds[TUI_HEAT_LEVELS] = { 0, .25, .5, .71, .87, 1.15, 1.41, 2, 4 };

int tui_heat_level(double rel)
{
	int level = 0;

	if (isnan(rel))
		return -1;
	while (level + 1 < TUI_HEAT_LEVELS && rel >= bounds[level + 1])
		level++;
	return level;
}

double tui_heat_bound(int level)
{
	return bounds[level];
}

uint32_t tui_heat_glyph(int level, struct tui_look look)
{
	/* With 256 colours the colour is the value, and beyond a factor of two the sign of the
	 * character repeats its side of fair share; with fewer, height or darkness is the value. */
	static const uint32_t sign[] = { '=', '-', ' ', ' ', ' ', ' ', ' ', '+', '#' };
	static const uint32_t height[] = { ' ', 0x2581, 0x2582, 0x2583, 0x2584, 0x2585, 0x2586,
		0x2587, 0x2588 };
	static const uint32_t ascii[] = { ' ', '.', ':', '-', '=', '+', '*', '#', '@' };

	if (level < 0)
		return look.utf8 ? 0xb7 : '.';
	if (look.colours >= 256)
		return sign[level];
	return look.utf8 ? height[level] : ascii[level];
}
