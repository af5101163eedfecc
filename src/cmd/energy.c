/* energy.c - see energy.h. A counter that fails ends the measuring, never the run. */
#include "cmd/energy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

/* Microjoules since the last look; 0 once it cannot be said. */
static uint64_t look(struct energy *x, int64_t *ns)
{
	int64_t now = clock_mono();
	struct moe_err e = { 0 };
	uint64_t uj = 0;

	if (x->why[0])
		return 0;
	if (rapl_look(&x->rapl, &uj, &e))
		snprintf(x->why, sizeof x->why, "%.150s", e.msg);
	*ns = now - x->at;
	x->at = now;
	return uj;
}

void energy_skip(struct energy *x)
{
	int64_t ns;

	look(x, &ns);
}

void energy_take(struct energy *x, int phase, uint64_t tokens)
{
	int64_t ns = 0;

	x->phase[phase & 1].uj += look(x, &ns);
	x->phase[phase & 1].ns += ns;
	x->phase[phase & 1].tokens += tokens;
}

static int wants(void *ctx, int layer)
{
	(void)ctx, (void)layer;
	return 0;
}

static int route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	(void)ctx, (void)v, (void)e;
	return 0;
}

static int seq_begin(void *ctx, const struct moe_seq_info *s, struct moe_err *e)
{
	struct energy *x = ctx;

	(void)s, (void)e;
	if (!x->active++)
		energy_skip(x);
	return 0;
}

static int seq_end(void *ctx, const struct moe_seq_result *s, struct moe_err *e)
{
	struct energy *x = ctx;

	(void)s, (void)e;
	x->active -= x->active > 0;
	return 0;
}

static int batch_end(void *ctx, const struct moe_batch_info *b, struct moe_err *e)
{
	(void)e;
	energy_take(ctx, b->phase, b->n_tok);
	return 0;
}

void energy_init(struct energy *x)
{
	const char *root = getenv(ENERGY_ENV);
	struct moe_err e = { 0 };

	*x = (struct energy){ .hook = { .name = "energy", .ctx = x, .wants = wants, .route = route,
		.seq_begin = seq_begin, .batch_end = batch_end, .seq_end = seq_end }, .at = clock_mono() };
	if (rapl_open(&x->rapl, root && *root ? root : RAPL_TREE, &e))
		snprintf(x->why, sizeof x->why, "%.150s", e.msg);
}

int energy_note(struct energy *x, struct moe_trace *t, struct moe_err *e)
{
	static const char *const phase[] = { "prefill", "decode" };
	char text[255], names[100] = "";

	if (x->why[0]) {
		snprintf(text, sizeof text, "unavailable: %s", x->why);
		return moe_trace_note(t, "energy", text, e);
	}
	for (size_t i = 0; i < x->rapl.n; i++)
		snprintf(names + strlen(names), sizeof names - strlen(names), " %s", x->rapl.zone[i].name);
	for (int p = 0; p < 2; p++) {
		if (!x->phase[p].tokens)
			continue;
		snprintf(text, sizeof text, "%s: %llu uJ, %llu tokens, %lld ns,%s", phase[p],
			(unsigned long long)x->phase[p].uj, (unsigned long long)x->phase[p].tokens,
			(long long)x->phase[p].ns, names);
		if (moe_trace_note(t, "energy", text, e))
			return -1;
	}
	return 0;
}
