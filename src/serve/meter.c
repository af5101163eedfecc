/* meter.c - see meter.h. Format: the text exposition format of Prometheus, version 0.0.4. */
#include "serve/meter.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "metrics/balance.h"

/* To add a status that a request may end with, do this: a number. */
static const int statuses[] = { 200, 400, 401, 403, 404, 405, 408, 413, 429, 499, 500, 503 };
#define N_STATUS (sizeof statuses / sizeof *statuses)

/* Upper bounds in seconds; what is above all of them counts in +Inf alone. */
static const double bounds[] = { 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120,
	300 };
#define N_BOUND (sizeof bounds / sizeof *bounds)

struct histogram { uint64_t below[N_BOUND], n; double sum; };

#define SLOTS 8 /* of the window; the oldest is forgotten when a new one begins */

struct slot { uint64_t tokens, *picks; /* [e_row] */ };

struct meter {
	struct moe_hook hook;
	pthread_mutex_t lock;
	struct domains *domains;
	uint64_t (*requests)[N_STATUS]; /* [most + 2]: the first is for those without a domain */
	size_t n_requests;
	uint64_t prompt, generated, picks, fed, committed, lost;
	int running;
	struct histogram first, whole;
	const struct moe_layer_desc *layer;
	size_t n_layer, *at, e_row;     /* at [n_layer]: a layer's first expert in a row of e_row */
	struct slot slot[SLOTS];
	size_t now;                     /* the slot that is being filled */
};

/* ---- the hook ---- */

static int on_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct meter *m = ctx;
	size_t li = 0;

	(void)e;
	while (li < m->n_layer && m->layer[li].layer != v->layer)
		li++;
	if (li == m->n_layer)
		return 0;
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < (size_t)v->n_tok * v->k; i++)
		m->slot[m->now].picks[m->at[li] + v->experts[i]]++;
	m->picks += (uint64_t)v->n_tok * v->k;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int on_batch_end(void *ctx, const struct moe_batch_info *b, struct moe_err *e)
{
	struct meter *m = ctx;

	(void)e;
	pthread_mutex_lock(&m->lock);
	m->slot[m->now].tokens += b->n_tok;
	if (m->slot[m->now].tokens >= METER_WINDOW / (SLOTS - 1)) {
		m->now = (m->now + 1) % SLOTS;
		m->slot[m->now].tokens = 0;
		memset(m->slot[m->now].picks, 0, m->e_row * sizeof *m->slot[0].picks);
	}
	pthread_mutex_unlock(&m->lock);
	return 0;
}

/* ---- making one ---- */

struct meter *meter_new(const struct moe_layer_desc *layers, size_t n, struct domains *domains,
	size_t most, struct moe_err *e)
{
	struct meter *m = calloc(1, sizeof *m);
	int bad = !m;

	if (m) {
		pthread_mutex_init(&m->lock, NULL);
		m->hook = (struct moe_hook){
			.name = "meter", .ctx = m, .route = on_route, .batch_end = on_batch_end
		};
		m->domains = domains;
		m->layer = layers;
		m->n_layer = n;
		m->n_requests = most + 2;
		m->requests = calloc(m->n_requests, sizeof *m->requests);
		m->at = calloc(n + 1, sizeof *m->at);
		bad = !m->requests || !m->at;
	}
	for (size_t i = 0; !bad && i < n; i++) {
		m->at[i] = m->e_row;
		m->e_row += layers[i].n_expert;
	}
	for (size_t i = 0; !bad && i < SLOTS; i++) {
		m->slot[i].picks = calloc(m->e_row + 1, sizeof *m->slot[i].picks);
		bad = !m->slot[i].picks;
	}
	if (!bad)
		return m;
	meter_free(m);
	err_nomem(e, sizeof *m, "figures");
	return NULL;
}

void meter_free(struct meter *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < SLOTS; i++)
		free(m->slot[i].picks);
	pthread_mutex_destroy(&m->lock);
	free(m->requests);
	free(m->at);
	free(m);
}

