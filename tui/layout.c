/* layout.c - see layout.h. */
#include "tui/layout.h"

static int min_of(int a, int b)
{
	return a < b ? a : b;
}

static int clamp(int x, int lo, int hi)
{
	return x < lo ? lo : x > hi ? hi : x;
}

struct tui_layout tui_layout(int w, int h, int timeline)
{
	int head = h >= 12 ? 2 : h >= 3 ? 1 : 0, tabs = h >= 8, foot = h >= 6;
	int time = timeline && h >= 14 && w >= 30 ? 2 : 0;

	return (struct tui_layout){
		.head = { 0, 0, w, head },
		.tabs = { 0, head, w, tabs },
		.body = { 0, head + tabs, w, h - head - tabs - foot - time },
		.time = { 0, h - foot - time, w, time },
		.foot = { 0, h - foot, w, foot },
	};
}

struct tui_overview tui_layout_overview(struct tui_rect b, int n_layer, int n_expert, int want,
	int n_alarm)
{
	struct tui_overview o = { 0 };
	int verdict = min_of(want, b.h >= 28 ? 3 : b.h >= 16 ? 2 : b.h >= 9);
	int y = b.y + verdict, h = b.h - verdict;
	int left, top, bottom;

	o.verdict = (struct tui_rect){ b.x, b.y, b.w, verdict };
	if (b.w < 20 || h < 3)
		return o;
	if (b.w < 72) { /* one column: balance, then alarms */
		top = h >= 9 ? clamp(n_layer + 2, 4, h - 4) : h;
		o.balance = (struct tui_rect){ b.x, y, b.w, top };
		if (h - top >= 3)
			o.alarms = (struct tui_rect){ b.x, y + top, b.w, h - top };
		return o;
	}
	/* Wide enough for the map at up to four columns an expert, but leave the right side room. */
	left = clamp(5 + n_expert * (n_expert > 20 ? 2 : 4) + 2, b.w * 45 / 100,
		b.w >= 140 ? b.w * 60 / 100 : b.w * 52 / 100);
	/* Both rows as high as their layers; more for alarms where the map can spare it. */
	bottom = n_layer + 4 > 7 ? n_layer + 4 : 7;
	top = clamp(n_layer + 2, 5, h * 45 / 100 > 5 ? h * 45 / 100 : 5);
	if (n_alarm * 4 + 2 > top)
		top = clamp(n_alarm * 4 + 2, top, min_of(h - bottom, h / 2) > top ?
			min_of(h - bottom, h / 2) : top);
	if (h < 14) /* no room for two rows */
		top = h, bottom = 0;
	else
		bottom = h - top;
	o.balance = (struct tui_rect){ b.x, y, left, top };
	o.alarms = (struct tui_rect){ b.x + left, y, b.w - left, top };
	if (bottom) {
		o.heat = (struct tui_rect){ b.x, y + top, left, bottom };
		o.domains = (struct tui_rect){ b.x + left, y + top, b.w - left, bottom };
	}
	return o;
}

struct tui_mapfit tui_layout_map(int w, int n_expert, int label, int zoom)
{
	struct tui_mapfit m = { label, 1, 1, 0, 0 };
	int room = w - label;

	if (room < 1 || n_expert < 1)
		return m;
	if (n_expert <= room)
		m.cell = clamp(room / n_expert, 1, 6);
	else
		m.group = (n_expert + room - 1) / room;
	for (; zoom > 0; zoom--) {
		if (m.group > 1)
			m.group = (m.group + 1) / 2;
		else if (m.cell < 6)
			m.cell = m.cell < 2 ? 2 : m.cell < 4 ? 4 : 6;
	}
	for (; zoom < 0; zoom++) {
		if (m.cell > 1)
			m.cell = m.cell > 4 ? 4 : m.cell > 2 ? 2 : 1;
		else if (m.group < n_expert)
			m.group = min_of(m.group * 2, n_expert);
	}
	m.cell = min_of(m.cell, room);
	m.n_col = (n_expert + m.group - 1) / m.group;
	m.visible = min_of(m.n_col, room / m.cell);
	return m;
}

struct tui_card tui_layout_card(struct tui_rect b)
{
	struct tui_card c = { .head = { b.x, b.y, b.w, min_of(b.h, 3) } };
	int y = b.y + c.head.h, h = b.h - c.head.h, left = b.w / 2, right = b.w - left, top, third;

	if (h < 3)
		return c;
	if (b.w < 72) { /* one column */
		top = h < 7 ? h : h / 2;
		c.domains = (struct tui_rect){ b.x, y, b.w, top };
		if (h - top >= 3)
			c.tokens = (struct tui_rect){ b.x, y + top, b.w, h - top };
		return c;
	}
	top = h >= 16 ? (h - 4) / 2 : h >= 12 ? h / 2 : h;
	top = h >= 30 ? h / 3 : top;
	c.domains = (struct tui_rect){ b.x, y, left, top };
	c.tokens = (struct tui_rect){ b.x + left, y, right, top };
	if (h - top < 3)
		return c;
	third = h >= 30 ? h / 3 : h >= 16 ? h - top - 4 : h - top;
	c.peers = (struct tui_rect){ b.x, y + top, left, third };
	c.next = (struct tui_rect){ b.x + left, y + top, right, third };
	if (h - top - third >= 3)
		c.history = (struct tui_rect){ b.x, y + top + third, b.w, h - top - third };
	return c;
}

int tui_scroll(int first, int cursor, int visible, int n)
{
	if (visible < 1)
		return 0;
	if (cursor < first)
		first = cursor;
	if (cursor >= first + visible)
		first = cursor - visible + 1;
	if (first > n - visible)
		first = n - visible;
	return first < 0 ? 0 : first;
}
