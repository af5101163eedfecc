/* gradcheck.c - compares the gradient of net.c with central differences, in double, on a tiny
 * configuration, tensor by tensor. Directions in which a top-k choice flips are left out, because
 * the loss jumps there. Exit status 1 when a tensor's worst relative error exceeds 1e-4.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gemm.h"
#include "net.h"

enum { SEQS = 3, LEN = 9, PER_TENSOR = 60 };

static double total(struct net *n, const uint16_t *in, const uint16_t *out, const uint16_t *seg,
		    uint8_t *picks)
{
	const struct net_config *c = net_cfg(n);
	size_t size = (size_t)(SEQS * LEN * c->picks);
	struct net_stats st;
	net_step(n, SEQS, LEN, in, out, seg, 0, NULL, &st);
	for (int l = 0; l < c->layers; l++)
		memcpy(picks + (size_t)l * size, net_picks(n, (size_t)l), size);
	return st.ce + (double)c->balance * st.balance + (double)c->zloss * st.z;
}

int main(void)
{
	struct net_config c = { .layers = 2, .dim = 16, .heads = 4, .kv_heads = 2, .head_dim = 8,
				.experts = 5, .expert_dim = 12, .picks = 2, .vocab = 31,
				.rope_base = 100, .eps = 1e-6f, .balance = 0.5f, .zloss = 0.1f };
	struct net *n = net_open(&c, SEQS, LEN);
	uint16_t in[SEQS * LEN], out[SEQS * LEN], seg[SEQS * LEN];
	uint8_t up[2 * SEQS * LEN * 2], down[2 * SEQS * LEN * 2];
	struct net_stats st;
	size_t count;
	const struct net_tensor *t = net_tensors(n, &count);
	double worst = 0;
	srand(7);
	net_init(n, 1);
	for (size_t i = 0; i < net_size(n); i++)
		net_weights(n)[i] += 0.3 * ((double)rand() / RAND_MAX - 0.5);
	for (int i = 0; i < SEQS * LEN; i++) {
		in[i] = (uint16_t)(rand() % c.vocab);
		out[i] = (uint16_t)(rand() % c.vocab);
		seg[i] = (uint16_t)(i / LEN == 1 && i % LEN >= 4 ? 4 : 0);
	}
	net_step(n, SEQS, LEN, in, out, seg, 1, NULL, &st);
	real *g = malloc(net_size(n) * sizeof *g);
	if (!g)
		return 1;
	memcpy(g, net_grads(n), net_size(n) * sizeof *g);
	printf("%-26s %8s %8s %12s\n", "tensor", "checked", "flips", "worst");
	for (size_t k = 0; k < count; k++) {
		size_t size = t[k].count * t[k].rows * t[k].cols, tries = 0, flips = 0;
		double bad = 0, norm = 0;
		for (size_t i = 0; i < size; i++)
			norm += g[t[k].off + i] * g[t[k].off + i];
		norm = sqrt(norm / (double)size);
		for (; tries < (size < PER_TENSOR ? size : PER_TENSOR); tries++) {
			size_t i = t[k].off + (size < PER_TENSOR ? tries : (size_t)rand() % size);
			real *w = net_weights(n) + i, old = *w, eps = 1e-5;
			*w = old + eps;
			double a = total(n, in, out, seg, up);
			*w = old - eps;
			double b = total(n, in, out, seg, down);
			*w = old;
			if (memcmp(up, down, sizeof up)) {
				flips++;
				continue;
			}
			double num = (a - b) / (2 * eps);
			double err = fabs(num - g[i]) / (fabs(num) + fabs(g[i]) + 0.1 * norm);
			bad = err > bad ? err : bad;
		}
		printf("%-26s %8zu %8zu %12.3g\n", t[k].name, tries - flips, flips, bad);
		worst = bad > worst ? bad : worst;
	}
	printf("worst relative error %.3g (limit 1e-4)\n", worst);
	free(g);
	net_close(n);
	return worst > 1e-4;
}