struct moe_hook *meter_hook(struct meter *m)
{
	return &m->hook;
}

/* ---- counting ---- */

static void count(struct histogram *h, double seconds)
{
	for (size_t i = 0; i < N_BOUND; i++)
		h->below[i] += seconds <= bounds[i];
	h->n++;
	h->sum += seconds;
}

void meter_request(struct meter *m, int status, int domain, double seconds)
{
	size_t d = domain < 0 ? 0 : (size_t)domain + 1;

	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < N_STATUS && d < m->n_requests; i++)
		m->requests[d][i] += statuses[i] == status;
	if (seconds >= 0)
		count(&m->whole, seconds);
	pthread_mutex_unlock(&m->lock);
}

void meter_answer(struct meter *m, double first, unsigned prompt, unsigned generated)
{
	pthread_mutex_lock(&m->lock);
	m->prompt += prompt;
	m->generated += generated;
	if (first >= 0)
		count(&m->first, first);
	pthread_mutex_unlock(&m->lock);
}

void meter_logged(struct meter *m, uint64_t fed, uint64_t committed, uint64_t lost)
{
	pthread_mutex_lock(&m->lock);
	m->fed = fed;
	m->committed = committed;
	m->lost = lost;
	pthread_mutex_unlock(&m->lock);
}

void meter_running(struct meter *m, int running)
{
	pthread_mutex_lock(&m->lock);
	m->running = running;
	pthread_mutex_unlock(&m->lock);
}

double meter_mean(struct meter *m)
{
	double mean;

	pthread_mutex_lock(&m->lock);
	mean = m->whole.n ? m->whole.sum / (double)m->whole.n : 0;
	pthread_mutex_unlock(&m->lock);
	return mean;
}

/* ---- the page ---- */

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_printf(b, "# HELP moescope_%s %s\n# TYPE moescope_%s %s\n", name, help, name, type);
}

static void one(struct buf *b, const char *name, const char *type, const char *help, uint64_t v)
{
	head(b, name, type, help);
	buf_printf(b, "moescope_%s %" PRIu64 "\n", name, v);
}

/* The value of a label: backslash, quote and line end are escaped. */
static void label(struct buf *b, const char *s)
{
	for (; *s; s++)
		if (*s == '\\' || *s == '"')
			buf_printf(b, "\\%c", *s);
		else if (*s == '\n')
			buf_str(b, "\\n");
		else
			buf_char(b, *s);
}

