/*
 * test_metrics_vectors.c - src/metrics against tests/data/metrics.txt, figures computed from the
 * same choices by an independent program (tests/ref/metrics.py, NumPy; the format is described
 * there).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metrics/balance.h"
#include "metrics/domain.h"
#include "metrics/router.h"
#include "metrics/sets.h"

enum { T_MAX = 64, L_MAX = 4, E_MAX = 32, K_MAX = 8, D_MAX = 4, V_MAX = 4096 };

static struct {
	char name[32];
	int n_tok, n_layer, n_expert, k, n_domain;
	int seq[T_MAX], domain[T_MAX];
	uint16_t id[T_MAX][L_MAX][K_MAX];
	double logit[T_MAX][L_MAX][E_MAX];
} tab;
static FILE *in;
static size_t checked;

static double number(void)
{
	double x;

	assert_int_equal(fscanf(in, "%lf", &x), 1);
	return x;
}

static int whole(void)
{
	return (int)number();
}

static void near(const char *what, int layer, double got, double want)
{
	double tol = 1e-9 * fmax(1, fabs(want));

	if (!(fabs(got - want) <= tol))
		fail_msg("%s, %s of layer %d: got %.17g, want %.17g", tab.name, what, layer, got, want);
	checked++;
}

/* ---- our figures of a layer ---- */

static void counts_of(int layer, uint64_t *c)
{
	memset(c, 0, E_MAX * sizeof *c);
	for (int t = 0; t < tab.n_tok; t++)
		for (int j = 0; j < tab.k; j++)
			c[tab.id[t][layer][j]]++;
}

/* Picks per domain; first: only first choices. */
static void domains_of(int layer, int first, double *table)
{
	memset(table, 0, D_MAX * E_MAX * sizeof *table);
	for (int t = 0; t < tab.n_tok; t++)
		for (int j = 0; j < (first ? 1 : tab.k); j++)
			table[tab.domain[t] * tab.n_expert + tab.id[t][layer][j]]++;
}

static void router_of(int layer, struct metrics_router *out, double *relative, double *least)
{
	uint64_t c[E_MAX];
	double p[E_MAX] = { 0 };
	struct metrics_router_sums s = { .n_expert = (size_t)tab.n_expert, .counts = c, .probs = p };

	counts_of(layer, c);
	*relative = 0;
	*least = INFINITY;
	for (int t = 0; t < tab.n_tok; t++) {
		const double *z = tab.logit[t][layer];
		double sum = 0, q[E_MAX], in_k = INFINITY, out_k = 0;
		int taken[E_MAX] = { 0 };

		for (int e = 0; e < tab.n_expert; e++)
			sum += exp(z[e]);
		for (int j = 0; j < tab.k; j++)
			taken[tab.id[t][layer][j]] = 1;
		for (int e = 0; e < tab.n_expert; e++) {
			q[e] = exp(z[e]) / sum;
			p[e] += q[e];
			s.entropy -= q[e] * log(q[e]);
			s.confidence += taken[e] ? q[e] : 0;
			in_k = taken[e] ? fmin(in_k, q[e]) : in_k;
			out_k = taken[e] ? out_k : fmax(out_k, q[e]);
		}
		s.lse2 += log(sum) * log(sum);
		s.margin += in_k - out_k;
		s.n_margin++;
		*relative += (in_k - out_k) / in_k / tab.n_tok;
		*least = fmin(*least, in_k - out_k);
	}
	metrics_router(&s, out);
}

static void locality_of(int layer, struct metrics_locality *s)
{
	memset(s, 0, sizeof *s);
	for (int t = 1; t < tab.n_tok; t++)
		if (tab.seq[t] == tab.seq[t - 1])
			metrics_locality_add(s, tab.id[t - 1][layer], tab.id[t][layer], (unsigned)tab.k);
}

static double balancedness(int ranks, double (*f)(const double *, size_t, size_t))
{
	double load[L_MAX * E_MAX] = { 0 };
	uint64_t c[E_MAX];

	for (int l = 0; l < tab.n_layer; l++) {
		counts_of(l, c);
		for (int e = 0; e < tab.n_expert; e++)
			load[l * ranks + e / (tab.n_expert / ranks)] += (double)c[e];
	}
	return f(load, (size_t)tab.n_layer, (size_t)ranks);
}

/* ---- scalars: one row per name ---- */

