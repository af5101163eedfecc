/*
 * feed.c - writes synthetic routing decisions to a database, as an engine would: for tests and for
 * working on the dashboard and the report without a model.
 *
 *	make tools
 *	build/tests/feed DB [--layers 4] [--experts 16] [--k 2] [--domains 5] [--tokens 100000]
 *		[--skew 1.0] [--collapse LAYER] [--rate TOKENS_PER_S] [--detail counts|routes|full]
 *		[--prompt 300] [--generate 100] [--text] [--seed 1]
 *	build/tests/feed live.db --rate 500 --tokens 0 &    # until it is killed: a live run
 *
 * The model: each (layer, domain) has expert preferences drawn once from the seed and scaled by
 * --skew (0 = uniform); a token adds its own. Experts are the top k of the softmax, weights
 * renormalised. From half of the tokens on, layer --collapse sends nearly everything to experts 0
 * and 1. Documents of one domain follow each other in turn: a prompt in batches of 128, then
 * generated tokens one by one. Prints "RUN TOKENS" at the end.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <moescope/trace.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/opt.h"
#include "base/rng.h"

enum { BATCH = 128, DOMAINS_MAX = 64 };
static const char *const domain_name[] = { "code", "finance", "law", "medicine", "poetry" };

static long long layers = 4, experts = 16, k = 2, domains = 5, tokens = 100000, collapse = -1,
	seed = 1, prompt = 300, generate = 100, first_layer, ring_kib, commit_ms, bucket_ms,
	vocab = 1000;
static double skew = 1.0, rate, noise = 1.0;
static int detail = 1, full, drop, text;
static const struct opt opts[] = {
	{ "layers", 0, OPT_INT, &layers, "N", "MoE layers", 1, MOE_MAX_LAYER },
	{ "first-layer", 0, OPT_INT, &first_layer, "N", "index of the first MoE layer", 0, 100 },
	{ "experts", 0, OPT_INT, &experts, "N", "experts of a layer", 1, MOE_MAX_EXPERT },
	{ "k", 0, OPT_INT, &k, "N", "experts per token", 1, MOE_MAX_EXPERT },
	{ "domains", 0, OPT_INT, &domains, "N", "domains, 0 = none given", 0, DOMAINS_MAX },
	{ "tokens", 0, OPT_INT, &tokens, "N", "tokens to write, 0 = until killed", 0, 0 },
	{ "prompt", 0, OPT_INT, &prompt, "N", "tokens of a prompt", 0, 1e9 },
	{ "generate", 0, OPT_INT, &generate, "N", "tokens generated after it", 0, 1e9 },
	{ "skew", 0, OPT_REAL, &skew, "X", "strength of the preferences of a domain", 0, 100 },
	{ "noise", 0, OPT_REAL, &noise, "X", "strength of the preferences of a token", 0, 100 },
	{ "collapse", 0, OPT_INT, &collapse, "LAYER", "layer that collapses half way", 0, 511 },
	{ "rate", 0, OPT_REAL, &rate, "TOKENS_PER_S", "pace; 0 = as fast as possible", 0, 1e12 },
	{ "detail", 0, OPT_ENUM, &detail, "counts|routes|full", "what is kept", 0, 0 },
	{ "full", 0, OPT_FLAG, &full, NULL, "same as --detail full", 0, 0 },
	{ "drop", 0, OPT_FLAG, &drop, NULL, "drop rather than wait", 0, 0 },
	{ "text", 0, OPT_FLAG, &text, NULL, "store token texts too", 0, 0 },
	{ "ring", 0, OPT_INT, &ring_kib, "KIB", "size of the ring", 0, 1 << 24 },
	{ "commit", 0, OPT_INT, &commit_ms, "MS", "longest time before a commit", 0, 1e6 },
	{ "bucket", 0, OPT_INT, &bucket_ms, "MS", "width of a time bucket", 0, 1e9 },
	{ "vocab", 0, OPT_INT, &vocab, "N", "token ids", 1, 1000 },
	{ "seed", 0, OPT_INT, &seed, "N", "seed", 0, 0 },
	{ 0 }
};

static struct rng rng;
static struct moe_hook *hook;
static float *pref;                     /* [domains + 1][layers][experts] */
static uint64_t seqs[BATCH];
static uint32_t poss[BATCH];
static int32_t toks[BATCH];
static uint16_t *picks;                 /* [BATCH][k] */
static float *weights, *logits, margins[BATCH];
static uint8_t flags[BATCH];
static long long written;
static int64_t t0;
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

