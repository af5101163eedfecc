/*
 * plan.c - `moescope plan`: one page that sizes a deployment, of a model file or of a published
 * configuration, with or without the skew of a trace.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/load.h"
#include "cmd/select.h"
#include "cmd/show.h"
#include "view/plan.h"

static struct {
	const char *preset, *quant, *domain;
	long long run, ctx, users;
	int list, phase, json, csv;
	double bandwidth, gpu_mem, cache_mem, slow;
} o = { .phase = -1, .ctx = 4096, .users = 1, .bandwidth = 3350, .gpu_mem = 80, .cache_mem = 24,
	.slow = 25 };

static const struct opt opts[] = {
	{ "preset", 0, OPT_TEXT, &o.preset, "NAME", "a published configuration instead of a file",
		0, 0 },
	{ "list", 0, OPT_FLAG, &o.list, NULL, "list the presets with their sources", 0, 0 },
	{ "bandwidth", 0, OPT_REAL, &o.bandwidth, "GB/s", "of the memory with the weights (default "
		"3350)", 1e-3, 1e9 },
	{ "gpu-mem", 0, OPT_REAL, &o.gpu_mem, "GB", "memory of one device (default 80)", 1e-3, 1e9 },
	{ "cache-mem", 0, OPT_REAL, &o.cache_mem, "GB", "fast memory for a cache of experts (default "
		"24)", 1e-6, 1e9 },
	{ "slow", 0, OPT_REAL, &o.slow, "GB/s", "from where a missing expert comes (default 25)",
		1e-6, 1e9 },
	{ "quant", 0, OPT_TEXT, &o.quant, "NAME", "format of costs and speeds (default as stored, else "
		"BF16)", 0, 0 },
	{ "ctx", 0, OPT_INT, &o.ctx, "N", "tokens of context (default 4096)", 1, 1e8 },
	{ "users", 0, OPT_INT, &o.users, "N", "sequences whose KV cache is held (default 1)", 1, 1e8 },
	{ "run", 0, OPT_INT, &o.run, "N", "the run of the trace; default the newest", 1, 1e15 },
	{ "domain", 0, OPT_TEXT, &o.domain, "NAME", "only sequences of this domain", 0, 0 },
	{ "phase", 0, OPT_ENUM, &o.phase, "prefill|decode", "only tokens read in, or generated", 0, 0 },
	{ "json", 0, OPT_FLAG, &o.json, NULL, "print one JSON array of objects", 0, 0 },
	{ "csv", 0, OPT_FLAG, &o.csv, NULL, "print CSV (RFC 4180)", 0, 0 },
	{ NULL, 0, 0, NULL, NULL, NULL, 0, 0 },
};

struct class_sum { double params[MODEL_N_CLASS], bytes[MODEL_N_CLASS]; };

static void add_class(void *ctx, enum model_class c, const struct gguf_tensor *t)
{
	struct class_sum *s = ctx;

	s->params[c] += (double)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]);
	s->bytes[c] += (double)t->n_bytes;
}

/* Sizes of a model file: its tensors, as they are. */
static void from_file(const struct model *m, struct plan_in *in)
{
	const struct model_info *u = model_info(m);
	struct class_sum s = { { 0 }, { 0 } };
	struct sim_size *z = &in->size;
	double n;

	model_each_tensor(m, add_class, &s);
	z->n_moe = u->n_moe_layer, z->n_expert = u->n_moe_layer ? u->route.n_expert : 0;
	z->k = z->n_expert ? u->route.k : 0, z->d = u->n_embd, z->n_layer = u->n_layer;
	z->total = (double)u->n_params, z->active = (double)u->n_params_active;
	z->embedding = s.params[MODEL_EMBED] + s.params[MODEL_OUTPUT];
	z->attention = s.params[MODEL_ATTENTION], z->dense = s.params[MODEL_DENSE_FFN];
	z->experts = s.params[MODEL_EXPERTS], z->shared = s.params[MODEL_SHARED];
	z->router = s.params[MODEL_ROUTER], z->norm = s.params[MODEL_NORM];
	/* tied: once */
	z->matmul = z->active - (s.params[MODEL_OUTPUT] > z->d ? s.params[MODEL_EMBED] : 0);
	n = (double)z->n_moe * z->n_expert;
	z->expert = n > 0 ? z->experts / n : 0;
	z->kv_per_token = 2.0 * u->n_head_kv * u->head_dim * u->n_layer;
	z->attention_flops = 4.0 * u->n_layer * u->n_head * u->head_dim;
	in->title = u->name;
	in->quant = u->quant;
	in->stored_expert = n > 0 ? s.bytes[MODEL_EXPERTS] / n : 0;
	in->stored_rest = (double)u->weight_bytes - s.bytes[MODEL_EXPERTS];
}

