/* train.c - trains the sample models on two CPU cores.
 *
 *   train --data DIR --out PREFIX --variant balanced|collapsed --minutes M [--resume] ...
 *
 * AdamW (0.9, 0.95), weight decay 0.1 on matrices, gradient clipped to norm 1, warm-up, then a
 * cosine down to 5 % of the peak rate by wall clock: the schedule's end is fixed at the first
 * start, so that a resumed run ends when the first one would have.
 * SIGTERM and SIGINT save and stop; --resume goes on, also with other --len and --seqs. Writes
 *   PREFIX.ckpt       everything, every few minutes        PREFIX.best.ckpt  weights, best held-out
 *   PREFIX.log.tsv    one row every 20 steps               PREFIX.eval.tsv   bits per byte by domain
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xmmintrin.h>

#include "ckpt.h"
#include "data.h"
#include "gemm.h"
#include "rng.h"

static const double beta1 = 0.9, beta2 = 0.95, adam_eps = 1e-8, decay = 0.1, clip = 1.0;

enum { WARM_UP = 150, LOG_EVERY = 20, EVAL_WINDOWS = 32, CHUNK = 1 << 16,
       MAX_REPLICAS = 8 };

struct options {
	const char *dir, *out, *variant;
	double minutes, lr, alpha, eval_minutes, save_minutes, small_until;
	size_t seqs, len, replicas;
	uint64_t seed, max_steps;
	int resume;
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Replaces the first net's gradient by the mean over the replicas; returns its norm. */
static double mean_gradient(struct net *const *net, size_t replicas)
{
	size_t size = net_size(net[0]);
	float *g = net_grads(net[0]), inv = 1 / (float)replicas;
	double s = 0;
#pragma omp parallel for schedule(static) reduction(+ : s)
	for (size_t c = 0; c < size; c += CHUNK) {
		size_t end = size - c < CHUNK ? size : c + CHUNK;
		float part[16] = { 0 };
		for (size_t r = 1; r < replicas; r++) {
			const float *h = net_grads(net[r]);
			for (size_t i = c; i < end; i++)
				g[i] += h[i];
		}
		for (size_t i = c; i < end; i += 16)	/* tensors are padded to 16 */
			for (size_t j = 0; j < 16; j++) {
				g[i + j] *= inv;
				part[j] += g[i + j] * g[i + j];
			}
		for (size_t j = 0; j < 16; j++)
			s += (double)part[j];
	}
	return sqrt(s);
}

/* One pass, the batch's windows divided between the replicas. A replica is one thread's from end
 * to end: nothing waits for the other before the gradients meet, which matters on busy cores.
 * With one replica the threads share the work inside net_step. */
static void pass(struct net *const *net, size_t replicas, size_t seqs, size_t len,
		 const uint16_t *in, const uint16_t *target, const uint16_t *seg,
		 struct net_stats *st)
{
	const struct net_config *c = net_cfg(net[0]);
	struct net_stats part[MAX_REPLICAS];
	size_t per = seqs / replicas;
	if (replicas == 1) {
		net_step(net[0], seqs, len, in, target, seg, 1, NULL, st);
		return;
	}
#pragma omp parallel for schedule(static, 1)
	for (size_t r = 0; r < replicas; r++)
		net_step(net[r], per, len, in + r * per * len, target + r * per * len,
			 seg + r * per * len, 1, NULL, &part[r]);
	memset(st, 0, sizeof *st);
	for (size_t r = 0; r < replicas; r++) {
		st->ce += part[r].ce / (double)replicas;
		st->balance += part[r].balance / (double)replicas;
		st->z += part[r].z / (double)replicas;
		for (int l = 0; l < c->layers; l++)
			for (int e = 0; e < c->experts; e++)
				st->load[l][e] += part[r].load[l][e] / (double)replicas;
	}
	for (int l = 0; l < c->layers; l++)
		for (int e = 0; e < c->experts; e++)
			st->max_mean[l] = fmax(st->max_mean[l], c->experts * st->load[l][e]);
}

