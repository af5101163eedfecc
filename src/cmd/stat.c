/*
 * stat.c - `moescope stat`: any table of figures as text, JSON or CSV.
 *
 * One question per call; the views answer it and print it. A remark about what the data cannot say
 * goes to stderr, so that stdout stays a table.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/select.h"
#include "view/view.h"

static struct {
	long long run;
	int by, spec, locality, coact, cross, vocab, npmi, alarms, runs, cache, energy, settings, phase,
		json, csv;
	const char *domain;
} o = { .by = -1, .phase = -1 };

static const struct opt opts[] = {
	{ "run", 0, OPT_INT, &o.run, "N", "the run to read; default the newest", 1, 1e15 },
	{ "by", 0, OPT_ENUM, &o.by, "layer|expert|domain", "a row for each (default layer)", 0, 0 },
	{ "specialisation", 0, OPT_FLAG, &o.spec, NULL,
		"do domains go to different experts, beside a shuffled-label null", 0, 0 },
	{ "locality", 0, OPT_FLAG, &o.locality, NULL,
		"do consecutive tokens choose alike, beside uniform routing", 0, 0 },
	{ "coactivation", 0, OPT_FLAG, &o.coact, NULL, "which experts are chosen together", 0, 0 },
	{ "cross-layer", 0, OPT_FLAG, &o.cross, NULL, "what a layer's experts say about the next "
		"layer's", 0, 0 },
	{ "vocabulary", 0, OPT_FLAG, &o.vocab, NULL, "does a token id go to one expert", 0, 0 },
	{ "npmi", 0, OPT_FLAG, &o.npmi, NULL, "association of every domain with every expert", 0, 0 },
	{ "alarms", 0, OPT_FLAG, &o.alarms, NULL, "what needs attention, with its evidence", 0, 0 },
	{ "runs", 0, OPT_FLAG, &o.runs, NULL, "the runs of the database", 0, 0 },
	{ "cache", 0, OPT_FLAG, &o.cache, NULL, "what the expert cache did, by phase", 0, 0 },
	{ "energy", 0, OPT_FLAG, &o.energy, NULL, "energy per token, where the machine has counters",
		0, 0 },
	{ "settings", 0, OPT_FLAG, &o.settings, NULL, "what the run was made with: adapters, caches",
		0, 0 },
	{ "domain", 0, OPT_TEXT, &o.domain, "NAME", "only sequences of this domain", 0, 0 },
	{ "phase", 0, OPT_ENUM, &o.phase, "prefill|decode", "only tokens read in, or generated", 0, 0 },
	{ "json", 0, OPT_FLAG, &o.json, NULL, "print one JSON array of objects", 0, 0 },
	{ "csv", 0, OPT_FLAG, &o.csv, NULL, "print CSV (RFC 4180)", 0, 0 },
	{ NULL, 0, 0, NULL, NULL, NULL, 0, 0 },
};

static int alarms_table(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct view_alarms a;
	int status;

	if (view_alarms(r, f, &a, e))
		return -1;
	status = view_alarms_table(&a, out, e);
	view_alarms_free(&a);
	return status;
}

static int ask(struct reader *r, const struct load_filter *f, struct view_table *t,
	struct moe_err *e)
{
	if (o.spec)
		return view_stat_specialisation(r, f, t, e);
	if (o.locality)
		return view_stat_locality(r, f, t, e);
	if (o.coact)
		return view_stat_coactivation(r, f, t, e);
	if (o.cross)
		return view_stat_cross(r, f, t, e);
	if (o.vocab)
		return view_stat_vocabulary(r, f, t, e);
	if (o.npmi)
		return view_stat_npmi(r, f, t, e);
	if (o.alarms)
		return alarms_table(r, f, t, e);
	if (o.cache)
		return view_stat_cache(r, f, t, e);
	if (o.energy)
		return view_stat_energy(r, f, t, e);
	if (o.settings)
		return view_stat_settings(r, f, t, e);
	if (o.runs)
		return view_runs(r, t, e);
	return o.by == 1 ? view_stat_expert(r, f, t, e) : o.by == 2 ? view_stat_domain(r, f, t, e) :
		view_stat(r, f, t, e);
}

/* What one answers only for a person: nothing found, and what the data cannot say. */
static void remark(const struct view_table *t)
{
	if (o.alarms && !t->n_row)
		fputs("no alarms\n", stderr);
	else if (o.alarms && !o.json && !o.csv)
		fputs("note: --json and --csv have the SQL that shows each one's evidence\n", stderr);
	select_remark(t);
}

static int check(int argc, struct moe_err *e)
{
	if (argc != 1)
		return err_set(e, MOE_ERR_USAGE, "one database is needed, %d operands were given", argc);
	if ((o.by >= 0) + o.spec + o.locality + o.coact + o.cross + o.vocab + o.npmi + o.alarms +
	    o.runs + o.cache + o.energy + o.settings > 1)
		return err_set(e, MOE_ERR_USAGE, "one of --by, --specialisation, --locality, "
			"--coactivation, --cross-layer, --vocabulary, --npmi, --alarms, --runs, --cache, "
			"--energy and --settings at a time");
	if (o.json && o.csv)
		return err_set(e, MOE_ERR_USAGE, "either --json or --csv");
	return 0;
}

/* Figures of routing that a hook changed are not the model's own:
 * that is said beside any of them. */
static int remark_edits(struct reader *r, const struct load_filter *f, struct moe_err *e)
{
	struct load_set s;
	uint64_t edited = 0, all = 0;

	if (o.runs || reader_load(r, f, &s, e))
		return o.runs ? 0 : -1;
	for (size_t i = 0; i < s.n; i++) {
		edited += s.layer[i].n_edited;
		all += s.layer[i].tokens;
	}
	load_set_free(&s);
	if (edited)
		fprintf(stderr, "note: a hook changed %llu of these %llu decisions (--settings says "
			"which)\n", (unsigned long long)edited, (unsigned long long)all);
	return 0;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct load_filter f = { .run = o.run, .domain = -1, .phase = o.phase };
	struct view_table t = { 0 };
	struct reader *r;
	int status = -1;

	if (check(argc, e))
		return -1;
	r = reader_open(argv[0], e);
	if (!r)
		return -1;
	if (!o.runs && (select_run(r, &f.run, e) || select_domain(r, f.run, o.domain, &f.domain, e)))
		goto out;
	if (ask(r, &f, &t, e) || view_table_print(&t, o.json ? VIEW_JSON : o.csv ? VIEW_CSV :
	    VIEW_PRETTY, stdout, e))
		goto out;
	remark(&t);
	status = remark_edits(r, &f, e);
out:
	view_table_free(&t);
	reader_close(r);
	return status;
}

const struct cmd cmd_stat = {
	"stat", "DB", "Figures of a run as a table, JSON or CSV",
	"Without a choice it prints the balance of every MoE layer. Loads are per layer and never\n"
	"averaged over layers by expert number. docs/METRICS.md defines every figure; what the data\n"
	"cannot say is an empty cell (null in JSON), with the reason on stderr.\n",
	opts, run,
};
