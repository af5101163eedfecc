/*
 * trace.c - writes a synthetic trace that behaves like a real one, as fast as an engine could.
 *
 *	make bench-tools
 *	build/bench/trace DB [--tokens 100000] [--layers 48] [--experts 128] [--k 8] [--domains 5]
 *		[--document 2048] [--batch 512] [--bucket MS] [--weights exact|16bit|8bit|none]
 *		[--detail routes|counts]
 *		[--zipf 0.6] [--shift 0.25] [--reuse 0.2] [--seed 1] [--rows | --dry]
 *
 * The model of a token's choice at a layer:
 *   - popularity: expert ranks follow Zipf's law with exponent --zipf, in an order of the layer's
 *   own;
 *   - domains: a share --shift of the draws of a domain comes from the same law in another order;
 *   - locality: each rank of the token before is taken over with probability --reuse (Markov);
 *   - weights: the softmax over the largest k of n_expert normal logits of deviation 1.5,
 *     renormalised, from a table of 4096 draws; margins are the distance of the k-th probability to
 *     the next.
 * `moescope stat` shows what came out: with the defaults CV 0.65 to 0.68 by layer, consecutive
 * tokens share 26 % of their experts (uniform: 6 %) and 21 % of first choices, MI(domain; expert)
 * 0.029 bits. Only the seed decides. Prints one line: tokens, picks, seconds, picks per second,
 * bytes of the file, bytes a pick, processor seconds of all threads.
 *
 * --rows writes what one would write without this program: a table with a row per pick, one
 * prepared statement, one transaction. --dry only makes the choices, to tell the generator's own
 * time.
 */
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <moescope/trace.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/opt.h"
#include "base/rng.h"

enum { TABLE = 4096, DOMAINS_MAX = 32, K_MAX = 64, BATCH_MAX = 4096, VOCAB = 32000 };
static const char *const domain_name[] = { "code", "finance", "law", "medicine", "poetry" };

static long long tokens = 100000, layers = 48, experts = 128, k = 8, domains = 5, document = 2048,
	batch = 512, bucket, seed = 1;
static double zipf = 0.6, shift = 0.25, reuse = 0.2;
static int weights_kind, detail, rows, dry;
static const struct opt opts[] = {
	{ "tokens", 0, OPT_INT, &tokens, "N", "tokens to write", 1, 1e9 },
	{ "layers", 0, OPT_INT, &layers, "N", "MoE layers", 1, MOE_MAX_LAYER },
	{ "experts", 0, OPT_INT, &experts, "N", "experts of a layer", 2, MOE_MAX_EXPERT },
	{ "k", 0, OPT_INT, &k, "N", "experts per token", 1, K_MAX },
	{ "domains", 0, OPT_INT, &domains, "N", "domains", 1, DOMAINS_MAX },
	{ "document", 0, OPT_INT, &document, "N", "tokens of a document", 1, 1e7 },
	{ "batch", 0, OPT_INT, &batch, "N", "tokens of a batch", 1, BATCH_MAX },
	{ "bucket", 0, OPT_INT, &bucket, "MS", "width of a time bucket; 0 = 10000", 0, 1e9 },
	{ "weights", 0, OPT_ENUM, &weights_kind, "exact|16bit|8bit|none", "precision", 0, 0 },
	{ "detail", 0, OPT_ENUM, &detail, "routes|counts", "what is kept", 0, 0 },
	{ "zipf", 0, OPT_REAL, &zipf, "X", "exponent of the popularity", 0, 4 },
	{ "shift", 0, OPT_REAL, &shift, "X", "share of draws that the domain decides", 0, 1 },
	{ "reuse", 0, OPT_REAL, &reuse, "X", "chance that a rank is taken over", 0, 1 },
	{ "seed", 0, OPT_INT, &seed, "N", "seed", 0, 0 },
	{ "rows", 0, OPT_FLAG, &rows, NULL, "a plain table with a row per pick", 0, 0 },
	{ "dry", 0, OPT_FLAG, &dry, NULL, "write nothing", 0, 0 },
	{ 0 }
};

