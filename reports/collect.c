/* collect.c - asks the views everything that a report says; see report.h. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "reports/report.h"

static void step(const struct report_data *d, const char *what)
{
	if (d->opt.step)
		d->opt.step(d->opt.ctx, what);
}

/* Tables that only the JSON form prints. */
static int collect_tables(struct reader *r, struct report_data *d, const struct load_filter *f,
	struct moe_err *e)
{
	step(d, "tables");
	if (view_runs(r, &d->runs, e) || view_stat(r, f, &d->stat, e) ||
	    view_stat_domain(r, f, &d->by_domain, e) ||
	    view_alarms_table(&d->alarms, &d->alarm_table, e))
		return -1;
	step(d, "specialisation");
	if (view_stat_specialisation(r, f, &d->by_layer_spec, e))
		return -1;
	step(d, "locality");
	return view_stat_locality(r, f, &d->locality, e) || view_stat_settings(r, f, &d->settings, e) ||
		view_stat_cache(r, f, &d->cache, e) ? -1 : 0;
}

int report_collect(struct reader *r, const struct report_opt *o, struct report_data *d,
	struct moe_err *e)
{
	struct load_filter f = { .run = o->run, .domain = -1, .phase = -1 };
	struct run_info run;

	memset(d, 0, sizeof *d);
	d->opt = *o;
	step(d, "run");
	if (reader_run(r, o->run, &run, e))
		return -1;
	f.run = run.id;
	step(d, "load");
	if (view_summary(r, &f, &d->sum, e) || view_layers(r, &f, &d->layers, e) ||
	    view_alarms(r, &f, &d->alarms, e) ||
	    reader_domains(r, f.run, &d->domain, &d->n_domain, e) ||
	    view_stat_expert(r, &f, &d->experts, e))
		goto bad;
	if (o->format == REPORT_JSON) {
		if (collect_tables(r, d, &f, e))
			goto bad;
		return 0;
	}
	for (int p = 0; p < 2; p++) {
		struct load_filter g = f;

		g.phase = p;
		if (view_layers(r, &g, &d->phase[p], e))
			goto bad;
	}
	step(d, "specialisation");
	if (view_specialisation(r, &f, 0, 0, REPORT_SEED, &d->spec, e))
		goto bad;
	return 0;
bad:
	report_data_free(d);
	return -1;
}

void report_data_free(struct report_data *d)
{
	view_layers_free(&d->layers);
	view_layers_free(&d->phase[0]);
	view_layers_free(&d->phase[1]);
	view_alarms_free(&d->alarms);
	view_spec_free(&d->spec);
	free(d->domain);
	view_table_free(&d->experts);
	view_table_free(&d->runs);
	view_table_free(&d->stat);
	view_table_free(&d->by_domain);
	view_table_free(&d->by_layer_spec);
	view_table_free(&d->locality);
	view_table_free(&d->settings);
	view_table_free(&d->cache);
	view_table_free(&d->alarm_table);
	memset(d, 0, sizeof *d);
}
