/*
 * whatif.c - `moescope whatif`: the same tokens under another capacity, top-k, cache, router or
 * placement. The views answer; a section that a trace cannot answer says why on stderr.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <moescope/route.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/select.h"
#include "cmd/show.h"
#include "view/walk.h"
#include "view/whatif.h"

static struct {
	long long run, batch, ranks, nodes, groups, spare, keep, width, seed;
	int on[WHATIF_N], phase, layers, global, list, json, csv;
	const char *domain, *factors, *topk, *prune, *slots, *rank, *preset;
	double expert_bytes, act, link, net, link_pj, net_pj, capacity;
} o = { .phase = -1, .batch = 512, .nodes = 1, .groups = 1, .seed = 1 };

static const struct opt opts[] = {
	{ "capacity", 0, OPT_FLAG, &o.on[WHATIF_CAPACITY], NULL, "limits of picks per expert, by batch",
		0, 0 },
	{ "topk", 0, OPT_FLAG, &o.on[WHATIF_TOPK], NULL, "fewer or more experts per token", 0, 0 },
	{ "prune", 0, OPT_FLAG, &o.on[WHATIF_PRUNE], NULL, "without the coldest experts", 0, 0 },
	{ "cache", 0, OPT_FLAG, &o.on[WHATIF_CACHE], NULL, "a fast memory that holds some experts",
		0, 0 },
	{ "cache-routing", 0, OPT_FLAG, &o.on[WHATIF_AWARE], NULL,
		"a router that prefers experts in the cache; needs detail full", 0, 0 },
	{ "placement", 0, OPT_FLAG, &o.on[WHATIF_PLACE], NULL, "experts spread over ranks", 0, 0 },
	{ "reroute", 0, OPT_FLAG, &o.on[WHATIF_ROUTE], NULL,
		"other routers on the same scores; needs detail full", 0, 0 },
	{ "layers", 0, OPT_FLAG, &o.layers, NULL, "also a row for every layer", 0, 0 },
	{ "run", 0, OPT_INT, &o.run, "N", "the run to read; default the newest", 1, 1e15 },
	{ "domain", 0, OPT_TEXT, &o.domain, "NAME", "only sequences of this domain", 0, 0 },
	{ "phase", 0, OPT_ENUM, &o.phase, "prefill|decode", "only tokens read in, or generated", 0, 0 },
	{ "batch", 0, OPT_INT, &o.batch, "N", "tokens of a batch (default 512)", 1, WALK_BATCH_MOST },
	{ "factors", 0, OPT_TEXT, &o.factors, "LIST", "capacity factors (default 1,1.25,1.5,2)", 0, 0 },
	{ "k", 0, OPT_TEXT, &o.topk, "LIST", "experts per token", 0, 0 },
	{ "n", 0, OPT_TEXT, &o.prune, "LIST", "experts pruned of each layer", 0, 0 },
	{ "slots", 0, OPT_TEXT, &o.slots, "LIST", "experts that a cache holds, per layer", 0, 0 },
	{ "global", 0, OPT_FLAG, &o.global, NULL, "one cache for all layers, of the same memory",
		0, 0 },
	{ "expert-bytes", 0, OPT_REAL, &o.expert_bytes, "N", "bytes of one expert (default estimated)",
		1, 1e15 },
	{ "keep", 0, OPT_INT, &o.keep, "J", "cache routing: always take the J best (default half of k)",
		1, MOE_MAX_EXPERT },
	{ "rank", 0, OPT_TEXT, &o.rank, "LIST", "cache routing: fill from the cache within rank M",
		0, 0 },
	{ "ranks", 0, OPT_INT, &o.ranks, "N", "ranks that share the experts (default 8)", 1,
		MOE_MAX_EXPERT },
	{ "nodes", 0, OPT_INT, &o.nodes, "N", "nodes of the ranks (default 1)", 1, MOE_MAX_EXPERT },
	{ "groups", 0, OPT_INT, &o.groups, "N", "expert groups, for eplb-nodes (default 1)", 1,
		MOE_MAX_EXPERT },
	{ "spare", 0, OPT_INT, &o.spare, "N", "slots for replicas, for EPLB (default 0)", 0,
		MOE_MAX_EXPERT },
	{ "width", 0, OPT_INT, &o.width, "N", "the model's width, for bytes on the wire", 1, 1e6 },
	{ "act-bytes", 0, OPT_REAL, &o.act, "X", "bytes of an activation (default 2)", 1e-3, 1e3 },
	{ "link", 0, OPT_REAL, &o.link, "GB/s", "from a rank inside its node (default 450)",
		1e-6, 1e9 },
	{ "net", 0, OPT_REAL, &o.net, "GB/s", "from a rank to other nodes (default 50)", 1e-6, 1e9 },
	{ "link-pj", 0, OPT_REAL, &o.link_pj, "PJ", "energy of a bit inside a node (default 1.3)",
		1e-6, 1e9 },
	{ "net-pj", 0, OPT_REAL, &o.net_pj, "PJ", "energy of a bit between nodes (default 30)",
		1e-6, 1e9 },
	{ "preset", 0, OPT_TEXT, &o.preset, "LIST", "routers to compare (default all that suit)",
		0, 0 },
	{ "capacity-factor", 0, OPT_REAL, &o.capacity, "X", "of the routers that have one (default "
		"theirs)", 1e-3, 1e3 },
	{ "seed", 0, OPT_INT, &o.seed, "N", "of routers that draw (default 1)", 0, 1e15 },
	{ "list", 0, OPT_FLAG, &o.list, NULL, "list the routers that --preset knows", 0, 0 },
	{ "json", 0, OPT_FLAG, &o.json, NULL, "print one JSON array of objects; one question at a time",
		0, 0 },
	{ "csv", 0, OPT_FLAG, &o.csv, NULL, "print CSV (RFC 4180); one question at a time", 0, 0 },
	{ NULL, 0, 0, NULL, NULL, NULL, 0, 0 },
};

static void list_presets(void)
{
	const char *s;

	for (size_t i = 0; (s = moe_batch_preset_name(i)); i++)
		puts(s);
	for (size_t i = 0; (s = moe_route_preset_name(i)); i++)
		if (strcmp(s, "switch")) /* above, with its capacity */
			puts(s);
}

