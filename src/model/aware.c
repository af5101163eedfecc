/* aware.c - see aware.h. */
#include "model/aware.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "model/arch.h"

struct aware {
	struct moe_hook hook;
	const struct session *s;
	const struct model *m;
	uint32_t keep, within;
	uint64_t seen, changed;
	float *score;    /* [n_expert] selection scores */
	uint16_t *rank;  /* [within] experts, best first */
	uint8_t *chosen; /* [within] */
};

/* The `within` best of score [n], ties to the lowest id, as the router breaks them. */
static void rank(const struct aware *a, size_t n)
{
	size_t have = 0;

	for (size_t i = 0; i < n; i++) {
		size_t j;

		if (have == a->within && !(a->score[i] > a->score[a->rank[have - 1]]))
			continue;
		have += have < a->within;
		for (j = have - 1; j > 0 && a->score[i] > a->score[a->rank[j - 1]]; j--)
			a->rank[j] = a->rank[j - 1];
		a->rank[j] = (uint16_t)i;
	}
}

/* Mark the k that are chosen; 1 if they are not simply the k best. */
static int choose(struct aware *a, int layer)
{
	uint32_t k = a->m->info.route.k, n = a->keep;
	int differs = 0;

	for (uint32_t r = 0; r < a->within; r++)
		a->chosen[r] = r < a->keep;
	for (uint32_t r = a->keep; r < a->within && n < k; r++)
		if (session_holds(a->s, layer, a->rank[r]))
			a->chosen[r] = 1, n++;
	for (uint32_t r = a->keep; n < k; r++)
		if (!a->chosen[r])
			a->chosen[r] = 1, n++;
	for (uint32_t r = k; r < a->within; r++)
		differs |= a->chosen[r];
	return differs;
}

static int prefer(void *ctx, int layer, uint64_t seq, uint32_t pos, int32_t token, const float *logits,
	float *bias, int n_expert, struct moe_err *e)
{
	struct aware *a = ctx;
	const float *own = a->m->layer[layer].sel_b;

	(void)seq, (void)pos, (void)token, (void)e;
	a->seen++;
	for (int i = 0; i < n_expert; i++)
		if (logits[i] != logits[i] || logits[i] == INFINITY)
			return 0; /* the router refuses these */
	moe_route_scores(&a->m->info.route, logits, a->score);
	for (int i = 0; own && i < n_expert; i++)
		a->score[i] += own[i];
	rank(a, (size_t)n_expert);
	if (!choose(a, layer))
		return 0;
	a->changed++;
	for (int i = 0; i < n_expert; i++)
		bias[i] = -INFINITY;
	for (uint32_t r = 0; r < a->within; r++)
		if (a->chosen[r])
			bias[a->rank[r]] = 0;
	return 1;
}

struct aware *aware_new(const struct session *s, const struct model *m, uint32_t keep, uint32_t within,
	struct moe_err *e)
{
	const struct moe_route_spec *r = &m->info.route;
	struct session_cache_stat st;
	struct aware *a;

	if (!session_cache_stat(s, &st)) {
		err_set(e, MOE_ERR_USAGE, "cache-aware routing needs an expert cache");
		return NULL;
	}
	if (keep >= r->k || within < r->k || within > r->n_expert) {
		err_set(e, MOE_ERR_USAGE, "cache-aware routing: keep %u, rank at most %u: of top-%u of %u experts, "
			"keep may be 0 to %u, the rank %u to %u", keep, within, r->k, r->n_expert, r->k - 1u, r->k,
			r->n_expert);
		return NULL;
	}
	if (r->n_group > 1) {
		err_set(e, MOE_ERR_USAGE, "cache-aware routing: this router first chooses %u of %u groups: not "
			"supported", r->n_group_used, r->n_group);
		return NULL;
	}
	a = calloc(1, sizeof *a);
	if (!a) {
		err_nomem(e, sizeof *a, "cache-aware routing");
		return NULL;
	}
	a->s = s;
	a->m = m;
	a->keep = keep;
	a->within = within;
	a->hook = (struct moe_hook){ .name = "cache-aware", .ctx = a, .prefer = prefer };
	a->score = calloc(r->n_expert, sizeof *a->score);
	a->rank = calloc(within, sizeof *a->rank);
	a->chosen = calloc(within, 1);
	if (a->score && a->rank && a->chosen)
		return a;
	err_nomem(e, r->n_expert * 7u, "cache-aware routing");
	aware_free(a);
	return NULL;
}

void aware_free(struct aware *a)
{
	if (!a)
		return;
	free(a->score);
	free(a->rank);
	free(a->chosen);
	free(a);
}

struct moe_hook *aware_hook(struct aware *a)
{
	return &a->hook;
}

void aware_counts(const struct aware *a, uint64_t *seen, uint64_t *changed)
{
	*seen = a->seen;
	*changed = a->changed;
}
