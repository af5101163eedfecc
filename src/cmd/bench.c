/*
 * bench.c - `moescope bench`: speed of the engine on this machine beside its physical limits, and
 * the cost of logging as a paired ratio.
 *
 * Sides with and without a trace take turns over the same random tokens (bench_side.h). Each round gives a
 * ratio for each that logs; their median is printed with an interval that holds it in 95 of 100 cases
 * (bootstrap over the rounds), since single runs on a shared machine say little. One pair of sides does the
 * same: what it shows is what such a comparison can resolve. With --audit every side logs, and some keep
 * an audit log as well.
 *
 * Time on the clock is what the engine's thread takes. Processor time is that of all threads, the side's
 * writer included. It is what a busy machine pays, and it hardly depends on what else the machine does.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "base/text.h"
#include "cmd/bench_side.h"
#include "cmd/show.h"
#include "kern/peak.h"

#define RESAMPLES 1000

static const char *const phase_name[] = { "prefill", "decode" };
enum { BOTH_LEVELS = 3 }; /* of --detail: routes and full */

static struct load_opts lo;
static long long pairs = 11, n_prefill = 512, n_decode = 128, depth = 1;
static int detail = BOTH_LEVELS, json, no_log, audit, parts;

/* ---- figures ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct stat3 { double q1, med, q3; };

static double median_of(double *v, long long n)
{
	qsort(v, (size_t)n, sizeof *v, by_value);
	return v[n / 2];
}

/* The interval between the 2.5 % and the 97.5 % points of the medians of samples, drawn with replacement, of
 * x / divide_by (Efron 1979, the percentile method). */
static struct stat3 interval(const double *x, const double *divide_by, long long n)
{
	static double medians[RESAMPLES];
	double *v = malloc((size_t)n * sizeof *v);
	struct rng r;

	if (!v)
		return (struct stat3){ NAN, NAN, NAN };
	rng_seed(&r, 1);
	for (int k = 0; k < RESAMPLES; k++) {
		for (long long i = 0; i < n; i++) {
			uint32_t at = (uint32_t)rng_below(&r, (uint32_t)n);

			v[i] = x[at] / divide_by[at];
		}
		medians[k] = median_of(v, n);
	}
	free(v);
	qsort(medians, RESAMPLES, sizeof *medians, by_value);
	return (struct stat3){ medians[RESAMPLES / 40], medians[RESAMPLES / 2], medians[RESAMPLES - 1 - RESAMPLES / 40] };
}

static struct stat3 quartiles(const double *x, const double *divide_by, long long n)
{
	double *v = malloc((size_t)n * sizeof *v);
	struct stat3 s = { NAN, NAN, NAN };

	if (!v)
		return s;
	for (long long i = 0; i < n; i++)
		v[i] = divide_by ? x[i] / divide_by[i] : x[i];
	qsort(v, (size_t)n, sizeof *v, by_value);
	s = (struct stat3){ v[n / 4], v[n / 2], v[n - 1 - n / 4] };
	free(v);
	return s;
}

/* NAN where it cannot be measured. */
static double joule_per_token(const struct energy *x, int phase)
{
	return x->why[0] || !x->phase[phase].tokens || !(x->phase[0].uj + x->phase[1].uj) ? NAN :
		(double)x->phase[phase].uj * 1e-6 / (double)x->phase[phase].tokens;
}

static void print_energy(const struct energy *x)
{
	if (isnan(joule_per_token(x, MOE_PREFILL)))
		printf("\nenergy: unavailable: %s\n", x->why[0] ? show(x->why).s : "the counters did not move");
	else
		printf("\nenergy of the machine's processor packages: prefill %.3g J per token, decode %.3g J per "
			"token\n", joule_per_token(x, MOE_PREFILL), joule_per_token(x, MOE_DECODE));
}

/* Of a phase: tokens, and how many a second the machine could do. */
static size_t tokens_of(const struct bench *b, int phase)
{
	return phase == PREFILL ? b->n_pre : b->n_dec;
}

/* Tokens a second, and how many the machine could have done: medians of the rounds, as is the share that
 * was reached in each, since what a shared machine can do changes from minute to minute. */