/* "a,b" cut at its commas, in place. */
static int split(char *text, struct whatif_opt *w, struct moe_err *e)
{
	for (char *p = text; p; ) {
		char *comma = strchr(p, ',');

		if (comma)
			*comma = 0;
		if (w->n_reroute == WHATIF_REROUTE)
			return err_set(e, MOE_ERR_USAGE, "--preset: more than %d routers", WHATIF_REROUTE);
		w->reroute[w->n_reroute++] = p;
		p = comma ? comma + 1 : NULL;
	}
	return 0;
}

static int options(struct whatif_opt *w, char **presets, struct moe_err *e)
{
	size_t n;

	whatif_opt_init(w);
	w->batch = (uint32_t)o.batch;
	if (select_list(o.factors, "factors", 1e-3, 1e3, w->factor, WHATIF_LIST, &n, e))
		return -1;
	w->n_factor = n ? n : w->n_factor;
	if (select_counts(o.topk, "k", MOE_MAX_EXPERT, w->topk, WHATIF_LIST, &w->n_topk, e) ||
	    select_counts(o.prune, "n", MOE_MAX_EXPERT, w->prune, WHATIF_LIST, &w->n_prune, e) ||
	    select_counts(o.slots, "slots", MOE_MAX_EXPERT, w->slots, WHATIF_LIST, &w->n_slots, e) ||
	    select_counts(o.rank, "rank", MOE_MAX_EXPERT, w->rank, WHATIF_LIST, &w->n_rank, e))
		return -1;
	w->keep = (unsigned)o.keep;
	w->global = o.global;
	w->expert_bytes = o.expert_bytes;
	w->ranks = o.ranks ? (size_t)o.ranks : w->ranks, w->nodes = (size_t)o.nodes;
	w->groups = (size_t)o.groups, w->spare = (size_t)o.spare;
	w->width = (unsigned)o.width;
	w->act_bytes = o.act > 0 ? o.act : w->act_bytes;
	w->link = o.link > 0 ? o.link : w->link, w->net = o.net > 0 ? o.net : w->net;
	w->link_pj = o.link_pj > 0 ? o.link_pj : w->link_pj;
	w->net_pj = o.net_pj > 0 ? o.net_pj : w->net_pj;
	w->capacity = o.capacity;
	w->seed = (uint64_t)o.seed;
	w->layers = o.layers || o.json || o.csv;
	if (o.preset) {
		*presets = strdup(o.preset);
		if (!*presets)
			return err_nomem(e, strlen(o.preset), "names of routers");
		return split(*presets, w, e);
	}
	return 0;
}

