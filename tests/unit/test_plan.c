/*
 * test_plan.c - sizes of published configurations against the published numbers, and a plan's
 * arithmetic against values worked out by hand.
 */
#include "test_util.h"

#include <math.h>

#include "sim/model.h"
#include "view/plan.h"

static struct moe_err err;

/* Expected: what the authors state. Not from the table under test, so that a slip there shows. */
static void published_sizes(void **state)
{
	static const struct { const char *name; double total, tolerance, active, active_tolerance;
		} want[] = {
		{ "mixtral-8x7b", 46.7e9, .01, 12.9e9, .01 },    /* arXiv 2401.04088: 47B and 13B;
		                                                    site: 46.7B, 12.9B */
		{ "mixtral-8x22b", 141e9, .01, 39e9, .01 },      /* mistral.ai, April 2024: 141B, 39B
		                                                    active */
		{ "switch-1.6t", 1571e9, .01, 0, 0 },            /* arXiv 2101.03961, table 9: 1571B */
		{ "gshard-600b", 600e9, .05, 0, 0 },             /* arXiv 2006.16668: 600B, one digit */
		{ "glam-1.2t", 1.2e12, .05, 96.6e9, .01 },       /* arXiv 2112.06905, table 4: 1.2T,
		                                                    96.6B */
		{ "alexatm-20b", 19.75e9, .01, 19.75e9, .01 },   /* arXiv 2208.01448: 19.75B */
		{ "megatron-530b", 530e9, .01, 530e9, .01 },     /* arXiv 2201.11990: 530B */
		{ "deepseek-v3", 671e9, .01, 37e9, .0135 },      /* arXiv 2412.19437: 671B,
		                                                    37B (half a digit) */
		{ "qwen3-235b", 235e9, .01, 22e9, .01 },         /* arXiv 2505.09388: 235B, 22B */
		{ "gpt-oss-120b", 116.83e9, .01, 5.13e9, .01 },  /* model card: 116.83B, 5.13B */
		{ "kimi-k2", 1e12, .05, 32.6e9, .01 },           /* arXiv 2507.20534: 1T, 32.6B */
		{ "gpt-4", 1.8e12, .05, 280e9, .0108 },          /* rumoured: 1.8T, 280B (half of a
		                                                    digit) */
	};
	struct sim_size z;
	size_t n = 0;

	(void)state;
	while (sim_model_at(n))
		n++;
	assert_int_equal(n, sizeof want / sizeof *want);
	for (size_t i = 0; i < n; i++) {
		const struct sim_model *m = sim_model_find(want[i].name, &err);
		double active;

		ok_or_fail(m != NULL, &err);
		sim_model_size(m, &z);
		active = m->active_skips_embedding ? z.matmul : z.active;
		if (!(fabs(z.total / want[i].total - 1) <= want[i].tolerance))
			fail_msg("%s: %.5g parameters, published %.5g", m->name, z.total, want[i].total);
		if (want[i].active > 0 && !(fabs(active / want[i].active - 1) <= want[i].active_tolerance))
			fail_msg("%s: %.5g active, published %.5g", m->name, active, want[i].active);
		assert_true(sim_model_agrees(z.total, m->published_total, m->total_digit));
		assert_true(m->published_active == 0 ||
			sim_model_agrees(active, m->published_active, m->active_digit));
		assert_true(z.active <= z.total && z.matmul <= z.active && m->source && *m->source);
		assert_int_equal(strstr(m->title, "rumour") != NULL, m->rumour);
	}
	assert_false(sim_model_agrees(102, 100, 1));
	assert_true(sim_model_agrees(104, 100, 10));
	assert_false(sim_model_agrees(110, 100, 100)); /* rounding excuses 5 % at most */
	assert_null(sim_model_find("gpt-5", &err));
	assert_non_null(strstr(err.msg, "no preset 'gpt-5'"));
}

/* Mixtral's parts, from its shapes: 3 * 4096 * 14336 an expert, 8 of them in 32 layers. */
static void parts(void **state)
{
	struct sim_size z;

	(void)state;
	sim_model_size(sim_model_find("mixtral-8x7b", &err), &z);
	assert_true(z.expert == 176160768.0);
	assert_true(z.experts == 176160768.0 * 256);
	assert_true(z.attention == 32 * (4096.0 * 4096 * 2 + 4096.0 * 1024 * 2));
	assert_true(z.embedding == 2 * 32000.0 * 4096);
	assert_true(z.router == 32 * 8 * 4096.0);
	assert_true(z.total - z.active == 6 * 32 * z.expert);
	assert_true(z.kv_per_token == 32 * 2 * 1024.0);
	sim_model_size(sim_model_find("deepseek-v3", &err), &z);
	assert_int_equal(z.n_moe, 58);
	assert_true(z.kv_per_token == 61 * 576.0); /* the latent vector and the rotary key */
}