static void adamw(struct net *n, float *m, float *v, double lr, double scale, uint64_t step)
{
	size_t count;
	const struct net_tensor *t = net_tensors(n, &count);
	float *w = net_weights(n);
	const float *g = net_grads(n);
	float rate = (float)(lr / (1 - pow(beta1, (double)step)));
	float v_fix = (float)(1 / (1 - pow(beta2, (double)step))), k = (float)scale;
	float b1 = (float)beta1, b2 = (float)beta2, eps = (float)adam_eps;
#pragma omp parallel
	for (size_t i = 0; i < count; i++) {
		size_t lo = t[i].off, hi = lo + t[i].count * t[i].rows * t[i].cols;
		float keep = (float)(1 - (t[i].decay ? lr * decay : 0));
#pragma omp for schedule(static) nowait
		for (size_t c = lo; c < hi; c += CHUNK) {
			size_t end = hi - c < CHUNK ? hi : c + CHUNK;
#pragma omp simd
			for (size_t j = c; j < end; j++) {
				float x = g[j] * k;
				m[j] = b1 * m[j] + (1 - b1) * x;
				v[j] = b2 * v[j] + (1 - b2) * x * x;
				w[j] = w[j] * keep - rate * m[j] / (sqrtf(v[j] * v_fix) + eps);
			}
		}
	}
}

/* Bits per byte of one domain on windows spread evenly over its held-out stream. */
static double held_out(struct net *n, const struct data *d, int domain, size_t len, size_t seqs)
{
	const struct data_domain *m = &d->domain[domain];
	uint16_t *in = malloc(3 * seqs * len * sizeof *in);
	float *loss = malloc(seqs * len * sizeof *loss);
	struct net_stats st;
	double nats = 0, bytes = 0;
	if (!in || !loss)
		abort();
	uint16_t *target = in + seqs * len, *seg = target + seqs * len;
	for (size_t w = 0; w < EVAL_WINDOWS; w += seqs) {
		for (size_t b = 0; b < seqs; b++)
			data_window(m->held, (m->held_size - len - 1) * (w + b) / EVAL_WINDOWS, len,
				    in + b * len, target + b * len, seg + b * len);
		net_step(n, seqs, len, in, target, seg, 0, loss, &st);
		for (size_t t = 0; t < seqs * len; t++) {
			nats += (double)loss[t];
			bytes += d->bytes[target[t]];
		}
	}
	free(in);
	free(loss);
	return nats / log(2) / bytes;
}

/* Fills bpb[] by domain and returns its mean. */
static double evaluate(struct net *const *net, size_t replicas, const struct data *d, size_t len,
		       size_t seqs, double *bpb)
{
	double mean = 0;
#pragma omp parallel for schedule(static, 1) if (replicas > 1)
	for (size_t r = 0; r < replicas; r++)
		for (size_t i = r; i < DATA_DOMAINS; i += replicas)
			bpb[i] = held_out(net[r], d, (int)i, len, seqs);
	for (int i = 0; i < DATA_DOMAINS; i++)
		mean += bpb[i] / DATA_DOMAINS;
	return mean;
}

static FILE *open_log(const char *prefix, const char *name, int resume)
{
	char path[1024];
	snprintf(path, sizeof path, "%s.%s.tsv", prefix, name);
	FILE *f = fopen(path, resume ? "a" : "w");
	if (!f)
		perror(path);
	return f;
}

static void log_eval(FILE *f, const struct ckpt_state *st, double seconds, double mean,
		     const double *bpb)
{
	fprintf(f, "%llu\t%llu\t%.0f\t%.4f", (unsigned long long)st->step,
		(unsigned long long)st->tokens, seconds, mean);
	for (int i = 0; i < DATA_DOMAINS; i++)
		fprintf(f, "\t%.4f", bpb[i]);
	fprintf(f, "\n");
	fflush(f);
}

static void log_heads(FILE *log, FILE *evals, const struct net_config *cfg, const struct data *data)
{
	fprintf(log, "step\ttokens\tseconds\tlr\tloss\tbalance\tz\tnorm");
	for (int l = 0; l < cfg->layers; l++)
		fprintf(log, "\tmax_mean_%d", l);
	fprintf(log, "\n");
	fprintf(evals, "step\ttokens\tseconds\tmean");
	for (int i = 0; i < DATA_DOMAINS; i++)
		fprintf(evals, "\t%s", data->domain[i].name);
	fprintf(evals, "\n");
}