static int print(struct view_table *t, struct moe_err *e)
{
	int status = view_table_print(t, o.json ? VIEW_JSON : o.csv ? VIEW_CSV : VIEW_PRETTY, stdout,
		e);

	if (!status)
		select_remark(t);
	view_table_free(t);
	return status;
}

static int page(const struct plan_in *in, const char *trace, struct moe_err *e)
{
	struct load_filter f = { .run = o.run, .domain = -1, .phase = o.phase };
	struct plan_opt po;
	struct view_table t = { 0 };
	struct reader *r = NULL;
	struct plan p = { 0 };
	int status = -1;

	plan_opt_init(&po);
	po.bandwidth = o.bandwidth, po.gpu_mem = o.gpu_mem, po.cache_mem = o.cache_mem,
		po.slow = o.slow;
	po.ctx = (unsigned)o.ctx, po.users = (unsigned)o.users, po.quant = o.quant;
	if (trace) {
		r = reader_open(trace, e);
		if (!r || select_run(r, &f.run, e) || select_domain(r, f.run, o.domain, &f.domain, e))
			goto out;
	}
	if (plan_make(in, &po, r, &f, &p, e) || plan_table(&p, &t, e))
		goto out;
	if (!o.json && !o.csv)
		printf("%s%s%s\n\n", show(in->title).s, in->preset ? ", " : "",
			in->preset ? in->preset->source : "");
	if (!o.json && !o.csv && *p.why) { /* a table's own remark is shorter than a plan's may be */
		*t.why = 0;
		status = print(&t, e);
		fprintf(stderr, "note: %s\n", show(p.why).s);
		goto out;
	}
	status = print(&t, e);
out:
	view_table_free(&t);
	plan_free(&p);
	reader_close(r);
	return status;
}

static int check(int argc, struct moe_err *e)
{
	if (o.json && o.csv)
		return err_set(e, MOE_ERR_USAGE, "either --json or --csv");
	if (o.preset ? argc > 1 : argc < 1 || argc > 2)
		return err_set(e, MOE_ERR_USAGE, o.preset ? "with --preset at most one operand, a trace: "
			"%d were given" : "a model and, if wanted, a trace are needed, or --preset: %d "
			"operands were given", argc);
	return 0;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct plan_in in = { .stored_expert = NAN, .stored_rest = NAN };
	struct gguf *g = NULL;
	struct model *m;
	struct view_table t;
	int status;

	if (o.list)
		return plan_presets(&t, e) ? -1 : print(&t, e);
	if (check(argc, e))
		return -1;
	if (o.preset) {
		in.preset = sim_model_find(o.preset, e);
		if (!in.preset)
			return -1;
		sim_model_size(in.preset, &in.size);
		in.title = in.preset->title;
		return page(&in, argc ? argv[0] : NULL, e);
	}
	if (load_gguf(argv[0], &g, e))
		return -1;
	m = model_open(g, e);
	if (!m) {
		gguf_close(g);
		return -1;
	}
	from_file(m, &in);
	status = page(&in, argc > 1 ? argv[1] : NULL, e);
	model_close(m);
	gguf_close(g);
	return status;
}

const struct cmd cmd_plan = {
	"plan", "[MODEL [TRACE]]", "Size a deployment: memory, cost, speed bounds, traffic, cache",
	"MODEL is a GGUF file or sample:NAME; TRACE a database of the same shape, whose skew then stands\n"
	"beside uniform routing. With --preset the only operand is a trace. Bounds are what arithmetic\n"
	"allows, not promises.\n",
	opts, run,
};
