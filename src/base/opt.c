/* opt.c - see opt.h. Numbers are read strictly: trailing text is an error, so is overflow. */
#include "base/opt.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static int enum_index(const char *words, const char *v)
{
	size_t len = strlen(v);
	const char *p = words;
	int i = 0;

	for (;; i++) {
		const char *end = strchr(p, '|');
		size_t n = end ? (size_t)(end - p) : strlen(p);

		if (n == len && !strncmp(p, v, n))
			return i;
		if (!end)
			return -1;
		p = end + 1;
	}
}

static int check_range(const struct opt *o, double x, const char *v, struct moe_err *e)
{
	if (o->min < o->max && !(x >= o->min && x <= o->max))
		return err_set(e, MOE_ERR_USAGE, "--%s %s: allowed are %g to %g", o->name, v, o->min,
			o->max);
	return 0;
}

static int set_value(const struct opt *o, const char *v, struct moe_err *e)
{
	char *end = NULL;
	long long i;
	double x;
	int w;

	errno = 0;
	switch (o->kind) {
	case OPT_INT:
		i = strtoll(v, &end, 10);
		if (end == v || *end || errno)
			return err_set(e, MOE_ERR_USAGE, "--%s '%s': not a whole number", o->name, v);
		if (check_range(o, (double)i, v, e))
			return -1;
		*(long long *)o->dst = i;
		return 0;
	case OPT_REAL:
		x = strtod(v, &end);
		if (end == v || *end || errno || !isfinite(x))
			return err_set(e, MOE_ERR_USAGE, "--%s '%s': not a number", o->name, v);
		if (check_range(o, x, v, e))
			return -1;
		*(double *)o->dst = x;
		return 0;
	case OPT_TEXT:
		*(const char **)o->dst = v;
		return 0;
	case OPT_ENUM:
		w = enum_index(o->arg, v);
		if (w < 0)
			return err_set(e, MOE_ERR_USAGE, "--%s '%s': choose one of %s", o->name, v, o->arg);
		*(int *)o->dst = w;
		return 0;
	case OPT_LIST: {
		struct opt_list *l = o->dst;

		if (l->n == sizeof l->item / sizeof l->item[0])
			return err_set(e, MOE_ERR_USAGE, "--%s given more than %zu times", o->name, l->n);
		l->item[l->n++] = v;
		return 0;
	}
	case OPT_FLAG:
		break;
	}
	*(int *)o->dst = 1;
	return 0;
}

static const struct opt *find(const struct opt *opts, const char *a, const char **value)
{
	const struct opt *o;

	*value = NULL;
	if (a[1] != '-') {
		for (o = opts; o->name; o++)
			if (o->letter && o->letter == a[1]) {
				if (a[2])
					*value = a + 2;
				return o;
			}
		return NULL;
	}
	for (o = opts; o->name; o++) {
		size_t n = strlen(o->name);

		if (strncmp(a + 2, o->name, n))
			continue;
		if (a[2 + n] == '=')
			*value = a + 3 + n;
		else if (a[2 + n])
			continue;
		return o;
	}
	return NULL;
}

int opt_parse(const struct opt *opts, int argc, char **argv, int *n, struct moe_err *e)
{
	int i, k = 0, only_operands = 0;

	for (i = 1; i < argc; i++) {
		const char *a = argv[i], *v;
		const struct opt *o;

		if (only_operands || a[0] != '-' || !a[1]) {
			argv[k++] = argv[i];
			continue;
		}
		if (!strcmp(a, "--")) {
			only_operands = 1;
			continue;
		}
		o = find(opts, a, &v);
		if (!o)
			return err_set(e, MOE_ERR_USAGE, "unknown option '%s'", a);
		if (o->kind == OPT_FLAG && v)
			return err_set(e, MOE_ERR_USAGE, "option --%s takes no value", o->name);
		if (o->kind != OPT_FLAG && !v) {
			if (i + 1 == argc)
				return err_set(e, MOE_ERR_USAGE, "option --%s needs %s", o->name, o->arg);
			v = argv[++i];
		}
		if (set_value(o, v, e))
			return -1;
	}
	*n = k;
	return 0;
}

void opt_help(const struct opt *opts, void *file)
{
	const struct opt *o;
	int width = 0, n;

	for (o = opts; o->name; o++) {
		n = (int)strlen(o->name) + (o->arg ? (int)strlen(o->arg) + 1 : 0) + 2;
		width = n > width ? n : width;
	}
	if (width > 30)
		width = 30;
	for (o = opts; o->name; o++) {
		char left[128];

		if (o->letter)
			fprintf(file, "  -%c, ", o->letter);
		else
			fprintf(file, "      ");
		snprintf(left, sizeof left, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		if ((int)strlen(left) > width)
			fprintf(file, "%s\n%*s  %s\n", left, width + 6, "", o->help);
		else
			fprintf(file, "%-*s  %s\n", width, left, o->help);
	}
}