static struct rng rng;
static uint64_t fast;                  /* xorshift state for what is drawn per pick */
static uint16_t *draw;                 /* [layers][domains][TABLE]: experts by their chance */
static float *weight, *gap;            /* [TABLE][k], [TABLE] */
static uint16_t *last;                 /* [layers][k] choices of the token before */
static uint16_t *picks;                /* [batch][k]; one layer */
static float *w;                       /* [batch][k] */
static uint64_t seqs[BATCH_MAX];
static uint32_t poss[BATCH_MAX];
static int32_t toks[BATCH_MAX];
static float margins[BATCH_MAX];

static uint64_t next64(void)
{
	fast ^= fast << 13;
	fast ^= fast >> 7;
	fast ^= fast << 17;
	return fast * UINT64_C(2685821657736338717);
}

static double normal(void) /* Box and Muller */
{
	double u = rng_unit(&rng), v = rng_unit(&rng);

	return sqrt(-2 * log(u > 0 ? u : 1e-300)) * cos(6.283185307179586 * v);
}

static void permutation(uint16_t *p)
{
	for (long long i = 0; i < experts; i++) {
		long long j = (long long)rng_below(&rng, (uint64_t)i + 1);

		p[i] = p[j];
		p[j] = (uint16_t)i;
	}
}

/* Experts of a table in proportion to Zipf's law over the order p: draw [from, to). */
static void fill_draws(uint16_t *table, int from, int to, const uint16_t *p)
{
	double sum = 0, at = 0, n = to - from;
	int filled = from;

	for (long long i = 0; i < experts; i++)
		sum += pow((double)i + 1, -zipf);
	for (long long i = 0; i < experts; i++) {
		at += pow((double)i + 1, -zipf) / sum;
		for (; filled < to && filled - from < at * n - .5; filled++)
			table[filled] = p[i];
	}
	for (; filled < to; filled++)
		table[filled] = p[0];
}

static int descending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x < y) - (x > y);
}

static int make_tables(void)
{
	uint16_t own[MOE_MAX_EXPERT], other[MOE_MAX_EXPERT];
	double logit[MOE_MAX_EXPERT];

	draw = malloc((size_t)(layers * domains * TABLE) * sizeof *draw);
	weight = malloc((size_t)(TABLE * k) * sizeof *weight);
	gap = malloc(TABLE * sizeof *gap);
	last = calloc((size_t)(layers * k), sizeof *last);
	picks = malloc((size_t)(batch * k) * sizeof *picks);
	w = malloc((size_t)(batch * k) * sizeof *w);
	if (!draw || !weight || !gap || !last || !picks || !w)
		return -1;
	for (long long l = 0; l < layers; l++) {
		permutation(own);
		for (long long d = 0; d < domains; d++) {
			uint16_t *t = draw + (l * domains + d) * TABLE;
			int cut = (int)((1 - shift) * TABLE);

			permutation(other);
			fill_draws(t, 0, cut, own);
			fill_draws(t, cut, TABLE, other);
		}
	}
	for (int i = 0; i < TABLE; i++) {
		double all = 0, top = 0;

		for (long long e = 0; e < experts; e++)
			all += logit[e] = exp(1.5 * normal());
		qsort(logit, (size_t)experts, sizeof *logit, descending);
		for (long long j = 0; j < k; j++)
			top += logit[j];
		for (long long j = 0; j < k; j++)
			weight[i * k + j] = (float)(logit[j] / top);
		gap[i] = k < experts ? (float)((logit[k - 1] - logit[k]) / all) : INFINITY;
	}
	return 0;
}

