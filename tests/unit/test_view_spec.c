/* test_view_spec.c - specialisation: what is there is proven, what is not there is not. */
#include "view_made.h"

/* ---- specialisation ---- */

enum { D = 4, DOCS = 10 };

/* Documents that differ from each other (own) and by domain (by_domain). */
static void corpus(uint64_t seed, float own, float by_domain)
{
	static const char *const name[D] = { "code", "law", "medical", "prose" };
	float lean[L][E];
	struct rng r;

	begin(MOE_DETAIL_ROUTES, seed);
	rng_seed(&r, seed + 1000);
	for (int i = 0; i < D * DOCS; i++) {
		for (int l = 0; l < L; l++)
			for (int e = 0; e < E; e++)
				lean[l][e] = own * (float)rng_unit(&r) +
					(e == (i % D + l) % E ? by_domain : 0);
		doc(name[i % D], 60, 0, lean);
	}
	end();
}

static void test_specialised_is_proven(void **state)
{
	struct view_spec v, w;
	struct view_summary s;
	struct view_layers l;
	struct view_alarms a;
	struct reader *r;
	char words[1000];

	(void)state;
	corpus(20, 1, 2);
	r = open_db();
	OK(view_specialisation(r, &all, 0, 0, 5, &v, &err));
	assert_int_equal(v.n_domain, D);
	assert_int_equal(v.n_layer, L);
	assert_int_equal(v.n_boot, 200);
	for (int x = 0; x < L; x++) {
		uint64_t n[D][E] = { { 0 } };

		for (size_t i = 0; i < made.n; i++)
			for (int d = 0; d < D; d++)
				for (int k = 0; k < K && !strcmp(v.domain[d].name, made.tok[i].domain); k++)
					n[d][made.tok[i].pick[x][k]]++;
		for (int d = 0; d < D; d++) {
			const struct view_spec_cell *c = v.layer[x].cell + d;

			for (int e = 0; e < E; e++)
				near(v.layer[x].rel[d * E + e], (double)n[d][e] * E / (DOCS * 60 * K), 1e-12);
			assert_int_equal(c->expert, (d + x) % E);
			assert_true(c->proven);
			assert_true(c->lo <= c->rel && c->rel <= c->hi && c->lo > c->null_p95);
			near(v.layer[x].jsd[d * D + d], 0, 1e-12);
			near(v.layer[x].jsd[d * D], v.layer[x].jsd[d], 1e-12);
		}
		assert_true(v.layer[x].mi > v.layer[x].null_p95);
		assert_true(v.layer[x].mi_lo <= v.layer[x].mi && v.layer[x].mi <= v.layer[x].mi_hi);
		assert_true(v.layer[x].bias < v.layer[x].null_mean); /* tokens of a document are alike */
		near(v.layer[x].nmi, v.layer[x].mi / 2, 1e-9); /* four equal domains: two bits */
	}
	/* the same seed gives the same figures, another gives others; n_boot leaves the null alone */
	OK(view_specialisation(r, &all, 200, 200, 5, &w, &err));
	near(w.layer[1].mi_lo, v.layer[1].mi_lo, 0);
	near(w.layer[1].cell[2].hi, v.layer[1].cell[2].hi, 0);
	near(w.layer[1].null_p95, v.layer[1].null_p95, 0);
	view_spec_free(&w);
	OK(view_specialisation(r, &all, 50, 200, 5, &w, &err));
	near(w.layer[1].null_p95, v.layer[1].null_p95, 0);
	view_spec_free(&w);
	OK(view_specialisation(r, &all, 200, 200, 6, &w, &err));
	assert_true(w.layer[1].null_p95 != v.layer[1].null_p95);
	view_spec_free(&w);
	OK(view_summary(r, &all, &s, &err));
	OK(view_layers(r, &all, &l, &err));
	OK(view_alarms(r, &all, &a, &err));
	OK(view_verdict(&s, &l, &a, &v, words, sizeof words));
	assert_non_null(strstr(words, "Experts specialise by domain: 8 of 8"));
	assert_non_null(strstr(words, "times its fair share on "));
	assert_int_equal(view_verdict(&s, &l, &a, &v, words, 40), -1); /* cut, but a string */
	assert_true(strlen(words) == 39);
	view_layers_free(&l);
	view_alarms_free(&a);
	view_spec_free(&v);
	reader_close(r);
}

/* Where only the ids differ between domains, the control explains the whole effect; where the
 * domain itself does, it explains none of it. Both against the definition, token by token. */
static void control_recounted(int by_token)
{
	float lean[3][L][E] = { { { 0 } } };
	struct view_spec v;
	struct reader *r;

	begin(MOE_DETAIL_ROUTES, 40 + (uint64_t)by_token);
	made.by_token = by_token;
	for (int d = 0; d < 3 && !by_token; d++)
		lean[d][0][d] = lean[d][1][d + 1] = 2;
	for (int i = 0; i < 30; i++)
		doc((char[]){ (char)('a' + i % 3), 0 }, 150, 0, lean[i % 3]);
	end();
	r = open_db();
	OK(view_specialisation(r, &all, 50, 50, 1, &v, &err));
	assert_int_equal(v.n_domain, 3);
	for (int l = 0; l < L; l++)
		for (int d = 0; d < 3; d++) {
			const struct view_spec_cell *c = v.layer[l].cell + d;
			double own = 0, n = 0, tokens = 0, want = 0;

			for (int x = 0; x < 100; x++) { /* id by id */
				double here = 0, hit = 0, there = 0, there_hit = 0;

				for (size_t i = 0; i < made.n; i++) {
					const uint16_t *p = made.tok[i].pick[l];
					int pick = p[0] == c->expert || p[1] == c->expert;

					if (made.tok[i].token != x)
						continue;
					*(made.tok[i].domain[0] == 'a' + d ? &here : &there) += 1;
					*(made.tok[i].domain[0] == 'a' + d ? &hit : &there_hit) += pick;
				}
				tokens += here;
				if (there > 0)
					n += here, own += hit, want += here * there_hit / there;
			}
			near(c->token_share, n / tokens, 1e-9);
			near(c->token_rel, own / n * E / K, 1e-9);
			near(c->token_control, want / n * E / K, 1e-9);
			assert_true(c->proven);
			if (by_token) {
				assert_true(c->token_share < 1);
				near(c->token_rel, c->token_control, .35);
			} else {
				near(c->token_share, 1, 0);
				assert_true(c->token_rel > 1.5 * c->token_control);
			}
		}
	view_spec_free(&v);
	reader_close(r);
}