static int balance_scalar(const char *name, int layer, double want)
{
	size_t n = (size_t)tab.n_expert;
	uint64_t c[E_MAX], sorted[E_MAX];
	struct metrics_balance b;
	double top;

	counts_of(layer, c);
	metrics_balance(c, n, sorted, &b);
	top = (double)c[b.top_expert] / tab.n_tok;
	const struct { const char *name; double value; } row[] = {
		{ "tokens", tab.n_tok }, { "experts", tab.n_expert }, { "k", tab.k },
		{ "max_mean", b.max_mean }, { "max_vio", b.max_vio }, { "cv", b.cv }, { "gini", b.gini },
		{ "entropy_norm", b.entropy_norm }, { "n_eff", b.n_eff }, { "n2", b.n2 },
		{ "dead", b.dead }, { "cold", b.cold }, { "coverage90", b.coverage90 },
		{ "top_expert", b.top_expert }, { "top_rate", top },
		{ "share_top1", metrics_top_share(sorted, n, 1) },
		{ "share_top4", metrics_top_share(sorted, n, 4) },
		{ "p_zero_if_uniform", metrics_dead_chance((uint64_t)tab.n_tok, n, (unsigned)tab.k) },
	};

	for (size_t i = 0; i < sizeof row / sizeof *row; i++)
		if (!strcmp(row[i].name, name)) {
			near(name, layer, row[i].value, want);
			return 1;
		}
	return 0;
}

static int token_scalar(const char *name, int layer, double want)
{
	struct metrics_router m = { 0 };
	struct metrics_locality s;
	struct metrics_locality_rates r;
	double relative = NAN, least = NAN;

	router_of(layer, &m, &relative, &least);
	locality_of(layer, &s);
	metrics_locality_rates(&s, &r);
	const struct { const char *name; double value; } row[] = {
		{ "aux_loss", m.aux_loss }, { "z_loss", m.z_loss }, { "token_entropy", m.token_entropy },
		{ "mi_token", m.mi_token }, { "confidence", m.confidence }, { "margin", m.margin },
		{ "margin_rel", relative }, { "margin_min", least }, { "pairs", (double)s.pairs },
		{ "first", r.first }, { "any", r.any }, { "overlap", r.overlap }, { "jaccard", r.jaccard },
	};

	for (size_t i = 0; i < sizeof row / sizeof *row; i++)
		if (!strcmp(row[i].name, name)) {
			near(name, layer, row[i].value, want);
			return 1;
		}
	return 0;
}

static double cross_mi(int layer, uint64_t *n)
{
	double table[E_MAX * E_MAX];
	size_t e = (size_t)tab.n_expert;

	memset(n, 0, E_MAX * E_MAX * sizeof *n);
	for (int t = 0; t < tab.n_tok; t++)
		metrics_cross_add(n, e, tab.id[t][layer], (unsigned)tab.k, tab.id[t][layer + 1],
			(unsigned)tab.k);
	for (size_t i = 0; i < e * e; i++)
		table[i] = (double)n[i];
	return metrics_mi(table, e, e);
}

static int domain_scalar(const char *name, int layer, double want)
{
	size_t d = (size_t)tab.n_domain, e = (size_t)tab.n_expert;
	double table[D_MAX * E_MAX], mi;
	uint64_t n[E_MAX * E_MAX];

	if (!strcmp(name, "cross_mi")) {
		near(name, layer, cross_mi(layer, n), want);
		return 1;
	}
	domains_of(layer, 0, table);
	mi = metrics_mi(table, d, e);
	if (!strcmp(name, "mi_domain"))
		near(name, layer, mi, want);
	else if (!strcmp(name, "nmi_domain"))
		near(name, layer, mi / metrics_domain_entropy(table, d, e), want);
	else if (!strcmp(name, "miller_madow"))
		near(name, layer, metrics_mi_bias(d, e, tab.n_tok * tab.k), want);
	else
		return 0;
	return 1;
}

static int model_scalar(const char *name, double want)
{
	int ranks;

	if (sscanf(name, "balancedness_sglang_%d", &ranks) == 1)
		near(name, -1, balancedness(ranks, metrics_balancedness_sglang), want);
	else if (sscanf(name, "balancedness_vllm_%d", &ranks) == 1)
		near(name, -1, balancedness(ranks, metrics_balancedness_pooled), want);
	else /* the least and the mean over layers of mean/max: the caller's arithmetic */
		return !strncmp(name, "balancedness_vllm_", 18);
	return 1;
}

/* ---- the null: shuffled labels must give values of the exact list, in their proportions ---- */