/* The choices of n tokens at one layer. */
static void choose(long long layer, long long domain, uint32_t n)
{
	const uint16_t *table = draw + (layer * domains + domain) * TABLE;
	uint16_t *before = last + layer * k;
	unsigned keep = (unsigned)(reuse * 256);

	for (uint32_t t = 0; t < n; t++) {
		uint64_t seen[MOE_MAX_EXPERT / 64] = { 0 }, x = next64(), u = 0;
		uint16_t *out = picks + t * k;
		size_t from = (size_t)(next64() % TABLE);
		int left = 0;

		for (long long j = 0; j < k; j++) {
			unsigned e = before[j];

			if (j && j % 8 == 0)
				x = next64();
			if ((x >> j % 8 * 8 & 255) >= keep || seen[e / 64] >> e % 64 & 1)
				do {
					if (!left) {
						u = next64();
						left = 5;
					}
					e = table[u & (TABLE - 1)];
					u >>= 12;
					left--;
				} while (seen[e / 64] >> e % 64 & 1);
			seen[e / 64] |= UINT64_C(1) << e % 64;
			out[j] = (uint16_t)e;
		}
		memcpy(before, out, (size_t)k * sizeof *out);
		memcpy(w + t * k, weight + from * (size_t)k, (size_t)k * sizeof *w);
		margins[t] = gap[from];
	}
}

/* ---- where the choices go ---- */

static struct moe_hook *hook;
static sqlite3 *plain;
static sqlite3_stmt *insert;

static int emit_rows(const struct moe_route_view *v)
{
	for (uint32_t t = 0; t < v->n_tok; t++)
		for (int j = 0; j < v->k; j++) {
			sqlite3_bind_int64(insert, 1, (sqlite3_int64)v->seq[t]);
			sqlite3_bind_int(insert, 2, (int)v->pos[t]);
			sqlite3_bind_int(insert, 3, v->token[t]);
			sqlite3_bind_int(insert, 4, v->layer);
			sqlite3_bind_int(insert, 5, j);
			sqlite3_bind_int(insert, 6, v->experts[t * v->k + j]);
			sqlite3_bind_double(insert, 7, v->weights[t * v->k + j]);
			if (sqlite3_step(insert) != SQLITE_DONE)
				return -1;
			sqlite3_reset(insert);
		}
	return 0;
}

static int send(uint64_t seq, uint32_t pos, uint32_t n, long long domain, struct moe_err *e)
{
	struct moe_route_view v = { .n_expert = (uint16_t)experts, .k = (uint16_t)k,
		.phase = MOE_PREFILL, .n_tok = n, .seq = seqs, .pos = poss, .token = toks, .experts = picks,
		.weights = w, .margin = margins };
	struct moe_batch_info b = { .seq = seq, .pos0 = pos, .n_tok = n, .phase = MOE_PREFILL,
		.busy_ns = 1000 };

	for (uint32_t t = 0; t < n; t++) {
		double u = rng_unit(&rng);

		seqs[t] = seq;
		poss[t] = pos + t;
		toks[t] = (int32_t)(pow(VOCAB, u) - 1); /* log-uniform: Zipf with exponent 1 */
	}
	for (long long l = 0; l < layers; l++) {
		choose(l, domain, n);
		v.layer = (uint16_t)l;
		if (hook ? hook->route(hook->ctx, &v, e) : rows ? emit_rows(&v) : 0)
			return -1;
	}
	return hook ? hook->batch_end(hook->ctx, &b, e) : 0;
}

static int generate(struct moe_err *e)
{
	long long left = tokens;

	for (uint64_t seq = 1; left > 0; seq++) {
		long long d = (long long)(seq % (uint64_t)domains), n = left < document ? left : document,
			m;
		char name[48], extra[24];
		struct moe_seq_info s = { .seq = seq, .name = name, .n_prompt = (uint32_t)n };
		struct moe_seq_result r = { .seq = seq, .n_prompt = (uint32_t)n };

		snprintf(name, sizeof name, "document-%llu", (unsigned long long)seq);
		snprintf(extra, sizeof extra, "domain-%lld", d);
		s.domain = d < 5 ? domain_name[d] : extra;
		if (hook && hook->seq_begin(hook->ctx, &s, e))
			return -1;
		for (long long pos = 0; pos < n; pos += m) {
			m = n - pos < batch ? n - pos : batch;
			if (send(seq, (uint32_t)pos, (uint32_t)m, d, e))
				return -1;
		}
		if (hook && hook->seq_end(hook->ctx, &r, e))
			return -1;
		left -= n;
	}
	return 0;
}