struct speed { struct stat3 t; double rate, limit, of_limit; };

static struct speed speed_of(const struct bench *b, int phase)
{
	static double bound[BENCH_PAIRS];
	double n = (double)tokens_of(b, phase);
	struct speed v = { .t = quartiles(b->t[phase][0], NULL, pairs) };

	for (long long r = 0; r < pairs; r++)
		bound[r] = n * (phase == PREFILL ? limit_prefill(&b->limit[phase][r]) :
			limit_decode(&b->limit[phase][r], b->l.model, b->s,
				(uint32_t)(b->n_depth + b->n_dec / 2)));
	v.rate = n / v.t.med;
	v.limit = n / quartiles(bound, NULL, pairs).med;
	v.of_limit = quartiles(bound, b->t[phase][0], pairs).med;
	return v;
}

enum { READING = PEAK_N }; /* a limit beside those of multiply-adds */

/* Of the rounds in which it counts, the median of a limit. */
static double median_rate(const struct bench *b, int kind)
{
	static double v[BENCH_PAIRS];

	for (long long r = 0; r < pairs; r++)
		v[r] = kind == READING ? b->limit[DECODE][r].read : b->limit[PREFILL][r].macs[kind];
	return median_of(v, pairs);
}

static const char *part_name(int i)
{
	return i < SESSION_N_PART ? session_part_name((enum session_part)i) : "rest";
}

static double all_parts(const double part[SESSION_N_PART + 1])
{
	double sum = 0;

	for (int i = 0; i <= SESSION_N_PART; i++)
		sum += part[i];
	return sum;
}

/* Of side i to the one that it is compared with. */
static void json_ratios(const struct bench *b, int p, size_t i)
{
	static const char *const name[] = { "", "cpu_" };
	size_t than = b->side[i].than;

	for (int cpu = 0; cpu < 2; cpu++) {
		const double *x = cpu ? b->cpu[p][i] : b->t[p][i], *y = cpu ? b->cpu[p][than] : b->t[p][than];
		struct stat3 c = quartiles(x, y, pairs), v = interval(x, y, pairs);
		const char *s = name[cpu];

		printf("%s\"%s\": %.5f, \"%sq1\": %.5f, \"%sq3\": %.5f, \"%slow\": %.5f, \"%shigh\": %.5f",
			cpu ? ", " : "", cpu ? "cpu_ratio" : "ratio", c.med, s, c.q1, s, c.q3, s, v.q1, s, v.q3);
	}
}

static void json_phase(const struct bench *b, int p)
{
	struct speed v = speed_of(b, p);
	double n = (double)tokens_of(b, p);

	printf("{\"phase\": \"%s\", \"tokens\": %zu, \"behind\": %zu, \"tokens_per_s\": %.3f, "
		"\"q1\": %.3f, \"q3\": %.3f, \"limit\": %.3f, \"of_limit\": %.4f, \"logging\": [",
		phase_name[p], tokens_of(b, p),
		p == DECODE ? b->n_depth : 0, v.rate, n / v.t.q3, n / v.t.q1, v.limit, v.of_limit);
	for (size_t i = 0, n_out = 0; i < b->n_side; i++)
		if (b->side[i].than != i && !b->side[i].same) {
			printf("%s{\"detail\": \"%s\", \"audit\": %s, ", n_out++ ? ", " : "", bench_level[b->side[i].detail],
				audit ? "true" : "false");
			json_ratios(b, p, i);
			printf("}");
		}
	printf("], \"same\": {");
	for (size_t i = 0; i < b->n_side; i++)
		if (b->side[i].same)
			json_ratios(b, p, i);
	printf("}, \"joule_per_token\": ");
	if (isnan(joule_per_token(&b->energy, p)))
		printf("null");
	else
		printf("%.6g", joule_per_token(&b->energy, p));
	printf(", \"parts\": {");
	for (int i = 0; parts && i <= SESSION_N_PART; i++)
		printf("%s\"%s\": %.5f", i ? ", " : "", part_name(i), b->part[p][i] / all_parts(b->part[p]));
	printf("}}");
}