static double null_mean;

static void null_exact(int layer, const double *list, size_t n)
{
	uint32_t doc[T_MAX][E_MAX] = { { 0 } }, label[T_MAX], width = (uint32_t)tab.n_expert;
	uint32_t packed[T_MAX * E_MAX];
	double table[D_MAX * E_MAX], mean = 0, got;
	int index[T_MAX], n_doc = 0, rounds = 4000;
	struct rng r;

	for (int t = 0; t < tab.n_tok; t++) {
		int x = 0;

		while (x < n_doc && index[x] != tab.seq[t])
			x++;
		if (x == n_doc)
			index[n_doc++] = tab.seq[t], label[x] = (uint32_t)tab.domain[t];
		for (int j = 0; j < tab.k; j++)
			doc[x][tab.id[t][layer][j]]++;
	}
	for (int x = 0; x < n_doc; x++)
		memcpy(packed + (uint32_t)x * width, doc[x], width * sizeof **doc);
	rng_seed(&r, 17);
	for (int i = 0; i < rounds; i++) {
		size_t hit = 0;

		metrics_shuffle(&r, label, (size_t)n_doc);
		metrics_tabulate(packed, (size_t)n_doc, width, label, NULL, (size_t)tab.n_domain, table);
		got = metrics_mi(table, (size_t)tab.n_domain, width);
		while (hit < n && fabs(list[hit] - got) > 1e-9)
			hit++;
		if (hit == n)
			fail_msg("%s: MI %.12g of shuffled labels is none of the %zu possible", tab.name, got,
				n);
		mean += got / rounds;
	}
	null_mean = mean;
	checked++;
}

/* ---- matrices ---- */

/* The domains of pair i in the order 01 02 .. 12 .. */
static size_t pair_a(size_t i, size_t n)
{
	size_t a = 0;

	while (i >= n - 1 - a)
		i -= n - 1 - a++;
	return a;
}

static size_t pair_b(size_t i, size_t n)
{
	size_t a = 0;

	while (i >= n - 1 - a)
		i -= n - 1 - a++;
	return a + 1 + i;
}