/* Roughly normal: sum of four uniforms, variance 1. */
static float gauss(void)
{
	double x = rng_unit(&rng) + rng_unit(&rng) + rng_unit(&rng) + rng_unit(&rng) - 2;

	return (float)(x * 1.7320508);
}

static void pick(const float *l, uint16_t *e, float *w, float *margin)
{
	float next = -INFINITY, max, sum = 0;
	long long i, j, n = 0;

	for (i = 0; i < experts; i++) {
		for (j = n; j > 0 && l[i] > l[e[j - 1]]; j--)
			if (j < k)
				e[j] = e[j - 1];
			else
				next = l[e[j - 1]];
		if (j < k)
			e[j] = (uint16_t)i;
		else if (l[i] > next)
			next = l[i];
		n += n < k;
	}
	max = l[e[0]];
	for (j = 0; j < k; j++)
		sum += w[j] = expf(l[e[j]] - max);
	for (j = 0; j < k; j++)
		w[j] /= sum;
	*margin = k < experts ? l[e[k - 1]] - next : INFINITY;
}

static int batch(uint64_t seq, uint32_t pos, uint32_t n, int phase, long long domain,
	struct moe_err *e)
{
	int64_t begin = clock_mono();
	int collapsed = tokens ? written >= tokens / 2 : clock_mono() - t0 > INT64_C(30000000000);
	struct moe_route_view v = { .n_expert = (uint16_t)experts, .k = (uint16_t)k,
		.phase = (uint8_t)phase, .n_tok = n, .seq = seqs, .pos = poss, .token = toks,
		.experts = picks, .weights = weights, .margin = margins, .logits = logits,
		.flags = flags };
	struct moe_batch_info b = { .seq = seq, .pos0 = pos, .n_tok = n, .phase = (uint8_t)phase };

	for (uint32_t t = 0; t < n; t++) {
		seqs[t] = seq;
		poss[t] = pos + t;
		toks[t] = (int32_t)rng_below(&rng, (uint64_t)vocab);
	}
	for (long long l = 0; l < layers; l++) {
		const float *p = pref + (domain * layers + l) * experts;

		v.layer = (uint16_t)(first_layer + l);
		for (uint32_t t = 0; t < n; t++) {
			float *x = logits + (size_t)t * (size_t)experts;

			for (long long i = 0; i < experts; i++)
				x[i] = p[i] + (float)noise * gauss() +
					(collapsed && l == collapse && i < 2 ? 6.0f : 0.0f);
			pick(x, picks + t * k, weights + t * k, margins + t);
		}
		if (hook->route(hook->ctx, &v, e))
			return -1;
	}
	written += n;
	b.busy_ns = (uint64_t)(clock_mono() - begin);
	if (rate > 0) {
		int64_t due = t0 + (int64_t)((double)written / rate * 1e9) - clock_mono();
		struct timespec ts = { due / 1000000000, due % 1000000000 };

		if (due > 0)
			nanosleep(&ts, NULL);
	}
	return hook->batch_end(hook->ctx, &b, e);
}

