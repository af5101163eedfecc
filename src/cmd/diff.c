/*
 * diff.c - `moescope diff`: two runs compared, with limits that make it a test: exit status 1 where
 * one is exceeded.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/select.h"
#include "cmd/show.h"
#include "view/diff.h"

static struct {
	long long run, run_b;
	const char *domain;
	int phase, experts, json, csv;
	double epsilon, mismatch, tokens, shift, saturation;
} o = { .phase = -1, .epsilon = .01, .mismatch = NAN, .tokens = NAN, .shift = NAN,
	.saturation = NAN };

static const struct opt opts[] = {
	{ "run", 0, OPT_INT, &o.run, "N", "run of A; default the newest", 1, 1e15 },
	{ "run-b", 0, OPT_INT, &o.run_b, "N", "run of B; default the newest", 1, 1e15 },
	{ "domain", 0, OPT_TEXT, &o.domain, "NAME", "only sequences of this domain", 0, 0 },
	{ "phase", 0, OPT_ENUM, &o.phase, "prefill|decode", "only tokens read in, or generated", 0, 0 },
	{ "experts", 0, OPT_FLAG, &o.experts, NULL, "a row for every expert: how its load moved",
		0, 0 },
	{ "epsilon", 0, OPT_REAL, &o.epsilon, "X", "margin below which a flip is explained (default "
		"0.01)", 0, 1e9 },
	{ "max-mismatch", 0, OPT_REAL, &o.mismatch, "X", "exit 1 if more of the decisions differ",
		0, 1 },
	{ "max-tokens", 0, OPT_REAL, &o.tokens, "X", "exit 1 if more of the tokens differ anywhere",
		0, 1 },
	{ "max-shift", 0, OPT_REAL, &o.shift, "BITS", "exit 1 if the load of a layer moved more (JSD)",
		0, 1 },
	{ "min-saturation", 0, OPT_REAL, &o.saturation, "X", "exit 1 if the sets agree less", 0, 1 },
	{ "json", 0, OPT_FLAG, &o.json, NULL, "print one JSON array of objects", 0, 0 },
	{ "csv", 0, OPT_FLAG, &o.csv, NULL, "print CSV (RFC 4180)", 0, 0 },
	{ NULL, 0, 0, NULL, NULL, NULL, 0, 0 },
};

/* A limit that cannot be checked counts as exceeded: a test must not pass for want of data. */
static int beyond(const char *what, double value, double limit, int least)
{
	if (isnan(limit) || (isfinite(value) && (least ? value >= limit : value <= limit)))
		return 0;
	if (isfinite(value))
		fprintf(stderr, "moescope diff: %s is %.6g, the limit is %g\n", what, value, limit);
	else
		fprintf(stderr, "moescope diff: %s cannot be told, so the limit of %g is not met\n", what,
			limit);
	return 1;
}

static int judge(const struct diff *d)
{
	double shift = NAN;
	int bad = 0;

	for (size_t l = 0; l < d->n; l++)
		shift = fmax(shift, d->layer[l].jsd); /* fmax skips NaN */
	bad |= beyond("the share of decisions that differ", d->layer[d->n].mismatch, o.mismatch, 0);
	bad |= beyond("the share of tokens that differ",
		d->matched ? (double)d->touched / (double)d->matched : NAN, o.tokens, 0);
	bad |= beyond("the largest shift of a layer's load", shift, o.shift, 0);
	bad |= beyond("the saturation", d->layer[d->n].saturation, o.saturation, 1);
	return bad;
}