/* Sums over the steps since the last line of the log. */
struct sums { double loss, balance, z, n; };

static void log_step(FILE *log, const struct ckpt_state *st, double lr, double norm, struct sums *s,
		     const struct net_stats *stats, int layers)
{
	fprintf(log, "%llu\t%llu\t%.1f\t%.6f\t%.4f\t%.4f\t%.4f\t%.3f",
		(unsigned long long)st->step, (unsigned long long)st->tokens, now() - st->start, lr,
		s->loss / s->n, s->balance / s->n, s->z / s->n, norm);
	for (int l = 0; l < layers; l++)
		fprintf(log, "\t%.2f", stats->max_mean[l]);
	fprintf(log, "\n");
	fflush(log);
	*s = (struct sums){ 0 };
}

/* Linear warm-up, then half a cosine down to a twentieth; part: of the time, 0 to 1. */
static double learning_rate(double most, uint64_t step, double part)
{
	double warm = step < WARM_UP ? (double)(step + 1) / WARM_UP : 1;

	return most * warm * (0.05 + 0.95 * 0.5 * (1 + cos(3.14159265358979 * part)));
}

static int train(const struct options *o)
{
	struct net_config cfg = { .layers = 4, .dim = 256, .heads = 4, .kv_heads = 2,
				  .head_dim = 64, .experts = 16, .expert_dim = 256, .picks = 2,
				  .vocab = DATA_VOCAB, .rope_base = 10000, .eps = 1e-6f,
				  .balance = 0.01f, .zloss = 0.001f };
	char full[1024], best[1024];
	struct ckpt_state st = { .rng = o->seed + 1, .seed = o->seed };
	struct data data;
	struct net_stats stats;
	double bpb[DATA_DOMAINS];
	int rc = -1;

	if (!strcmp(o->variant, "collapsed")) {
		cfg.layers = 3;
		cfg.balance = cfg.zloss = 0;
	}
	snprintf(full, sizeof full, "%s.ckpt", o->out);
	snprintf(best, sizeof best, "%s.best.ckpt", o->out);
	if (data_open(&data, o->dir, o->alpha))
		return -1;
	size_t per = (o->seqs + o->replicas - 1) / o->replicas;
	struct net *net[MAX_REPLICAS], *n = net[0] = net_open(&cfg, per, o->len);
	for (size_t r = 1; r < o->replicas; r++)
		net[r] = net_open_replica(n, per, o->len);
	float *m = gemm_alloc(net_size(n) * sizeof *m), *v = gemm_alloc(net_size(n) * sizeof *v);
	uint16_t *in = gemm_alloc(3 * o->seqs * o->len * sizeof *in);
	uint16_t *target = in + o->seqs * o->len, *seg = target + o->seqs * o->len;
	FILE *log = open_log(o->out, "log", o->resume);
	FILE *evals = open_log(o->out, "eval", o->resume);
	if (!log || !evals)
		goto out;
	if (o->resume) {
		if (ckpt_read(full, n, &st, m, v))
			goto out;
	} else {
		net_init(n, o->seed);
		st.start = now();
		st.deadline = st.start + 60 * o->minutes;
		log_heads(log, evals, &cfg, &data);
	}
	printf("%s: %zu parameters, %s, step %llu, ends in %.0f s\n", o->variant, net_size(n),
	       gemm_backend, (unsigned long long)st.step, st.deadline - now());
	fflush(stdout);

	double span = st.deadline - st.start, last = now(), last_eval = last, last_save = last;
	struct sums sums = { 0 };
	for (;;) {
		double t = now(), part = (t - st.start) / span;
		int end = part >= 1 || (o->max_steps && st.step >= o->max_steps);
		if (end || t - last_eval > 60 * o->eval_minutes) {
			double mean = evaluate(net, o->replicas, &data, o->len, per, bpb);
			log_eval(evals, &st, t - st.start, mean, bpb);
			if (st.best <= 0 || mean < st.best) {
				st.best = mean;
				ckpt_write(best, n, &st, NULL, NULL);
			}
			last_eval = now();
		}
		if (end || stopped || t - last_save > 60 * o->save_minutes) {
			ckpt_write(full, n, &st, m, v);
			last_save = now();
		}
		if (end || stopped)
			break;
		double begin = now();
		size_t seqs = part < o->small_until ? o->seqs / 2 : o->seqs;
		double lr = learning_rate(o->lr, st.step, part);
		data_batch(&data, &st.rng, seqs, o->len, in, target, seg);
		pass(net, o->replicas, seqs, o->len, in, target, seg, &stats);
		double norm = mean_gradient(net, o->replicas);
		if (!isfinite(norm)) {
			fprintf(stderr, "step %llu: gradient norm %g\n",
				(unsigned long long)st.step, norm);
			goto out;
		}
		st.step++;
		st.tokens += seqs * o->len;
		adamw(n, m, v, lr, norm > clip ? clip / norm : 1, st.step);
		st.busy += now() - begin;
		sums.loss += stats.ce;
		sums.balance += stats.balance / cfg.layers;
		sums.z += stats.z / cfg.layers;
		sums.n++;
		if (st.step % LOG_EVERY == 0)
			log_step(log, &st, lr, norm, &sums, &stats, cfg.layers);
	}
	printf("%s: %llu steps, %llu tokens, %.0f s busy, best %.4f bits per byte\n",
	       stopped ? "stopped" : "done", (unsigned long long)st.step,
	       (unsigned long long)st.tokens, st.busy, st.best);
	rc = 0;
out:
	if (log)
		fclose(log);
	if (evals)
		fclose(evals);
	free(m);
	free(v);
	free(in);
	for (size_t r = o->replicas; r-- > 0;)
		net_close(net[r]);
	data_close(&data);
	return rc;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: train --data DIR --out PREFIX [--variant balanced|collapsed] [--resume]\n"
		"  --minutes M (90)   --lr R (0.003)      --alpha A (0.25)  --seed S (1)\n"
		"  --seqs N (16)      --len T (256)       --small-until F (0.1)  --steps N\n"
		"  --eval-minutes M (10)                  --save-minutes M (5)  --replicas R (2)\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct options o = { .variant = "balanced", .minutes = 90, .lr = 3e-3, .alpha = 0.25,
			     .eval_minutes = 10, .save_minutes = 5, .small_until = 0.1,
			     .seqs = 16, .len = 256, .replicas = 2, .seed = 1 };
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--resume")) {
			o.resume = 1;
			continue;
		}
		if (i + 1 == argc)
			return usage();
		const char *k = argv[i++], *a = argv[i];
		if (!strcmp(k, "--data"))
			o.dir = a;
		else if (!strcmp(k, "--out"))
			o.out = a;
		else if (!strcmp(k, "--variant"))
			o.variant = a;
		else if (!strcmp(k, "--minutes"))
			o.minutes = atof(a);
		else if (!strcmp(k, "--lr"))
			o.lr = atof(a);
		else if (!strcmp(k, "--alpha"))
			o.alpha = atof(a);
		else if (!strcmp(k, "--seed"))
			o.seed = strtoull(a, NULL, 10);
		else if (!strcmp(k, "--seqs"))
			o.seqs = strtoull(a, NULL, 10);
		else if (!strcmp(k, "--len"))
			o.len = strtoull(a, NULL, 10);
		else if (!strcmp(k, "--replicas"))
			o.replicas = strtoull(a, NULL, 10);
		else if (!strcmp(k, "--small-until"))
			o.small_until = atof(a);
		else if (!strcmp(k, "--steps"))
			o.max_steps = strtoull(a, NULL, 10);
		else if (!strcmp(k, "--eval-minutes"))
			o.eval_minutes = atof(a);
		else if (!strcmp(k, "--save-minutes"))
			o.save_minutes = atof(a);
		else
			return usage();
	}
	if (!o.dir || !o.out || !o.replicas || o.replicas > MAX_REPLICAS || !o.seqs ||
	    o.seqs % (2 * o.replicas) || o.len < 2 ||
	    (strcmp(o.variant, "balanced") && strcmp(o.variant, "collapsed")))
		return usage();
	/* denormal moments would slow every step down */
#pragma omp parallel
	_mm_setcsr(_mm_getcsr() | 0x8040);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	return train(&o) ? 1 : 0;
}
