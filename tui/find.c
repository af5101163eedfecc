/* find.c - the search line: experts and layers by number,
 * domains and alarms by a part of their name. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "tui/panel.h"

/* "L3", "E7", "L3 E7", "l3e7", "3/7"; 1 = understood and there. */
static int find_number(struct tui_ctx *c, const char *s)
{
	const struct view_layers *l = &c->d->layers;
	size_t layer = c->s->layer, expert = c->s->expert;
	int any = 0;
	char *end;

	for (; *s; s = end) {
		char what = (char)toupper((unsigned char)*s);
		unsigned long n;

		if (*s == ' ') {
			end = (char *)s + 1;
			continue;
		}
		if ((what != 'L' && what != 'E') || !isdigit((unsigned char)s[1]))
			return 0;
		n = strtoul(s + 1, &end, 10);
		any = 1;
		if (what == 'E') {
			expert = n;
			continue;
		}
		for (layer = 0; layer < l->n && l->layer[layer].layer != n;)
			layer++;
	}
	if (!any || layer >= l->n || expert >= l->layer[layer].n_expert)
		return 0;
	c->s->layer = layer;
	c->s->expert = expert;
	return 1;
}

/* "#12": the request that the engine gave that number. */
static int find_request(struct tui_ctx *c, const char *s)
{
	long long n;
	char *end;

	if (*s != '#' || !isdigit((unsigned char)s[1]))
		return 0;
	n = strtoll(s + 1, &end, 10);
	if (*end || n < 0 || n > INT64_MAX - 2)
		return 0;
	c->s->want.sequence = TUI_NUMBERED(n);
	c->s->want.domain = -1; /* it may be of another one */
	return 1;
}

static int holds(const char *text, const char *part)
{
	size_t n = strlen(part);

	for (; *text; text++) {
		size_t i = 0;

		while (i < n && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
			i++;
		if (i == n)
			return 1;
	}
	return 0;
}

int tui_find(struct tui_ctx *c)
{
	const struct view_spec *sp = c->spec ? &c->spec->spec : NULL;
	const char *s = c->s->find;

	if (!*s)
		return 1;
	if (find_request(c, s))
		return 1;
	if (find_number(c, s))
		return 1;
	/* from behind the cursor on, so that the same search again finds the next */
	for (size_t i = 1; sp && i <= sp->n_domain; i++) {
		size_t d = (c->s->domain + i) % sp->n_domain;

		if (!holds(sp->domain[d].name, s))
			continue;
		c->s->domain = d;
		c->s->screen = TUI_SCREEN_DOMAINS;
		return 1;
	}
	for (size_t i = 1; c->alarms && i <= c->alarms->n; i++) {
		size_t a = (c->s->alarm + i) % c->alarms->n;

		if (!holds(c->alarms->alarm[a].text, s) && !holds(c->alarms->alarm[a].kind, s))
			continue;
		c->s->alarm = a;
		c->s->screen = TUI_SCREEN_ALARMS;
		return 1;
	}
	return 0;
}