/* What one looks for first, in words. */
static void verdict(const struct diff *d)
{
	const struct diff_layer *all = d->layer + d->n;
	size_t moved = 0;

	for (size_t l = 0; l < d->n; l++)
		moved += d->layer[l].jsd > d->layer[l].null_p95;
	printf("A: run %lld, %s (%s)   B: run %lld, %s (%s)\n", (long long)d->a.id,
		show(d->a.model_name).s, show(d->a.quant).s, (long long)d->b.id, show(d->b.model_name).s,
		show(d->b.quant).s);
	if (d->matched)
		printf("%.2f %% of the decisions on the same tokens differ, %.2f %% of the tokens at some "
			"layer; saturation %.4f\n", 100 * all->mismatch,
			100 * (double)d->touched / (double)d->matched, all->saturation);
	if (d->first >= 0)
		printf("first layer that differs: %d (a differing token's first: %.1f on average)\n",
			d->first, d->first_mean);
	if (isfinite(all->explained))
		printf("%.0f %% of the flips have a margin below %g in A\n", 100 * all->explained,
			d->epsilon);
	if (d->n && isfinite(d->layer[0].null_p95))
		printf("the load of %zu of %zu layers moved more than %s\n", moved, d->n, d->paired ?
			"swapping documents between the runs explains" : "dealing the documents anew explains");
}

/* What only one of the runs was made with: "B: adapter 1 = ...". */
static int print_settings(char side, struct reader *r, int64_t run, struct reader *other,
	int64_t other_run, struct moe_err *e)
{
	struct setting *s = NULL, *t = NULL;
	size_t n = 0, m = 0, j;

	if (reader_settings(r, run, &s, &n, e) || reader_settings(other, other_run, &t, &m, e)) {
		free(s);
		return -1;
	}
	for (size_t i = 0; i < n; i++) {
		for (j = 0; j < m && (strcmp(s[i].key, t[j].key) || strcmp(s[i].value, t[j].value)); j++)
			;
		if (j == m)
			printf("%c: %s = %s\n", side, show(s[i].key).s, show(s[i].value).s);
	}
	free(s);
	free(t);
	if (side == 'B')
		putchar('\n');
	return 0;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct load_filter fa = { .run = o.run, .domain = -1, .phase = o.phase }, fb = fa;
	struct reader *a = NULL, *b = NULL;
	struct view_table t = { 0 };
	struct diff d = { .n = 0 };
	int status = -1;

	if (argc < 1 || argc > 2 || (argc == 1 && !o.run_b))
		return err_set(e, MOE_ERR_USAGE, "two databases are needed, or one and --run-b: %d "
			"operands were given", argc);
	if (o.json && o.csv)
		return err_set(e, MOE_ERR_USAGE, "either --json or --csv");
	fb.run = o.run_b;
	a = reader_open(argv[0], e);
	b = a ? reader_open(argv[argc - 1], e) : NULL;
	if (!b || select_run(a, &fa.run, e) || select_run(b, &fb.run, e) ||
	    select_domain(a, fa.run, o.domain, &fa.domain, e) ||
	    select_domain(b, fb.run, o.domain, &fb.domain, e))
		goto out;
	if (view_diff(a, &fa, b, &fb, o.epsilon, &d, e) ||
	    (o.experts ? view_diff_experts(&d, &t, e) : view_diff_table(&d, &t, e)))
		goto out;
	if (!o.json && !o.csv && !o.experts) {
		verdict(&d);
		if (print_settings('A', a, fa.run, b, fb.run, e) ||
		    print_settings('B', b, fb.run, a, fa.run, e))
			goto out;
	}
	if (view_table_print(&t, o.json ? VIEW_JSON : o.csv ? VIEW_CSV : VIEW_PRETTY, stdout, e))
		goto out;
	select_remark(&t);
	status = judge(&d);
out:
	view_table_free(&t);
	view_diff_free(&d);
	reader_close(a);
	reader_close(b);
	return status;
}

const struct cmd cmd_diff = {
	"diff", "A [B]", "Two runs compared: load shift, differing sets, where and why",
	"A and B are databases; with one, --run and --run-b name two of its runs. Sets are compared where\n"
	"both runs have the same token at the same place. With a limit the exit status is 1 where it is\n"
	"exceeded or cannot be checked.\n",
	opts, run,
};
