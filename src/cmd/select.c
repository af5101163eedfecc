/* select.c - see select.h. */
#include "cmd/select.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"

/* Append " 'name'" to a list of what there is, made safe for a terminal. */
static void list(struct buf *b, const char *name)
{
	buf_str(b, b->len ? ", '" : "'");
	text_escape(b, name, strlen(name), TEXT_TERMINAL);
	buf_char(b, '\'');
}

int select_run(struct reader *r, int64_t *run, struct moe_err *e)
{
	int64_t *ids = NULL;
	struct buf have;
	size_t n = 0;
	int status = 0;

	if (reader_runs(r, &ids, &n, e))
		return -1;
	buf_init(&have, 300);
	if (!n) {
		status = err_set(e, MOE_ERR_INPUT, "the database has no runs");
	} else if (!*run) {
		*run = ids[n - 1];
	} else {
		status = -1;
		for (size_t i = 0; i < n; i++) {
			status = ids[i] == *run ? 0 : status;
			buf_printf(&have, "%s%lld", i ? ", " : "", (long long)ids[i]);
		}
		if (status)
			err_set(e, MOE_ERR_USAGE, "no run %lld; there are: %s%s", (long long)*run,
				have.data ? have.data : "", have.failed ? ", ..." : "");
	}
	buf_free(&have);
	free(ids);
	return status;
}

int select_domain(struct reader *r, int64_t run, const char *name, int64_t *id,
	struct moe_err *e)
{
	struct domain_info *d = NULL;
	struct buf have;
	size_t n = 0, named = 0;

	*id = -1;
	if (!name)
		return 0;
	if (reader_domains(r, run, &d, &n, e))
		return -1;
	buf_init(&have, 300);
	for (size_t i = 0; i < n; i++) {
		if (!d[i].id)
			continue;
		named++;
		list(&have, d[i].name);
		if (!strcmp(d[i].name, name))
			*id = d[i].id;
	}
	if (*id < 0 && !named)
		err_set(e, MOE_ERR_USAGE, "no domain '%s'; run %lld has no domains", name,
			(long long)run);
	else if (*id < 0)
		err_set(e, MOE_ERR_USAGE, "no domain '%s'; run %lld has: %s%s", name, (long long)run,
			have.data ? have.data : "", have.failed ? ", ..." : "");
	buf_free(&have);
	free(d);
	return *id < 0 ? -1 : 0;
}

void select_remark(const struct view_table *t)
{
	struct buf b;

	if (!*t->why)
		return;
	buf_init(&b, 4096);
	text_escape(&b, t->why, strlen(t->why), TEXT_TERMINAL);
	fprintf(stderr, "note: %s\n", b.data ? b.data : "");
	buf_free(&b);
}

int select_list(const char *text, const char *what, double min, double max, double *out,
	size_t most, size_t *n, struct moe_err *e)
{
	char *end;

	*n = 0;
	for (; text; text = *end ? end + 1 : NULL) {
		double x = strtod(text, &end);

		if (end == text || (*end && *end != ',') || !(x >= min && x <= max))
			return err_set(e, MOE_ERR_USAGE, "--%s: '%.40s' is not a list of numbers from %g to %g "
				"with commas between", what, text, min, max);
		if (*n == most)
			return err_set(e, MOE_ERR_USAGE, "--%s: more than %zu numbers", what, most);
		out[(*n)++] = x;
	}
	return 0;
}

int select_counts(const char *text, const char *what, unsigned max, unsigned *out, size_t most,
	size_t *n, struct moe_err *e)
{
	double x[64];

	if (select_list(text, what, 1, max, x, most < 64 ? most : 64, n, e))
		return -1;
	for (size_t i = 0; i < *n; i++) {
		out[i] = (unsigned)x[i];
		if ((double)out[i] != x[i])
			return err_set(e, MOE_ERR_USAGE, "--%s: %g is not a whole number", what, x[i]);
	}
	return 0;
}
