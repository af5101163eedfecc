/* import.c - `moescope import FILE`: a file of another program becomes a run. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/record.h"
#include "cmd/show.h"
#include "exchange/exchange.h"

static const char *db = "moescope.db", *format, *domain, *model, *operator_name;
static long long top_k, n_expert, run_id;
static int weights;

static const struct opt opts[] = { { "db", 'd', OPT_TEXT, &db, "FILE",
									"the database to add a run to; default moescope.db", 0, 0 },
	{ "format", 0, OPT_TEXT, &format, "NAME", "the file's format; default by its content", 0, 0 },
	{ "domain", 0, OPT_TEXT, &domain, "NAME", "domain of all of it", 0, 0 },
	{ "model", 0, OPT_TEXT, &model, "NAME", "name of the model, so that runs can be compared", 0,
		0 },
	{ "top-k", 0, OPT_INT, &top_k, "K", "experts a token picks, for counts", 1, MOE_MAX_EXPERT },
	{ "experts", 0, OPT_INT, &n_expert, "N", "experts of a layer; default the largest id + 1", 1,
		MOE_MAX_EXPERT },
	{ "run", 0, OPT_INT, &run_id, "N", "only rows of this run", 1, 9e15 },
	{ "weights", 0, OPT_ENUM, &weights, "exact|16bit|8bit|none", "how weights are kept", 0, 0 },
	{ "operator", 0, OPT_TEXT, &operator_name, "NAME",
		"for an audit log: who imports (default: the login)", 0, 0 },
	{ 0 } };

static int run(int argc, char **argv, struct moe_err *e)
{
	struct exchange_in in = { .db = db, .domain = domain, .model = model, .top_k = top_k,
		.n_expert = n_expert, .run = run_id, .weights = (enum moe_weights)weights };
	const struct exchange_format *f;
	struct exchange_done done = { 0 };
	struct record rec;
	const char *slash;
	int bad;

	if (argc != 1)
		return err_set(e, MOE_ERR_USAGE, "one file is needed, %d were named", argc);
	f = exchange_detect(argv[0], e);
	if (format) {
		if (!f && e->code != MOE_ERR_INPUT)
			return -1;
		f = exchange_find(format);
		if (!f || !f->import)
			return err_set(e, MOE_ERR_USAGE, f ? "format '%s' can only be exported" :
				"no format '%s'; `moescope help import` lists them", format);
	}
	if (!f)
		return -1;
	in.path = argv[0];
	slash = strrchr(argv[0], '/');
	in.model = model ? model : slash ? slash + 1 : argv[0];
	if (record_import(&rec, operator_name, &in, f->name, e))
		return -1;
	bad = f->import(&in, &done, e);
	record_free(&rec);
	if (bad)
		return -1;
	fprintf(stderr, "Imported %s (%s) as run %lld of %s: %llu rows, %llu tokens, %u MoE layers.\n",
		show(argv[0]).s, f->name, (long long)done.run, show(db).s, (unsigned long long)done.rows,
		(unsigned long long)done.tokens, done.layers);
	return 0;
}

const struct cmd cmd_import = {
	.name = "import",
	.args = "FILE",
	.summary = "Add a file of counts or decisions to a database as a run",
	.text =
		"Formats: counts-csv (layer_id,expert_id,count; needs --top-k), csv and jsonl (a decision "
		"a\n"
		"line: run, sequence, position, token, layer, experts, weights, domain, phase). The file "
		"is\n"
		"checked to its end before anything is written. docs/TRACE.md has the forms. An audit log "
		"says\n"
		"that the run was imported, from which file with which SHA-256, and not recorded here.\n",
	.opts = opts,
	.run = run,
};
