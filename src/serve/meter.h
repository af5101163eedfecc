/*
 * meter.h - the figures of GET /metrics: requests, tokens, times, and how even the routers' load
 * is.
 *
 * Counters are since the start; the balance of a layer is that of the last METER_WINDOW tokens or
 * so, all requests together, by metrics/balance.h (docs/METRICS.md). It comes from a hook of the
 * session. Any thread may call any function; the hook's are the engine's.
 */
#ifndef SERVE_METER_H
#define SERVE_METER_H

#include <moescope/hook.h>

#include "base/buf.h"
#include "serve/domains.h"

#define METER_WINDOW 4096 /* tokens */

struct meter;

/* layers [n]: the model's MoE layers. domains: whose numbers requests have, most + 1 of them at
 * most. */
struct meter *meter_new(const struct moe_layer_desc *layers, size_t n, struct domains *domains,
	size_t most, struct moe_err *e);
void meter_free(struct meter *m);
/* Lives as long as m. */
struct moe_hook *meter_hook(struct meter *m);

/* A request is over: by HTTP's status, 499 = its client left. domain -1: it did not get as far.
 * seconds: from its arrival, < 0 = not of the model. */
void meter_request(struct meter *m, int status, int domain, double seconds);
/* A request was answered by the model: seconds until its first token, < 0 = it had none. */
void meter_answer(struct meter *m, double first, unsigned prompt, unsigned generated);
/* What a request takes at the moment, for Retry-After; 0 = nobody knows yet. */
double meter_mean(struct meter *m);

/* Tokens so far: that the engine was fed, whose decisions are in the database, that are in gaps. */
void meter_logged(struct meter *m, uint64_t fed, uint64_t committed, uint64_t lost);

/* Does the model work on a request? */
void meter_running(struct meter *m, int running);

/* What others know, for the page. */
struct meter_now { size_t queued, queue_most, connections; };
/* Prometheus' text format 0.0.4. */
void meter_page(struct meter *m, const struct meter_now *now, struct buf *out);

#endif