static void near(double got, double want)
{
	if (!(fabs(got - want) <= 1e-9 * fmax(1, fabs(want))))
		fail_msg("got %.12g, want %.12g", got, want);
}

static void expectations(void **state)
{
	double rate[2] = { 1, .5 };

	(void)state;
	near(sim_distinct(NULL, 8, 2, 1), 2);
	near(sim_distinct(NULL, 8, 2, 2), 8 * (1 - .75 * .75));
	near(sim_distinct(rate, 2, 1, 3), 1 + 1 - .125);
	near(sim_distinct(NULL, 4, 4, 5), 4);
	near(sim_distinct(NULL, 4, 2, 0), 0);
	near(sim_ranks_uniform(8, 2, 8), 2);
	near(sim_ranks_uniform(8, 2, 1), 1);
	near(sim_ranks_uniform(8, 2, 2), 2 * (1 - 6.0 / 28)); /* C(4,2) / C(8,2) */
	near(sim_ranks_uniform(8, 8, 4), 4);
	near(sim_ranks_uniform(1, 1, 1), 1);
}

static const struct plan_row *find(const struct plan *p, const char *item, const char *what)
{
	for (size_t i = 0; i < p->n; i++)
		if (!strcmp(p->row[i].item, item) && strstr(p->row[i].what, what))
			return p->row + i;
	fail_msg("no row %s, %s", item, what);
	return NULL;
}

static void page(void **state)
{
	struct plan_in in = { .stored_expert = NAN, .stored_rest = NAN };
	struct plan_opt o;
	struct plan p;
	double rest, expert = 176160768.0 * 2;

	(void)state;
	in.preset = sim_model_find("mixtral-8x7b", &err);
	in.title = in.preset->title;
	sim_model_size(in.preset, &in.size);
	plan_opt_init(&o);
	o.bandwidth = 1000, o.cache_mem = 48, o.slow = 10, o.ctx = 1000;
	ok_or_fail(!plan_make(&in, &o, NULL, NULL, &p, &err), &err);
	near(find(&p, "weights", "BF16")->value, in.size.total * 2);
	near(find(&p, "weights", "Q4_K")->value, in.size.total * 144 / 256);
	near(find(&p, "gpus", "BF16")->value, ceil((in.size.total * 2 + 65536 * 2 * 1000.0) / 72e9));
	near(find(&p, "flops_per_token", "")->value, 2 * in.size.matmul);
	rest = (in.size.total - in.size.experts) * 2;
	near(find(&p, "bytes_per_token", "")->value,
		rest - 32000.0 * 4096 * 2 + 64 * expert + 65536 * 2 * 1000.0);
	near(find(&p, "tokens_per_s", "batch 1,")->value,
		1e12 / find(&p, "bytes_per_token", "")->value);
	near(find(&p, "a2a_bytes_per_token", "2 ranks")->value,
		32 * 2 * 4096 * 2 * .5 * 2 * (1 - 6.0 / 28));
	near(find(&p, "slots", "")->value, floor((48e9 - rest) / (32 * expert)));
	plan_free(&p);

	o.cache_mem = 4; /* less than the rest and two experts a layer */
	ok_or_fail(!plan_make(&in, &o, NULL, NULL, &p, &err), &err);
	assert_non_null(strstr(p.why, "4 GB of fast memory cannot hold"));
	plan_free(&p);
	o.quant = "Q9_X";
	assert_int_equal(plan_make(&in, &o, NULL, NULL, &p, &err), -1);
	assert_non_null(strstr(err.msg, "no format 'Q9_X'"));
}

/* Every preset makes a page without a NaN; what is unknown has no row. */
static void all_presets(void **state)
{
	struct plan_opt o;
	struct plan p;

	(void)state;
	plan_opt_init(&o);
	for (size_t i = 0; sim_model_at(i); i++) {
		struct plan_in in = { .preset = sim_model_at(i), .stored_expert = NAN, .stored_rest = NAN };
		int kv = 0, net = 0;

		in.title = in.preset->title;
		sim_model_size(in.preset, &in.size);
		ok_or_fail(!plan_make(&in, &o, NULL, NULL, &p, &err), &err);
		assert_true(p.n > 20);
		for (size_t j = 0; j < p.n; j++) {
			assert_true(isfinite(p.row[j].value));
			kv |= !strcmp(p.row[j].item, "kv");
			net |= !strcmp(p.row[j].item, "a2a_bytes_per_token");
		}
		assert_int_equal(kv, !in.preset->rumour);
		assert_int_equal(net, in.size.n_expert > 0 && in.size.d > 0);
		plan_free(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_sizes),
		cmocka_unit_test(parts),
		cmocka_unit_test(expectations),
		cmocka_unit_test(page),
		cmocka_unit_test(all_presets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