static int into_trace(const char *path, struct moe_err *e)
{
	struct moe_layer_desc desc[MOE_MAX_LAYER];
	struct moe_run_desc d = { .command = "bench", .model_name = "synthetic", .arch = "none",
		.quant = "none", .router = "softmax > top-k > renormalised", .score = "softmax",
		.engine = "bench", .n_threads = 1, .n_batch = (uint32_t)batch, .n_vocab = VOCAB,
		.layers = desc, .n_moe_layer = (uint32_t)layers, .n_layer = (uint32_t)layers };
	struct moe_trace_opt o = { .detail = detail ? MOE_DETAIL_COUNTS : MOE_DETAIL_ROUTES,
		.weights = (enum moe_weights)weights_kind, .bucket_ms = (uint32_t)bucket };
	struct moe_trace *t;
	int bad;

	for (long long i = 0; i < layers; i++)
		desc[i] = (struct moe_layer_desc){ (uint16_t)i, (uint16_t)experts, (uint16_t)k };
	t = moe_trace_open(path, &o, &d, e);
	if (!t)
		return -1;
	hook = moe_trace_hook(t);
	bad = generate(e);
	hook = NULL;
	if (bad) {
		struct moe_err ignored;

		moe_trace_close(t, MOE_RUN_FAILED, &ignored);
		return -1;
	}
	return moe_trace_close(t, MOE_RUN_DONE, e);
}

static int into_rows(const char *path, struct moe_err *e)
{
	int bad = sqlite3_open(path, &plain) || sqlite3_exec(plain, "PRAGMA journal_mode = WAL; "
		"PRAGMA synchronous = NORMAL; CREATE TABLE decision(seq INTEGER, pos INTEGER, token "
		"INTEGER, layer INTEGER, rank INTEGER, expert INTEGER, weight REAL); BEGIN", NULL, NULL,
		NULL) || sqlite3_prepare_v2(plain, "INSERT INTO decision VALUES(?, ?, ?, ?, ?, ?, ?)", -1,
		&insert, NULL) || generate(e) || sqlite3_finalize(insert) || sqlite3_exec(plain, "COMMIT; "
		"PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);

	if (bad)
		err_set(e, MOE_ERR_SYS, "%s: %s", path, sqlite3_errmsg(plain));
	sqlite3_close(plain);
	return bad ? -1 : 0;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	struct moe_err e = { 0 };
	struct stat st = { 0 };
	struct rusage u;
	int64_t begin;
	double s, n;
	int count, bad;

	if (opt_parse(opts, argc, argv, &count, &e) || count != 1 || k > experts) {
		fprintf(stderr, "usage: trace DB [OPTIONS] %s\n", e.msg);
		opt_help(opts, stderr);
		return 2;
	}
	rng_seed(&rng, (uint64_t)seed);
	fast = rng_u64(&rng) | 1;
	if (make_tables())
		return 4;
	begin = clock_mono();
	bad = dry ? generate(&e) : rows ? into_rows(argv[0], &e) : into_trace(argv[0], &e);
	if (bad) {
		fprintf(stderr, "trace: %s\n", e.msg);
		return (int)e.code;
	}
	s = (double)(clock_mono() - begin) / 1e9;
	n = (double)tokens * (double)layers * (double)k;
	if (!dry)
		stat(argv[0], &st);
	getrusage(RUSAGE_SELF, &u);
	printf("%lld %.0f %.3f %.4g %lld %.4f %.3f\n", tokens, n, s, n / s, (long long)st.st_size,
		(double)st.st_size / n, seconds(u.ru_utime) + seconds(u.ru_stime));
	return 0;
}