static int document(uint64_t seq, struct moe_err *e)
{
	char name[64], domain[32];
	long long d = domains ? (long long)(seq % (uint64_t)domains) : 0, n, left;
	struct moe_seq_info s = { .seq = seq, .name = name, .n_prompt = (uint32_t)prompt };
	struct moe_seq_result r = { .seq = seq };
	uint32_t pos = 0;

	snprintf(name, sizeof name, "document-%llu", (unsigned long long)seq);
	if (d < 5)
		snprintf(domain, sizeof domain, "%s", domain_name[d]);
	else
		snprintf(domain, sizeof domain, "domain-%lld", d);
	s.domain = domains ? domain : NULL;
	if (hook->seq_begin(hook->ctx, &s, e))
		return -1;
	for (left = prompt; left > 0 && !stop && (!tokens || written < tokens); left -= n) {
		n = left < BATCH ? left : BATCH;
		if (tokens && n > tokens - written)
			n = tokens - written;
		if (batch(seq, pos, (uint32_t)n, MOE_PREFILL, d, e))
			return -1;
		pos += (uint32_t)n;
		r.n_prompt += (uint32_t)n;
	}
	for (left = generate; left > 0 && !stop && (!tokens || written < tokens); left--, pos++) {
		if (batch(seq, pos, 1, MOE_DECODE, d, e))
			return -1;
		r.n_generated++;
	}
	r.n_scored = r.n_prompt;
	r.nll = r.n_scored * (2.0 + 0.1 * (double)d);
	r.n_bytes = r.n_scored * UINT64_C(4);
	return hook->seq_end(hook->ctx, &r, e);
}

static int feed(const char *path, struct moe_err *e)
{
	struct moe_layer_desc desc[MOE_MAX_LAYER];
	struct moe_run_desc d = { .command = "feed", .model_name = "synthetic", .arch = "none",
		.quant = "none", .router = "softmax > top-k > renormalised", .score = "softmax",
		.engine = "feed", .n_threads = 1, .n_batch = BATCH, .n_vocab = 1000, .layers = desc,
		.n_moe_layer = (uint32_t)layers, .n_layer = (uint32_t)(first_layer + layers) };
	struct moe_trace_opt o = { .detail = full ? MOE_DETAIL_FULL : (enum moe_detail)detail,
		.drop = drop, .ring_bytes = (size_t)ring_kib * 1024, .commit_ms = (uint32_t)commit_ms,
		.bucket_ms = (uint32_t)bucket_ms };
	struct moe_trace *t;
	int bad = 0;

	for (long long i = 0; i < layers; i++)
		desc[i] = (struct moe_layer_desc){ (uint16_t)(first_layer + i), (uint16_t)experts,
			(uint16_t)k };
	t = moe_trace_open(path, &o, &d, e);
	if (!t)
		return -1;
	hook = moe_trace_hook(t);
	for (int i = 0; text && !bad && i < 1000; i++) {
		char piece[16];

		bad = moe_trace_token_text(t, i, piece, (size_t)sprintf(piece, " tok%d", i), e);
	}
	t0 = clock_mono();
	for (uint64_t seq = 1; !bad && !stop && (!tokens || written < tokens); seq++)
		bad = document(seq, e);
	printf("%lld %lld\n", (long long)moe_trace_run(t), written);
	if (bad) {
		struct moe_err first = *e;

		moe_trace_close(t, MOE_RUN_FAILED, e);
		*e = first;
		return -1;
	}
	return moe_trace_close(t, MOE_RUN_DONE, e);
}

int main(int argc, char **argv)
{
	struct moe_err e = { 0 };
	int n, bad;

	if (opt_parse(opts, argc, argv, &n, &e) || n != 1 || k > experts ||
		first_layer + layers > MOE_MAX_LAYER || prompt + generate == 0) {
		fprintf(stderr, "usage: feed DB [OPTIONS] %s\n", e.msg);
		opt_help(opts, stderr);
		return 2;
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	rng_seed(&rng, (uint64_t)seed);
	pref = malloc((size_t)((domains + 1) * layers * experts) * sizeof *pref);
	picks = malloc((size_t)(BATCH * k) * sizeof *picks);
	weights = malloc((size_t)(BATCH * k) * sizeof *weights);
	logits = malloc((size_t)(BATCH * experts) * sizeof *logits);
	if (!pref || !picks || !weights || !logits)
		return 4;
	for (long long i = 0; i < (domains + 1) * layers * experts; i++)
		pref[i] = (float)skew * gauss();
	bad = feed(argv[0], &e);
	if (bad)
		fprintf(stderr, "feed: %s\n", e.msg);
	free(pref);
	free(picks);
	free(weights);
	free(logits);
	return bad ? (int)e.code : 0;
}