static int check(int argc, int *asked, struct moe_err *e)
{
	*asked = 0;
	for (int s = 0; s < WHATIF_N; s++)
		*asked += o.on[s];
	if (o.preset && !o.on[WHATIF_ROUTE]) {
		*asked += !*asked;
		o.on[WHATIF_ROUTE] = 1;
	}
	if (argc != 1)
		return err_set(e, MOE_ERR_USAGE, "one database is needed, %d operands were given", argc);
	if (o.json && o.csv)
		return err_set(e, MOE_ERR_USAGE, "either --json or --csv");
	if ((o.json || o.csv) && *asked != 1)
		return err_set(e, MOE_ERR_USAGE, "--json and --csv print one table: choose one of "
			"--capacity, --topk, --prune, --cache, --cache-routing, --placement and --reroute");
	return 0;
}

/* One section; a shape of cluster that does not suit the model is only an error where the section
 * was asked for. */
static int section(struct reader *r, const struct load_filter *f, const struct whatif_opt *w,
	enum whatif_section s, int asked, struct moe_err *e)
{
	struct view_table t = { 0 };
	int pretty = !o.json && !o.csv, status;

	if (pretty && asked != 1)
		printf("%s%s\n", s == WHATIF_CAPACITY ? "" : "\n", whatif_section_title(s));
	if (whatif_table(r, f, w, s, &t, e)) {
		if (s == WHATIF_PLACE && e->code == MOE_ERR_USAGE && !o.ranks) {
			struct moe_err why = *e;

			err_set(e, MOE_ERR_USAGE, "%s; without --ranks it is %zu ranks", why.msg, w->ranks);
		}
		if (asked || e->code != MOE_ERR_USAGE)
			return -1;
		printf("  cannot be answered: %s\n", show(e->msg).s);
		return 0;
	}
	if (pretty && asked != 1 && !t.n_row) {
		printf("  cannot be answered: %s\n", show(t.why).s);
		view_table_free(&t);
		return 0;
	}
	status = pretty && !t.n_row ? 0 : view_table_print(&t, o.json ? VIEW_JSON : o.csv ? VIEW_CSV :
		VIEW_PRETTY, stdout, e);
	if (!status && pretty && asked != 1) {
		if (*t.why)
			printf("  note: %s\n", show(t.why).s);
	} else if (!status) {
		select_remark(&t);
	}
	view_table_free(&t);
	return status;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct load_filter f = { .run = o.run, .domain = -1, .phase = o.phase };
	struct whatif_opt w;
	struct reader *r = NULL;
	char *presets = NULL;
	int asked, status = -1;

	if (o.list) {
		list_presets();
		return 0;
	}
	if (check(argc, &asked, e) || options(&w, &presets, e))
		goto out;
	r = reader_open(argv[0], e);
	if (!r || select_run(r, &f.run, e) || select_domain(r, f.run, o.domain, &f.domain, e))
		goto out;
	for (int s = 0; s < WHATIF_N; s++)
		if ((!asked || o.on[s]) && section(r, &f, &w, (enum whatif_section)s, asked, e))
			goto out;
	status = 0;
out:
	free(presets);
	reader_close(r);
	return status;
}

const struct cmd cmd_whatif = {
	"whatif", "DB", "The same tokens under another capacity, top-k, cache, router or placement",
	"Options choose the questions; without one, all are answered that the trace can answer. Rows\n"
	"without a layer pool all layers. A batch is N consecutive tokens of the log, in order of\n"
	"sequence and position. Pooled rows of --placement: ranks and nodes that a token reaches in a\n"
	"layer are means over the layers, bytes, time and energy sums of a token through the model.\n"
	"docs/METRICS.md defines every figure.\n",
	opts, run,
};