static void histogram(struct buf *b, const char *name, const char *help, const struct histogram *h)
{
	head(b, name, "histogram", help);
	for (size_t i = 0; i < N_BOUND; i++)
		buf_printf(b, "moescope_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i], h->below[i]);
	buf_printf(b,
		"moescope_%s_bucket{le=\"+Inf\"} %" PRIu64
		"\nmoescope_%s_sum %.9g\nmoescope_%s_count %" PRIu64 "\n",
		name, h->n, name, h->sum, name, h->n);
}

static void requests(struct buf *b, const struct meter *m)
{
	size_t n = domains_n(m->domains) + 1;

	head(b, "requests_total", "counter",
		"Requests by status and domain; 499: the client left; no domain: refused "
		"before it had one, or none was given.");
	for (size_t d = 0; d < n && d < m->n_requests; d++)
		for (size_t i = 0; i < N_STATUS; i++) {
			const char *name = d ? domains_name(m->domains, d - 1) : "";
			uint64_t v = m->requests[d][i];

			if (d && !*name) /* the default is no domain: with those that have none */
				continue;
			if (!d && !*domains_name(m->domains, 0))
				v += m->requests[1][i];
			if (!v)
				continue;
			buf_printf(b, "moescope_requests_total{status=\"%d\",domain=\"", statuses[i]);
			label(b, name);
			buf_printf(b, "\"} %" PRIu64 "\n", v);
		}
}

/* To add a figure of balance, do this: a row. */
static const struct { const char *name, *help; size_t at;
} figures[] = {
	{ "layer_load_cv", "Coefficient of variation of the experts' load, by layer, over the window.",
		offsetof(struct metrics_balance, cv) },
	{ "layer_load_entropy",
		"Entropy of the experts' load, normalised to 1 = even, by layer, over the window.",
		offsetof(struct metrics_balance, entropy_norm) },
	{ "layer_load_max_mean", "Load of the busiest expert over the mean, by layer, over the window.",
		offsetof(struct metrics_balance, max_mean) },
	{ "layer_dead_experts", "Share of a layer's experts that nothing in the window picked.",
		offsetof(struct metrics_balance, dead) },
};

/* bal [n_layer]; a layer of which nothing was seen has no line. */
static void balance(struct buf *b, const struct meter *m, const struct metrics_balance *bal)
{
	for (size_t f = 0; f < sizeof figures / sizeof *figures; f++) {
		head(b, figures[f].name, "gauge", figures[f].help);
		for (size_t i = 0; i < m->n_layer; i++) {
			double v;

			memcpy(&v, (const char *)&bal[i] + figures[f].at, sizeof v);
			if (!isnan(v))
				buf_printf(b, "moescope_%s{layer=\"%d\"} %.6g\n", figures[f].name,
					(int)m->layer[i].layer, v);
		}
	}
}

static void window(struct buf *b, const struct meter *m)
{
	struct metrics_balance *bal = calloc(m->n_layer + 1, sizeof *bal);
	uint64_t *sum = calloc(2 * m->e_row + 1, sizeof *sum), tokens = 0;

	if (!bal || !sum)
		b->failed = 1;
	for (size_t s = 0; !b->failed && s < SLOTS; s++) {
		tokens += m->slot[s].tokens;
		for (size_t i = 0; i < m->e_row; i++)
			sum[i] += m->slot[s].picks[i];
	}
	for (size_t i = 0; !b->failed && i < m->n_layer; i++)
		metrics_balance(sum + m->at[i], m->layer[i].n_expert, sum + m->e_row, &bal[i]);
	one(b, "window_tokens", "gauge", "Tokens that the figures by layer are computed over.", tokens);
	if (!b->failed)
		balance(b, m, bal);
	free(bal);
	free(sum);
}

void meter_page(struct meter *m, const struct meter_now *now, struct buf *b)
{
	pthread_mutex_lock(&m->lock);
	requests(b, m);
	head(b, "tokens_total", "counter", "Tokens of requests that the model answered.");
	buf_printf(b,
		"moescope_tokens_total{kind=\"prompt\"} %" PRIu64
		"\nmoescope_tokens_total{kind=\"generated\"} %" PRIu64 "\n",
		m->prompt, m->generated);
	one(b, "queue_length", "gauge", "Requests that wait for their turn.", now->queued);
	one(b, "queue_limit", "gauge", "Requests that may wait; more are refused with 429.",
		now->queue_most);
	one(b, "requests_running", "gauge", "Requests that the model works on: 0 or 1.",
		(uint64_t)m->running);
	one(b, "connections", "gauge", "Open connections.", now->connections);
	one(b, "domains", "gauge", "Domains of this run, the default included.", domains_n(m->domains));
	histogram(b, "time_to_first_token_seconds", "From a request's arrival to its first token.",
		&m->first);
	histogram(
		b, "request_seconds", "From a request's arrival to the end of its answer.", &m->whole);
	one(b, "picks_total", "counter", "Experts picked: tokens times layers times picks.", m->picks);
	one(b, "tokens_evaluated_total", "counter", "Tokens that went through the model.", m->fed);
	one(b, "tokens_committed_total", "counter", "Tokens whose decisions are in the database.",
		m->committed);
	one(b, "tokens_lost_total", "counter",
		"Tokens whose decisions were dropped and recorded as a gap.", m->lost);
	window(b, m);
	pthread_mutex_unlock(&m->lock);
}
