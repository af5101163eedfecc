/* json.c - the report as one JSON object: the tables of the views, by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "reports/report.h"

/* What the object holds. To add a table: a row here, and ask for it in collect.c. */
struct part { const char *key; const struct view_table *t; };

static int put_table(struct buf *out, const struct view_table *t, struct moe_err *e)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f;
	int rc;

	if (!t->cols) { /* nothing was asked */
		buf_str(out, "[]");
		return 0;
	}
	f = open_memstream(&text, &n);
	if (!f)
		return err_errno(e, "preparing a table");
	rc = view_table_print(t, VIEW_JSON, f, e);
	if (fclose(f) && !rc)
		rc = err_errno(e, "preparing a table");
	while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	if (!rc)
		buf_add(out, text, n);
	free(text);
	return rc;
}

int report_json(const struct report_data *d, struct buf *out, struct moe_err *e)
{
	const struct part parts[] = {
		{ "runs", &d->runs }, { "layers", &d->stat }, { "experts", &d->experts },
		{ "domains", &d->by_domain }, { "specialisation", &d->by_layer_spec },
		{ "alarms", &d->alarm_table },
	};

	buf_str(out, "{\"made_by\": \"");
	text_escape(out, d->opt.made_by, strlen(d->opt.made_by), TEXT_JSON);
	buf_printf(out, "\",\n\"run\": %lld", (long long)d->sum.run.id);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		buf_printf(out, ",\n\"%s\": ", parts[i].key);
		if (put_table(out, parts[i].t, e))
			return err_wrap(e, "table %s", parts[i].key);
	}
	for (int i = 0; i < REPORT_N_TABLE; i++) {
		buf_printf(out, ",\n\"%s\": ", report_table_key((enum report_table)i));
		if (put_table(out, &d->table[i], e))
			return err_wrap(e, "table %s", report_table_key((enum report_table)i));
	}
	if (d->base.on) {
		buf_printf(out, ",\n\"baseline\": {\"run\": %lld,\n\"layers\": ",
			(long long)d->base.sum.run.id);
		if (put_table(out, &d->base.stat, e))
			return err_wrap(e, "the baseline");
		for (int i = 0; i < REPORT_N_TABLE; i++) {
			buf_printf(out, ",\n\"%s\": ", report_table_key((enum report_table)i));
			if (put_table(out, &d->base.table_of[i], e))
				return err_wrap(e, "the baseline's %s", report_table_key((enum report_table)i));
		}
		buf_str(out, ",\n\"diff\": ");
		if (put_table(out, &d->base.table, e))
			return err_wrap(e, "the comparison");
		buf_char(out, '}');
	}
	buf_str(out, ",\n\"sampled\": ");
	if (d->every > 1)
		buf_printf(out, "{\"every_nth_sequence\": %llu}", (unsigned long long)d->every);
	else if (d->most)
		buf_printf(out, "{\"first_tokens\": %llu}", (unsigned long long)d->most);
	else
		buf_str(out, "null");
	buf_str(out, "}\n");
	return !out->failed ? 0 :
		err_set(e, MOE_ERR_SYS, "the report is larger than %zu bytes", out->max);
}
