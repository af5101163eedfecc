/* evaluate.c - measures a checkpoint on the complete held-out sets.
 *
 *   evaluate --data DIR --ckpt FILE [--manifest MANIFEST.tsv] [--json FILE] [--windows N]
 *            [--len L]
 *
 * Bits per byte: a window of L tokens (256) slides over the stream by L/2; a target is scored once,
 * with at least L/2 tokens of context or back to the start of its document. The cost of
 * <|endoftext|> is in the nats; its bytes are none.
 * Routing, per layer, over the same tokens: load, entropy, dead experts; MI(domain; expert), each
 * domain counted alike, against a null in which the domain labels of the documents are permuted
 * 100 times; MI(token; expert) in two senses: of the token id with the picks, from counts, and
 * of the metrics reference, H(mean p) - mean H(p) of the router's probabilities.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ckpt.h"
#include "data.h"
#include "gemm.h"
#include "rng.h"

enum { SEQS = 16, PERMUTATIONS = 100, MAX_DOCS = 4096, MAX_LEN = 1024 };

struct tally {
	const struct net_config *cfg;
	size_t docs;
	uint8_t domain_of[MAX_DOCS];
	double *doc;			/* [docs][layers][experts] picks */
	double *token;			/* [layers][vocab][experts] picks */
	double *prob;			/* [layers][experts] sum of probabilities */
	double entropy[NET_MAX_LAYERS];	/* sum over tokens of H(p), bits */
	double tokens;
	double nats[DATA_DOMAINS], bytes[DATA_DOMAINS], count[DATA_DOMAINS];
};

struct layer_figures {
	double max_mean, entropy, mi_domain, null_mean, null_p95, mi_token_id, mi_token;
	int dead, cold;			/* experts with no pick; with less than a tenth of the mean */
};

static double *cell(const struct tally *t, size_t doc, size_t layer)
{
	return t->doc + (doc * (size_t)t->cfg->layers + layer) * (size_t)t->cfg->experts;
}

static void count_token(struct tally *t, const struct net *n, size_t at, uint16_t id, size_t doc)
{
	size_t e = (size_t)t->cfg->experts, k = (size_t)t->cfg->picks;
	t->tokens++;
	for (size_t l = 0; l < (size_t)t->cfg->layers; l++) {
		const uint8_t *pick = net_picks(n, l) + at * k;
		const real *p = net_probs(n, l) + at * e;
		for (size_t j = 0; j < k; j++) {
			cell(t, doc, l)[pick[j]]++;
			t->token[(l * DATA_VOCAB + id) * e + pick[j]]++;
		}
		for (size_t i = 0; i < e; i++) {
			double x = (double)p[i];
			t->prob[l * e + i] += x;
			if (x > 0)
				t->entropy[l] -= x * log2(x);
		}
	}
}

/* Scores one domain's stream; `limit` windows at most when it is not 0. */
static int score(struct tally *t, struct net *n, const struct data *d, int domain, size_t len,
		 size_t limit)
{
	const struct data_domain *m = &d->domain[domain];
	static uint16_t in[SEQS * MAX_LEN], target[SEQS * MAX_LEN], seg[SEQS * MAX_LEN];
	static float loss[SEQS * MAX_LEN];
	struct net_stats st;
	size_t stride = len / 2;
	size_t windows = m->held_size <= len ? 0 : (m->held_size - len - 1) / stride + 1;
	size_t doc = t->docs, batches;
	if (!windows) {
		fprintf(stderr, "%s: held-out set too short\n", m->name);
		return -1;
	}
	windows = limit && limit < windows ? limit : windows;
	batches = (windows + SEQS - 1) / SEQS;
	t->domain_of[doc] = (uint8_t)domain;
	for (size_t i = 0; i < batches; i++) {
		size_t seqs = windows - i * SEQS < SEQS ? windows - i * SEQS : SEQS;
		for (size_t b = 0; b < seqs; b++)
			data_window(m->held, (i * SEQS + b) * stride, len, in + b * len,
				    target + b * len, seg + b * len);
		net_step(n, seqs, len, in, target, seg, 0, loss, &st);
		for (size_t b = 0; b < seqs; b++)
			for (size_t p = i + b ? stride : 0; p < len; p++) {
				size_t at = b * len + p;
				if (in[at] == DATA_EOT && t->count[domain] > 0) {
					if (++doc == MAX_DOCS) {
						fprintf(stderr, "too many documents\n");
						return -1;
					}
					t->domain_of[doc] = (uint8_t)domain;
				}
				t->nats[domain] += (double)loss[at];
				t->bytes[domain] += d->bytes[target[at]];
				t->count[domain]++;
				count_token(t, n, at, in[at], doc);
			}
	}
	t->docs = doc + 1;
	return 0;
}