static void report_json(const struct bench *b)
{
	const struct model_info *in = model_info(b->l.model);
	struct buf name;

	buf_init(&name, 4096);
	text_escape(&name, in->name, strlen(in->name), TEXT_JSON);
	printf("{\"model\": \"%.*s\", \"quant\": \"%s\", \"threads\": %d, \"arithmetic\": \"%s\", \"pairs\": %lld, "
		"\"start_s\": %.4f, \"peak_bytes\": %llu, \"file_bytes\": %llu, \"read_bytes_per_s\": %.4g, "
		"\"int8_macs_per_s\": %.4g, \"bf16_macs_per_s\": %.4g, \"float_macs_per_s\": %.4g, "
		"\"phases\": [", (int)name.len, name.len ? (const char *)name.data : "",
		in->quant, session_threads(b->s), session_arithmetic(b->s), pairs, b->start,
		(unsigned long long)b->peak, (unsigned long long)gguf_file_bytes(b->l.gguf),
		median_rate(b, READING), median_rate(b, PEAK_INT8), median_rate(b, PEAK_BF16),
		median_rate(b, PEAK_FLOAT));
	json_phase(b, PREFILL);
	printf(", ");
	json_phase(b, DECODE);
	printf("]}\n");
	buf_free(&name);
}

static void print_speed(const struct bench *b)
{
	static const char *const arithmetic[PEAK_N] = { [PEAK_INT8] = "in 8-bit arithmetic",
		[PEAK_BF16] = "of BF16", [PEAK_FLOAT] = "in single precision" };
	const struct model_info *in = model_info(b->l.model);
	uint64_t kv = session_kv_bytes(b->s, (uint32_t)(b->n_depth + b->n_dec / 2));

	printf("%s, %s, %d threads, %s, %lld %s\n\n%-8s %7s %10s %22s %11s %8s\n", show(in->name).s, in->quant,
		session_threads(b->s), session_arithmetic(b->s), pairs, pairs == 1 ? "round" : "rounds", "",
		"tokens", "tokens/s", "(quartiles)", "limit", "of limit");
	for (int p = 0; p < N_PHASE; p++) {
		struct speed v = speed_of(b, p);
		double n = (double)tokens_of(b, p);

		printf("%-8s %7zu %10.1f  (%8.1f - %8.1f) %11.1f %6.0f %%\n", phase_name[p], tokens_of(b, p), v.rate,
			n / v.t.q3, n / v.t.q1, v.limit, 100 * v.of_limit);
	}
	printf("\nlimits of all threads together:\n");
	for (int i = 0; i < PEAK_N; i++)
		if (b->limit[PREFILL][0].need[i] > 0)
			printf("  prefill  %.1f M multiply-adds a token %s at %.0f G/s (%s)\n",
				1e-6 * b->limit[PREFILL][0].need[i], arithmetic[i],
				1e-9 * median_rate(b, i), peak_name((enum peak)i));
	printf("  decode   %.1f MB of weights and %.1f MB of keys and values a token at %.1f GB/s read%s\n",
		1e-6 * (double)in->bytes_per_token, 1e-6 * (double)kv, 1e-9 * median_rate(b, READING),
		in->weight_bytes < 32u << 20 ? " (but these weights fit in the cache)" : "");
	printf("\nstart to first token %.1f ms, peak memory %.1f MB, model file %.1f MB\n", 1e3 * b->start,
		1e-6 * (double)b->peak, 1e-6 * (double)gguf_file_bytes(b->l.gguf));
}

static void print_logging(const struct bench *b)
{
	printf("\ncost of %s, with / without, round by round: median (95 %% interval)\n%-18s %-26s %s\n",
		audit ? "an audit log beside logging" : "logging", "", "time", "processor time of all threads");
	for (size_t i = 0; i < b->n_side; i++)
		for (int p = 0; p < N_PHASE && b->side[i].than != i; p++) {
			size_t than = b->side[i].than;
			struct stat3 c = quartiles(b->t[p][i], b->t[p][than], pairs), v = interval(b->t[p][i], b->t[p][than], pairs);
			struct stat3 u = quartiles(b->cpu[p][i], b->cpu[p][than], pairs);
			struct stat3 w = interval(b->cpu[p][i], b->cpu[p][than], pairs);

			printf("  %-6s  %-8s %.4f (%.4f - %.4f)   %.4f (%.4f - %.4f)\n",
				b->side[i].same ? "same" : bench_level[b->side[i].detail], phase_name[p], c.med, v.q1, v.q3, u.med,
				w.q1, w.q3);
		}
	printf("  (same: two sides that %s)\n", audit ? "log without one: what is there to be resolved" :
		"do not log: so little can be told apart");
}

