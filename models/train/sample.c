/* sample.c - continues the beginning of a held-out document of each domain, as a look at what a
 * checkpoint has learnt. No key-value cache: one forward pass over the last 256 tokens a token.
 *
 *   sample --data DIR --ckpt FILE [--tokens 100] [--prompt 24] [--temperature 0.7] [--seed 1]
 */
#include <stdio.h>
#include <stdlib.h>

#include "ckpt.h"
#include "data.h"
#include "gemm.h"
#include "rng.h"

enum { LEN = 256, TOP = 40 };

static uint16_t choose(float *z, double temperature, uint64_t *rng)
{
	size_t best[TOP];
	double p[TOP], sum = 0;
	for (int i = 0; i < TOP; i++) {
		best[i] = 0;
		for (size_t j = 1; j < DATA_VOCAB; j++)
			if (z[j] > z[best[i]])
				best[i] = j;
		p[i] = exp((double)z[best[i]] / temperature);
		z[best[i]] = -1e30f;
		sum += p[i];
	}
	double u = rng_unit(rng) * sum;
	int i = 0;
	while (i < TOP - 1 && u >= p[i])
		u -= p[i++];
	return (uint16_t)best[i];
}

static void put(const struct data *d, uint16_t id)
{
	char s[256];
	fwrite(s, 1, data_spell(d, id, s), stdout);
}

int main(int argc, char **argv)
{
	const char *dir = NULL, *ckpt = NULL;
	size_t tokens = 100, prompt = 24;
	double temperature = 0.7;
	uint64_t seed = 1;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--data"))
			dir = argv[i + 1];
		else if (!strcmp(argv[i], "--ckpt"))
			ckpt = argv[i + 1];
		else if (!strcmp(argv[i], "--tokens"))
			tokens = strtoull(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--prompt"))
			prompt = strtoull(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--temperature"))
			temperature = atof(argv[i + 1]);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 10);
	}
	struct data data;
	struct net_config cfg;
	struct ckpt_state st;
	if (!dir || !ckpt || prompt + 1 > LEN) {
		fprintf(stderr, "usage: sample --data DIR --ckpt FILE [--tokens N] [--prompt N] "
			"[--temperature T] [--seed S]\n");
		return 2;
	}
	if (data_open(&data, dir, 0) || ckpt_peek(ckpt, &cfg, &st))
		return 1;
	struct net *n = net_open(&cfg, 1, LEN);
	if (ckpt_read(ckpt, n, &st, NULL, NULL))
		return 1;
	float *z = gemm_alloc(DATA_VOCAB * sizeof *z);
	uint16_t *s = malloc((prompt + tokens + 1) * sizeof *s), seg[LEN] = { 0 };
	if (!s)
		return 1;
	for (int i = 0; i < DATA_DOMAINS; i++) {
		const struct data_domain *m = &data.domain[i];
		size_t from = 0, len = prompt + 1;
		while (from + prompt + 1 < m->held_size && m->held[from] != DATA_EOT)
			from++;
		memcpy(s, m->held + from, len * sizeof *s);
		printf("### %s\n", m->name);
		for (size_t t = 1; t < len; t++)
			put(&data, s[t]);
		printf("\u27e9\u27e9");
		for (size_t t = 0; t < tokens; t++) {
			size_t at = len > LEN ? len - LEN : 0;
			net_logits(n, len - at, s + at, seg, z);
			s[len] = choose(z, temperature, &seed);
			if (s[len] == DATA_EOT)
				break;
			put(&data, s[len++]);
		}
		printf("\n\n");
	}
	free(s);
	free(z);
	net_close(n);
	data_close(&data);
	return 0;
}