/* Mutual information in bits of a table [rows][e] of weights. */
static double mutual(size_t rows, size_t e, const double *x)
{
	double *col = calloc(e, sizeof *col), all = 0, mi = 0;
	if (!col)
		abort();
	for (size_t r = 0; r < rows; r++)
		for (size_t i = 0; i < e; i++) {
			col[i] += x[r * e + i];
			all += x[r * e + i];
		}
	for (size_t r = 0; r < rows; r++) {
		double row = 0;
		for (size_t i = 0; i < e; i++)
			row += x[r * e + i];
		for (size_t i = 0; i < e; i++)
			if (x[r * e + i] > 0)
				mi += x[r * e + i] / all * log2(x[r * e + i] * all / row / col[i]);
	}
	free(col);
	return mi;
}

/* MI(domain; expert) under a labelling of the documents, every domain given the same weight. */
static double mi_domain(const struct tally *t, size_t layer, const uint8_t *label)
{
	size_t e = (size_t)t->cfg->experts;
	double x[DATA_DOMAINS * NET_MAX_EXPERTS] = { 0 };
	for (size_t i = 0; i < t->docs; i++)
		for (size_t j = 0; j < e; j++)
			x[label[i] * e + j] += cell(t, i, layer)[j];
	for (size_t m = 0; m < DATA_DOMAINS; m++) {
		double sum = 0;
		for (size_t j = 0; j < e; j++)
			sum += x[m * e + j];
		for (size_t j = 0; j < e && sum > 0; j++)
			x[m * e + j] /= sum;
	}
	return mutual(DATA_DOMAINS, e, x);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static struct layer_figures figures(const struct tally *t, size_t l)
{
	size_t e = (size_t)t->cfg->experts;
	double load[NET_MAX_EXPERTS] = { 0 }, all = 0, h = 0, null[PERMUTATIONS], hp = 0;
	struct layer_figures f = { 0 };
	uint8_t label[MAX_DOCS];
	uint64_t rng = 12345;
	for (size_t i = 0; i < t->docs; i++)
		for (size_t j = 0; j < e; j++)
			load[j] += cell(t, i, l)[j];
	for (size_t j = 0; j < e; j++)
		all += load[j];
	for (size_t j = 0; j < e; j++) {
		double p = load[j] / all, q = t->prob[l * e + j] / t->tokens;
		f.max_mean = p * (double)e > f.max_mean ? p * (double)e : f.max_mean;
		f.dead += load[j] <= 0;
		f.cold += p * (double)e < 0.1;
		h -= p > 0 ? p * log2(p) : 0;
		hp -= q > 0 ? q * log2(q) : 0;
	}
	f.entropy = h / log2((double)e);
	f.mi_token = hp - t->entropy[l] / t->tokens;
	f.mi_token_id = mutual(DATA_VOCAB, e, t->token + l * DATA_VOCAB * e);
	f.mi_domain = mi_domain(t, l, t->domain_of);
	memcpy(label, t->domain_of, t->docs);
	for (int p = 0; p < PERMUTATIONS; p++) {
		for (size_t i = t->docs - 1; i > 0; i--) {
			size_t j = (size_t)(rng_unit(&rng) * (double)(i + 1));
			uint8_t x = label[i];
			label[i] = label[j];
			label[j] = x;
		}
		null[p] = mi_domain(t, l, label);
		f.null_mean += null[p] / PERMUTATIONS;
	}
	qsort(null, PERMUTATIONS, sizeof *null, ascending);
	f.null_p95 = null[PERMUTATIONS * 95 / 100 - 1];
	return f;
}

/* Fills xz[] from the corpus manifest's column held_xz9_bits_per_byte; 0 where it has none. */
static void read_xz(const char *path, const struct data *d, double *xz)
{
	char line[4096], name[64];
	FILE *f = path ? fopen(path, "r") : NULL;
	for (int i = 0; i < DATA_DOMAINS; i++)
		xz[i] = 0;
	while (f && fgets(line, sizeof line, f)) {
		double v;
		if (sscanf(line, "%63s %*s %*s %*s %*s %lf", name, &v) != 2)
			continue;
		for (int i = 0; i < DATA_DOMAINS; i++)
			if (!strcmp(name, d->domain[i].name))
				xz[i] = v;
	}
	if (f)
		fclose(f);
}

static void report(FILE *js, const struct tally *t, const struct data *d,
		   const struct ckpt_state *st, const double *xz)
{
	double mean = 0, mean_xz = 0;
	const struct net_config *c = t->cfg;
	fprintf(js, "{\n\t\"step\": %llu, \"tokens\": %llu, \"busy_seconds\": %.0f,\n",
		(unsigned long long)st->step, (unsigned long long)st->tokens, st->busy);
	fprintf(js, "\t\"held_documents\": %zu, \"held_tokens\": %.0f,\n\t\"domains\": [\n",
		t->docs, t->tokens);
	printf("%-10s %9s %9s %9s %9s\n", "domain", "bytes", "tokens", "bits/byte", "xz -9");
	for (int i = 0; i < DATA_DOMAINS; i++) {
		double bpb = t->nats[i] / log(2) / t->bytes[i];
		mean += bpb / DATA_DOMAINS;
		mean_xz += xz[i] / DATA_DOMAINS;
		printf("%-10s %9.0f %9.0f %9.4f %9.4f\n", d->domain[i].name, t->bytes[i],
		       t->count[i], bpb, xz[i]);
		fprintf(js, "\t\t{\"domain\": \"%s\", \"bytes\": %.0f, \"tokens\": %.0f, "
			"\"bits_per_byte\": %.4f, \"xz9\": %.4f}%s\n", d->domain[i].name,
			t->bytes[i], t->count[i], bpb, xz[i], i + 1 < DATA_DOMAINS ? "," : "");
	}
	printf("%-10s %9s %9s %9.4f %9.4f\n\n", "mean", "", "", mean, mean_xz);
	fprintf(js, "\t],\n\t\"mean_bits_per_byte\": %.4f, \"mean_xz9\": %.4f,\n\t\"layers\": [\n",
		mean, mean_xz);
	printf("%-5s %8s %8s %4s %4s %10s %9s %9s %12s %10s\n", "layer", "max/mean", "entropy", "dead",
	       "cold", "MI(domain)", "null", "null p95", "MI(token id)", "MI(token)");
	for (int l = 0; l < c->layers; l++) {
		struct layer_figures f = figures(t, (size_t)l);
		printf("%-5d %8.3f %8.4f %4d %4d %10.4f %9.4f %9.4f %12.4f %10.4f\n", l, f.max_mean,
		       f.entropy, f.dead, f.cold, f.mi_domain, f.null_mean, f.null_p95,
		       f.mi_token_id, f.mi_token);
		fprintf(js, "\t\t{\"layer\": %d, \"max_mean\": %.4f, \"entropy_norm\": %.4f, "
			"\"dead\": %d, \"cold\": %d, \"mi_domain\": %.4f, \"null_mean\": %.4f, "
			"\"null_p95\": %.4f, \"mi_token_id\": %.4f, \"mi_token\": %.4f}%s\n", l,
			f.max_mean, f.entropy, f.dead, f.cold, f.mi_domain, f.null_mean, f.null_p95,
			f.mi_token_id, f.mi_token, l + 1 < c->layers ? "," : "");
	}
	fprintf(js, "\t]\n}\n");
}

int main(int argc, char **argv)
{
	const char *dir = NULL, *ckpt = NULL, *manifest = NULL, *json = "/dev/null";
	size_t windows = 0, len = 256;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--data"))
			dir = argv[i + 1];
		else if (!strcmp(argv[i], "--ckpt"))
			ckpt = argv[i + 1];
		else if (!strcmp(argv[i], "--manifest"))
			manifest = argv[i + 1];
		else if (!strcmp(argv[i], "--json"))
			json = argv[i + 1];
		else if (!strcmp(argv[i], "--windows"))
			windows = strtoull(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--len"))
			len = strtoull(argv[i + 1], NULL, 10);
	}
	if (!dir || !ckpt || len < 2 || len > MAX_LEN) {
		fprintf(stderr, "usage: evaluate --data DIR --ckpt FILE [--manifest FILE] "
			"[--json FILE] [--windows N] [--len L]\n");
		return 2;
	}
	struct data data;
	struct net_config cfg;
	struct ckpt_state st;
	double xz[DATA_DOMAINS];
	if (data_open(&data, dir, 0) || ckpt_peek(ckpt, &cfg, &st))
		return 1;
	struct net *n = net_open(&cfg, SEQS, len);
	if (ckpt_read(ckpt, n, &st, NULL, NULL))
		return 1;
	size_t le = (size_t)(cfg.layers * cfg.experts);
	struct tally *t = gemm_alloc(sizeof *t);
	t->cfg = net_cfg(n);
	t->doc = gemm_alloc(MAX_DOCS * le * sizeof *t->doc);
	t->token = gemm_alloc(DATA_VOCAB * le * sizeof *t->token);
	t->prob = gemm_alloc(le * sizeof *t->prob);
	int rc = 0;
	for (int i = 0; i < DATA_DOMAINS && !rc; i++)
		rc = score(t, n, &data, i, len, windows);
	read_xz(manifest, &data, xz);
	FILE *js = rc ? NULL : fopen(json, "w");
	if (js) {
		report(js, t, &data, &st, xz);
		rc = fclose(js);
	} else if (!rc) {
		perror(json);
		rc = 1;
	}
	free(t->doc);
	free(t->token);
	free(t->prob);
	free(t);
	net_close(n);
	data_close(&data);
	return rc ? 1 : 0;
}