static void print_parts(const struct bench *b)
{
	printf("\nwhere the time goes:\n%-14s", "");
	for (int p = 0; p < N_PHASE; p++)
		printf(" %18s", phase_name[p]);
	for (int i = 0; i <= SESSION_N_PART; i++) {
		printf("\n  %-12s", part_name(i));
		for (int p = 0; p < N_PHASE; p++)
			printf("  %5.1f %% %6.0f us", 100 * b->part[p][i] / all_parts(b->part[p]),
				1e6 * b->part[p][i] / (double)tokens_of(b, p));
	}
	printf("\n  (microseconds are those of a token)\n");
}

static int open_all(struct bench *b, const char *model, struct moe_err *e)
{
	int first = detail == BOTH_LEVELS ? MOE_DETAIL_ROUTES : detail;
	int last = detail == BOTH_LEVELS ? MOE_DETAIL_FULL : detail;

	b->lo = &lo;
	b->pairs = pairs;
	energy_init(&b->energy);
	if (bench_open(b, model, (size_t)n_prefill, (size_t)n_decode, (size_t)depth, e))
		return -1;
	return no_log || !model_info(b->l.model)->n_moe_layer ? 0 : bench_add_sides(b, first, last, audit, e);
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct bench *b;
	int failed;

	if (argc > 1)
		return err_set(e, MOE_ERR_USAGE, "one model at a time, %d were given", argc);
	b = calloc(1, sizeof *b);
	if (!b)
		return err_nomem(e, sizeof *b, "bench");
	load_catch_interrupt();
	failed = open_all(b, argc ? argv[0] : "sample:balanced", e) || bench_run(b, e) || (parts && bench_parts(b, e));
	if (!failed && json) {
		report_json(b);
	} else if (!failed) {
		print_speed(b);
		print_energy(&b->energy);
		if (b->n_side > 1)
			print_logging(b);
		if (parts)
			print_parts(b);
	}
	bench_close(b);
	free(b);
	return failed ? -1 : 0;
}

static const struct opt opts[] = {
	{ "pairs", 'n', OPT_INT, &pairs, "N", "rounds in which all sides take turns (default 11)", 1,
	  BENCH_PAIRS },
	{ "prefill", 0, OPT_INT, &n_prefill, "N", "tokens of a prefill (default 512, at most the context)", 1,
	  1 << 20 },
	{ "decode", 0, OPT_INT, &n_decode, "N", "tokens decoded (default 128)", 1, 1 << 20 },
	{ "depth", 0, OPT_INT, &depth, "N", "tokens that stand before those decoded (default 1)", 1, 1 << 24 },
	{ "detail", 0, OPT_ENUM, &detail, "counts|routes|full|both", "what is logged (default both: routes, and full)",
	  0, 0 },
	{ "no-log", 0, OPT_FLAG, &no_log, NULL, "speed only", 0, 0 },
	{ "audit", 0, OPT_FLAG, &audit, NULL, "what an audit log costs beside logging, at each level", 0, 0 },
	{ "parts", 0, OPT_FLAG, &parts, NULL, "where the time goes", 0, 0 },
	{ "json", 0, OPT_FLAG, &json, NULL, "print JSON", 0, 0 },
	LOAD_OPTS(lo),
	{ 0 },
};

const struct cmd cmd_bench = {
	"bench", "[MODEL]", "Measure this engine on this machine, with and without logging",
	"MODEL is a GGUF file or sample:balanced, sample:collapsed (default: sample:balanced).\n", opts,
	run,
};
