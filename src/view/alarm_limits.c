/*
 * alarm_limits.c - thresholds of the rules: read from text, put in place of a rule's own, listed.
 */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/alarm.h"
#include "view/table.h"

void alarm_with_limits(const struct view_limits *l, struct alarm_rule *out)
{
	memcpy(out, alarm_rules, sizeof alarm_rules);
	for (size_t i = 0; l && i < l->n; i++)
		for (size_t k = 0; k < ALARM_RULES; k++)
			if (!strcmp(out[k].kind, l->limit[i].kind)) {
				double *at = l->limit[i].severity == VIEW_NOTE ? &out[k].note :
					l->limit[i].severity == VIEW_WARNING ? &out[k].warning : &out[k].alarm;

				*at = l->limit[i].value;
			}
}

static int add_limit(struct view_limits *l, const char *kind, const char *severity,
	const char *value, const char *name, unsigned line, struct moe_err *e)
{
	struct view_limit x = { .severity = VIEW_NOTE }, *p;
	size_t k = 0, s = 0;
	char *end;

	while (k < ALARM_RULES && strcmp(alarm_rules[k].kind, kind))
		k++;
	while (s < 3 && strcmp(alarm_severity[s], severity))
		s++;
	if (k == ALARM_RULES)
		return err_set(e, MOE_ERR_INPUT, "%s, line %u: no rule '%.40s'; `check --list` names them",
			name, line, kind);
	if (s == 3)
		return err_set(e, MOE_ERR_INPUT, "%s, line %u: '%.40s' is not note, warning or alarm", name,
			line, severity);
	x.value = strcmp(value, "off") ? strtod(value, &end) : INFINITY;
	if (strcmp(value, "off") && (end == value || *end || isnan(x.value)))
		return err_set(e, MOE_ERR_INPUT, "%s, line %u: '%.40s' is neither a number nor off", name,
			line, value);
	x.severity = (enum view_severity)s;
	snprintf(x.kind, sizeof x.kind, "%s", kind);
	p = realloc(l->limit, (l->n + 1) * sizeof *p);
	if (!p)
		return err_nomem(e, (l->n + 1) * sizeof *p, "thresholds");
	l->limit = p;
	p[l->n++] = x;
	return 0;
}

int view_limits_parse(const char *text, const char *name, struct view_limits *out,
	struct moe_err *e)
{
	for (unsigned line = 1; *text; line++) {
		size_t len = strcspn(text, "\n"), used = len;
		char copy[256], *word[4] = { NULL }, *hash, *p;
		int n = 0;

		if (len >= sizeof copy)
			return err_set(e, MOE_ERR_INPUT, "%s, line %u: longer than %zu bytes", name, line,
				sizeof copy - 1);
		memcpy(copy, text, len);
		copy[len] = 0;
		text += used + (text[used] == '\n');
		hash = strchr(copy, '#');
		if (hash)
			*hash = 0;
		for (p = copy; n < 4; n++) {
			while (isspace((unsigned char)*p))
				*p++ = 0;
			if (!*p)
				break;
			word[n] = p;
			while (*p && !isspace((unsigned char)*p))
				p++;
		}
		if (!n)
			continue;
		if (n != 3)
			return err_set(e, MOE_ERR_INPUT, "%s, line %u: wanted are a rule, a severity and a "
				"value", name, line);
		if (add_limit(out, word[0], word[1], word[2], name, line, e))
			return -1;
	}
	return 0;
}

void view_limits_free(struct view_limits *l)
{
	free(l->limit);
	memset(l, 0, sizeof *l);
}

static const struct view_col rule_cols[] = {
	{ "kind", "rule", VIEW_TEXT, 0 }, { "per", "per", VIEW_TEXT, 0 },
	{ "note", "note", VIEW_REAL, 4 }, { "warning", "warning", VIEW_REAL, 4 },
	{ "alarm", "alarm", VIEW_REAL, 4 },
};

int view_rules_table(const struct view_limits *limits, struct view_table *out, struct moe_err *e)
{
	struct alarm_rule mine[ALARM_RULES];

	alarm_with_limits(limits, mine);
	view_table_init(out, rule_cols, sizeof rule_cols / sizeof *rule_cols);
	for (size_t i = 0; i < ALARM_RULES; i++) {
		struct view_cell *c = view_table_row(out, e);

		if (!c || view_set_text(c, mine[i].kind, e) ||
		    view_set_text(c + 1, mine[i].per_layer ? "layer" : "run", e)) {
			view_table_free(out);
			return -1;
		}
		view_set_real(c + 2, mine[i].note);
		view_set_real(c + 3, mine[i].warning);
		view_set_real(c + 4, mine[i].alarm);
	}
	return 0;
}