static void matrix(const char *name, int layer, int rows, int cols, const double *want)
{
	size_t e = (size_t)tab.n_expert, d = (size_t)tab.n_domain, n = (size_t)(rows * cols);
	double got[V_MAX], table[D_MAX * E_MAX], rel[E_MAX], bias[E_MAX] = { 0 };
	uint64_t c[E_MAX], pair[E_MAX * E_MAX] = { 0 };
	int which = 0;

	counts_of(layer, c);
	metrics_rel_load(c, e, rel);
	metrics_bias_step(c, e, .001, bias);
	domains_of(layer, !strcmp(name, "specialisation_1"), table);
	if (!strncmp(name, "coactivation", 12))
		for (int t = 0; t < tab.n_tok; t++)
			(!strcmp(name, "coactivation_adjacent") ? metrics_coact_add_adjacent :
				metrics_coact_add)(pair, e, tab.id[t][layer], (unsigned)tab.k);
	if (!strncmp(name, "cross", 5))
		cross_mi(layer, pair);
	if (!strcmp(name, "null_exact")) {
		null_exact(layer, want, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		size_t row = i / (size_t)cols, col = i % (size_t)cols;
		double of = c[row % e] ? (double)c[row % e] : INFINITY, in_domain = 0;

		for (int t = 0; t < tab.n_tok; t++)
			in_domain += tab.domain[t] == (int)row;
		if (!strcmp(name, "count"))
			got[i] = (double)c[i];
		else if (!strcmp(name, "rate"))
			got[i] = (double)c[i] / tab.n_tok;
		else if (!strcmp(name, "rel_load"))
			got[i] = rel[i];
		else if (!strncmp(name, "bias_update", 11))
			got[i] = bias[i];
		else if (!strcmp(name, "coactivation_count") || !strcmp(name, "cross_count"))
			got[i] = (double)pair[i];
		else if (!strncmp(name, "coactivation", 12) || !strcmp(name, "cross"))
			got[i] = (double)pair[i] / of;
		else if (!strcmp(name, "domain_count"))
			got[i] = table[i];
		else if (!strncmp(name, "specialisation_", 15))
			got[i] = table[i] / in_domain;
		else if (!strcmp(name, "jsd"))
			got[i] = metrics_jsd(table + pair_a(i, d) * e, table + pair_b(i, d) * e, e);
		else if (!strcmp(name, "jsd_norm"))
			got[i] = metrics_jsd_norm(table + pair_a(i, d) * e, table + pair_b(i, d) * e, e);
		else if (!strcmp(name, "npmi"))
			got[i] = c[col] ? metrics_npmi(table, d, e, row, col) : -1; /* ours: no value */
		else if (sscanf(name, "risk_difference_%d", &which) == 1) {
			double here = 0, there = 0, a = 0, b = 0;

			for (int t = 0; t < tab.n_tok; t++)
				for (int j = 0; j < tab.k; j++)
					*(tab.domain[t] == which ? &a : &b) += tab.id[t][layer][j] == (int)col;
			for (int t = 0; t < tab.n_tok; t++)
				*(tab.domain[t] == which ? &here : &there) += 1;
			got[i] = metrics_risk_difference((uint64_t)a, (uint64_t)here, (uint64_t)b,
				(uint64_t)there).value;
		} else {
			fail_msg("unknown matrix %s", name);
		}
		near(name, layer, got[i], want[i]);
	}
}

/* ---- the file ---- */

static void read_uniform(void)
{
	int e = whole(), k = whole();
	struct metrics_locality_rates u;

	metrics_locality_uniform((size_t)e, (unsigned)k, &u);
	near("first", e, u.first, number());
	near("any", e, u.any, number());
	near("overlap", e, u.overlap, number());
	near("jaccard", e, u.jaccard, number());
	near("coactivation", e, metrics_coact_uniform((size_t)e, (unsigned)k), number());
}

static void read_table(void)
{
	memset(&tab, 0, sizeof tab);
	assert_int_equal(fscanf(in, "%31s", tab.name), 1);
	tab.n_tok = whole(), tab.n_layer = whole(), tab.n_expert = whole(), tab.k = whole();
	whole();
	tab.n_domain = whole();
	assert_true(tab.n_tok <= T_MAX && tab.n_layer <= L_MAX && tab.n_expert <= E_MAX &&
		tab.k <= K_MAX && tab.n_domain <= D_MAX);
}

static void read_scalar(void)
{
	char name[48];
	double want;
	int layer;

	assert_int_equal(fscanf(in, "%47s", name), 1);
	layer = whole();
	want = number();
	if (!strcmp(name, "null_exact_mean")) {
		if (fabs(null_mean - want) > .05 * want)
			fail_msg("%s: mean of shuffled labels %g, exact %g", tab.name, null_mean, want);
	} else if (!(layer < 0 ? model_scalar(name, want) : balance_scalar(name, layer, want) ||
	    token_scalar(name, layer, want) || domain_scalar(name, layer, want))) {
		fail_msg("unknown scalar %s", name);
	}
}

static void read_matrix(void)
{
	static double want[V_MAX];
	char name[48];
	int layer, rows, cols;

	assert_int_equal(fscanf(in, "%47s", name), 1);
	layer = whole(), rows = whole(), cols = whole();
	assert_true(rows * cols <= V_MAX);
	for (int i = 0; i < rows * cols; i++)
		want[i] = number();
	matrix(name, layer, rows, cols, want);
}

static void test_vectors(void **state)
{
	char word[16];
	int t = 0, layer;

	(void)state;
	in = fopen("tests/data/metrics.txt", "r");
	assert_non_null(in);
	assert_int_equal(fscanf(in, "metrics %d", &t), 1);
	assert_int_equal(t, 1);
	while (fscanf(in, "%15s", word) == 1) {
		if (!strcmp(word, "uniform")) {
			read_uniform();
		} else if (!strcmp(word, "table")) {
			read_table();
			t = 0;
		} else if (!strcmp(word, "token")) {
			tab.seq[t] = whole(), tab.domain[t] = whole();
			for (int i = 0; i < tab.n_layer * tab.k; i++)
				tab.id[t][i / tab.k][i % tab.k] = (uint16_t)whole();
			t++;
		} else if (!strcmp(word, "logits")) {
			int token = whole();

			layer = whole();
			for (int e = 0; e < tab.n_expert; e++)
				tab.logit[token][layer][e] = number();
		} else if (!strcmp(word, "scalar")) {
			read_scalar();
		} else if (!strcmp(word, "matrix")) {
			read_matrix();
		} else {
			assert_string_equal(word, "end");
		}
	}
	fclose(in);
	print_message("%zu figures of the reference agree\n", checked);
	assert_true(checked > 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_vectors) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
