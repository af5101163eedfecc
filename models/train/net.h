/* net.h - the sample model: a Qwen3-MoE-like decoder, its forward pass and its gradient.
 *
 * Per layer: RMS norm, grouped-query attention with per-head RMS norm of q and k and NEOX rotary
 * positions, residual; RMS norm, router (softmax over all experts, top-k, weights renormalised),
 * SwiGLU experts, residual. Embedding and output matrix are one (tied). No biases.
 *
 * Loss = mean cross entropy + balance * E * sum_e f_e P_e + zloss * mean(logsumexp(router)^2), the
 * last two summed over the layers. f_e, the share of picks that expert e got in the batch, is a
 * constant for the gradient.
 *
 * A batch is `seqs` windows of `len` tokens. Inside a window no token sees an earlier document:
 * seg[t] is the first position of the window that t may attend to.
 */
#ifndef NET_H
#define NET_H

#include <stddef.h>
#include <stdint.h>

#include "real.h"

enum { NET_MAX_LAYERS = 8, NET_MAX_EXPERTS = 64, NET_MAX_PICKS = 8 };

struct net_config {
	int32_t layers, dim, heads, kv_heads, head_dim;
	int32_t experts, expert_dim, picks, vocab;
	float rope_base, eps;
	float balance, zloss;			/* coefficients of the two router losses */
};

/* One tensor of the flat parameter array: [count][rows][cols]. */
struct net_tensor {
	char name[40];
	size_t off, count, rows, cols;
	int decay;				/* weight decay applies (matrices) */
	float std;				/* initial standard deviation; 0: filled with ones */
};

/* What one pass measured. */
struct net_stats {
	double ce, balance, z;			/* nats per token; the losses before coefficients */
	double load[NET_MAX_LAYERS][NET_MAX_EXPERTS];	/* share of picks, sums to 1 */
	double max_mean[NET_MAX_LAYERS];
};

struct net;

/* Opens a network for at most max_seqs windows of max_len tokens. Weights start at zero. Exits
 * when there is no memory. */
struct net *net_open(const struct net_config *cfg, size_t max_seqs, size_t max_len);
void net_close(struct net *n);

/* The same with the weights of `owner`, which must live longer: a replica with activations and
 * gradients of its own, so that two threads can each take half a batch. */
struct net *net_open_replica(struct net *owner, size_t max_seqs, size_t max_len);

const struct net_config *net_cfg(const struct net *n);
size_t net_size(const struct net *n);			/* parameters */
real *net_weights(struct net *n);			/* [net_size] */
real *net_grads(struct net *n);				/* [net_size], of the last net_backward */
const struct net_tensor *net_tensors(const struct net *n, size_t *count);

/* Draws initial weights from `seed`. */
void net_init(struct net *n, uint64_t seed);

/* Runs the forward pass. in, target: [seqs][len] ids; seg: [seqs][len]. loss: [seqs][len] nats per
 * token, or NULL. With `grad` set the gradient of the loss replaces net_grads. */
void net_step(struct net *n, size_t seqs, size_t len, const uint16_t *in, const uint16_t *target,
	      const uint16_t *seg, int grad, real *loss, struct net_stats *stats);

/* Routing of the last pass: expert ids in rank order [tokens][picks] and probabilities over all
 * experts [tokens][experts] of one layer. */
const uint8_t *net_picks(const struct net *n, size_t layer);
const real *net_probs(const struct net *n, size_t layer);

/* Logits [vocab] after the last token of one window; for sampling. Uses net_step's buffers. */
void net_logits(struct net *n, size_t len, const uint16_t *in, const uint16_t *seg, real *logits);

#endif