static void test_token_control(void **state)
{
	(void)state;
	control_recounted(0);
	control_recounted(1);
}

/* Documents that differ a lot, but not by domain: over 40 seeds no more cells and layers may be
 * called specialised than chance allows. */
static void test_false_positives(void **state)
{
	enum { SEEDS = 40 };
	int proven = 0, layers = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct view_spec v;
		struct reader *r;

		corpus(100 + seed, 3, 0);
		r = open_db();
		OK(view_specialisation(r, &all, 100, 100, seed, &v, &err));
		for (int l = 0; l < L; l++) {
			layers += v.layer[l].mi > v.layer[l].null_p95;
			for (int d = 0; d < D; d++)
				proven += v.layer[l].cell[d].proven;
		}
		view_spec_free(&v);
		reader_close(r);
	}
	print_message("unspecialised: %d of %d cells proven, %d of %d layers above their null's p95\n",
		proven, SEEDS * L * D, layers, SEEDS * L);
	assert_true(proven <= SEEDS * L * D / 20);
	assert_true(layers <= 11); /* 80 at 5 %: more than 11 has probability below 0.001 */
}

static void spec_says(const struct load_filter *f, const char *what)
{
	struct view_spec v;
	struct reader *r = open_db();

	OK(view_specialisation(r, f, 20, 20, 1, &v, &err));
	if (v.n_layer || !strstr(v.why, what))
		fail_msg("%zu layers, '%s'", v.n_layer, v.why);
	view_spec_free(&v);
	reader_close(r);
}

static void test_specialisation_cannot_tell(void **state)
{
	struct load_filter f = all;
	struct view_spec v;
	struct reader *r;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 30); /* one document per domain */
	doc("a", 60, 0, even);
	doc("b", 60, 0, even);
	doc(NULL, 60, 0, even);
	doc(NULL, 60, 0, even);
	end();
	spec_says(&all, "this run has 0 such domains");
	begin(MOE_DETAIL_ROUTES, 31); /* one domain */
	doc("a", 60, 0, even);
	doc("a", 60, 0, even);
	end();
	spec_says(&all, "this run has 1 such domain");
	begin(MOE_DETAIL_ROUTES, 33); /* the parts of one long document are one document */
	doc_name = "long";
	for (int i = 0; i < 8; i++)
		doc(i < 4 ? "a" : "b", 60, 0, even);
	doc_name = NULL;
	end();
	spec_says(&all, "this selection has 0");
	begin(MOE_DETAIL_ROUTES, 32);
	doc("a", 60, 2, even);
	doc("b", 60, 0, even);
	doc("c", 60, 0, even);
	doc("b", 60, 0, even);
	doc("a", 60, 2, even);
	end();
	f.domain = 1;
	spec_says(&f, "one domain is selected");
	f.domain = -1, f.phase = MOE_DECODE; /* only a has generated tokens */
	spec_says(&f, "this selection has 1");
	r = open_db();
	OK(view_specialisation(r, &all, 20, 20, 1, &v, &err));
	assert_int_equal(v.n_domain, 2);
	assert_string_equal(v.domain[1].name, "b");
	assert_non_null(strstr(v.why, "1 domain with a single document"));
	assert_false(v.layer[0].cell[0].proven); /* two documents each can prove nothing */
	view_spec_free(&v);
	reader_close(r);
}

/* More documents than are kept apart. */
static void test_many_documents(void **state)
{
	struct view_spec v;
	struct reader *r;
	double rel;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 33);
	for (int i = 0; i < 4200; i++) {
		static float lean[2][L][E] = { { { 1 } }, { { 0, 1 } } };

		doc(i % 2 ? "a" : "b", 4, 0, lean[i % 2]);
	}
	end();
	r = open_db();
	OK(view_specialisation(r, &all, 20, 20, 1, &v, &err));
	assert_non_null(strstr(v.why, "4200 documents were put together in 4096 groups"));
	rel = 0;
	for (size_t i = 0; i < made.n; i++)
		for (int k = 0; k < K; k++)
			rel += made.tok[i].domain[0] == 'a' && made.tok[i].pick[0][k] == 1;
	near(v.layer[0].rel[1], rel * E / (2100 * 4 * K), 1e-12);
	assert_true(v.layer[0].cell[0].proven && v.layer[0].cell[1].proven);
	view_spec_free(&v);
	reader_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_specialised_is_proven),
		cmocka_unit_test(test_token_control),
		cmocka_unit_test(test_false_positives),
		cmocka_unit_test(test_specialisation_cannot_tell),
		cmocka_unit_test(test_many_documents),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
