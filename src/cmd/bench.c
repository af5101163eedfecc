/*
 * bench.c - `moescope bench`: speed of the engine on this machine beside its physical limits, and
 * the cost of logging as a paired ratio.
 *
 * Sessions of one model, one without and the others with the trace hook, take turns over the same
 * random tokens, in decoding every few tokens, so that what else the machine does meets all of them; who
 * goes first changes each time. Each round gives a ratio for each that logs; medians are printed with the
 * quartiles, since single runs on a shared machine say little. With --audit every session logs; at each
 * level one keeps an audit log as well and is compared with one that does not.
 *
 * Time on the clock is what the engine's thread waits. Processor time is that of this thread in a side's
 * turns and of the side's own threads at any time, its writer's too, until everything that the round gave
 * to the writer is committed. It is what a busy machine pays, and it hardly depends on what else the machine
 * does; its median stands with an interval that holds it in 95 of 100 cases (bootstrap over the rounds).
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "audit/admin.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/rng.h"
#include "base/text.h"
#include "cmd/bench_limit.h"
#include "cmd/energy.h"
#include "cmd/engine.h"
#include "cmd/record.h"
#include "cmd/show.h"
#include "kern/peak.h"

#define MAX_PAIRS 1001
#define FIRST_TOKENS 8 /* of the prompt whose first token is waited for */
#define PART_RUNS 3
#define TURN 8     /* tokens that a side decodes before it is the next one's turn */
#define ROUND_S 0.2 /* seconds that a side's prefills in a round should take, in at most so many turns: */
#define MOST_TURNS 16
#define MAX_TASKS 520
#define RESAMPLES 1000

enum { PREFILL, DECODE, N_PHASE };
static const char *const phase_name[] = { "prefill", "decode" };
static const char *const level_name[] = { "counts", "routes", "full" };
enum { BOTH_LEVELS = 3 }; /* of --detail: routes and full */

static struct load_opts lo;
static long long pairs = 15, n_prefill = 512, n_decode = 128, depth = 1;
static int detail = BOTH_LEVELS, json, no_log, audit, parts;

struct side { /* one of the sessions */
	struct session *s;
	struct moe_trace *t;
	int detail;
	size_t than;         /* the side that it is compared with; itself = none */
	struct record rec;   /* of the audit log, if it has one */
	size_t n_vocab;
	uint64_t seq, fed;   /* sequence, tokens given to the trace */
	int timed;           /* by part */
	pid_t task[MAX_TASKS]; /* its own threads */
	size_t n_task;
};

struct bench {
	struct loaded l;
	struct side side[LOAD_SESSIONS];
	size_t n_side;
	int32_t *ids;
	size_t n_pre, n_dec, n_depth;
	size_t turns;          /* prefills of a side in a round */
	double t[N_PHASE][LOAD_SESSIONS][MAX_PAIRS];   /* seconds */
	double cpu[N_PHASE][LOAD_SESSIONS][MAX_PAIRS]; /* the same of processors */
	double start;          /* seconds from this command's begin to the first token */
	uint64_t peak;         /* bytes of memory after a prefill and a decode */
	double part[N_PHASE][SESSION_N_PART + 1]; /* seconds of one run, the last: what is in none */
	struct limits limit;
	struct energy energy;  /* of the first side */
	char dir[64];          /* of the databases; nothing is left of it */
};

/* ---- runs ---- */

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct side *side = ctx;

	return audit ? record_logits(&side->rec, side->seq, pos, row, side->n_vocab, e) : 0;
}

/* What the session has timed since the last call, added to part; all: seconds of the run. */
static void take_parts(struct session *s, double all, double part[SESSION_N_PART + 1])
{
	for (int i = 0; i < SESSION_N_PART; i++) {
		double sec = (double)session_parts(s)[i] * 1e-9;

		part[i] += sec / PART_RUNS;
		all -= sec;
	}
	part[SESSION_N_PART] += all / PART_RUNS;
}

static double clock_seconds(clockid_t id)
{
	struct timespec t;

	return clock_gettime(id, &t) ? 0 : (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Of the engine's thread. */
static double own_cpu(void)
{
	return clock_seconds(CLOCK_THREAD_CPUTIME_ID);
}

/* Of a side's own threads. The clock of a thread has a number that follows from the thread's, as in
 * pthread_getcpuclockid(). */
static double task_cpu(const struct side *side)
{
	double sum = 0;

	for (size_t i = 0; i < side->n_task; i++)
		sum += clock_seconds((clockid_t)(~(unsigned)side->task[i] << 3 | 6));
	return sum;
}

/* The process's threads; what /proc does not show is not counted. */
static size_t list_tasks(pid_t task[MAX_TASKS])
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *f;
	size_t n = 0;

	while (d && n < MAX_TASKS && (f = readdir(d)))
		if (f->d_name[0] != '.')
			task[n++] = (pid_t)atoi(f->d_name);
	if (d)
		closedir(d);
	return n;
}

/* Threads that came since `before` was listed are the side's. */
static void take_tasks(struct side *side, const pid_t *before, size_t n_before)
{
	pid_t now[MAX_TASKS];
	size_t n = list_tasks(now);

	for (size_t i = 0; i < n && side->n_task < MAX_TASKS; i++) {
		size_t k = 0;

		while (k < n_before && before[k] != now[i])
			k++;
		if (k == n_before)
			side->task[side->n_task++] = now[i];
	}
}

/* Wait until all that was fed is committed, so that its cost is not the next run's. */
static int settle(struct side *side, struct moe_err *e)
{
	static const struct timespec pause = { 0, 25000000 }; /* to look often would cost what it measures */

	while (side->t && moe_trace_committed(side->t) < side->fed && !load_interrupted()) {
		if (moe_trace_flush(side->t, e))
			return -1;
		nanosleep(&pause, NULL);
	}
	return 0;
}

struct took { double clock, cpu; }; /* seconds */

static int prefill_run(struct bench *b, struct side *side, struct took *took, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = side->seq, .domain = "bench" };
	struct moe_seq_result res = { .seq = side->seq, .n_prompt = (uint32_t)b->n_pre };
	struct session_want want = { 0, on_logits, side };
	int64_t t0;

	energy_skip(&b->energy);
	side->fed += b->n_pre;
	took->cpu = -own_cpu() - task_cpu(side);
	t0 = clock_mono();
	if (session_begin(side->s, &info, e) || session_eval(side->s, b->ids, b->n_pre, MOE_PREFILL, &want, e))
		return -1;
	took->clock = (double)(clock_mono() - t0) * 1e-9;
	if (side == b->side)
		energy_take(&b->energy, MOE_PREFILL, b->n_pre);
	if (session_end(side->s, &res, e) || settle(side, e))
		return -1;
	took->cpu += own_cpu() + task_cpu(side);
	return 0;
}

static int decode_run(struct bench *b, struct side *side, struct took *took, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = side->seq, .domain = "bench" };
	struct moe_seq_result res = { .seq = side->seq, .n_prompt = (uint32_t)b->n_depth,
		.n_generated = (uint32_t)b->n_dec };
	struct session_want want = { 0, on_logits, side };
	int64_t t0;

	side->fed += b->n_depth + b->n_dec;
	if (session_begin(side->s, &info, e) || session_eval(side->s, b->ids, b->n_depth, MOE_PREFILL, NULL, e))
		return -1;
	if (side->timed)
		session_time_parts(side->s, 1);
	energy_skip(&b->energy);
	took->cpu = -own_cpu() - task_cpu(side);
	t0 = clock_mono();
	for (size_t i = 0; i < b->n_dec; i++)
		if (session_eval(side->s, b->ids + i, 1, MOE_DECODE, &want, e))
			return -1;
	took->clock = (double)(clock_mono() - t0) * 1e-9;
	if (side == b->side)
		energy_take(&b->energy, MOE_DECODE, b->n_dec);
	if (session_end(side->s, &res, e) || settle(side, e))
		return -1;
	took->cpu += own_cpu() + task_cpu(side);
	return 0;
}

/* A phase of a round begins for a side: nothing that it did before is at work any more. */
static int begin_phase(struct side *side, struct took *took, struct moe_err *e)
{
	if (settle(side, e))
		return -1;
	*took = (struct took){ 0, -task_cpu(side) };
	return 0;
}

/* And ends: its writer's work is done. Waiting for that is ours, not the engine's. */
static int end_phase(struct side *side, struct took *took, struct moe_err *e)
{
	if (settle(side, e))
		return -1;
	took->cpu += task_cpu(side);
	return 0;
}

static int prefill_turn(struct bench *b, struct side *side, struct took *took, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = ++side->seq, .domain = "bench" };
	struct moe_seq_result res = { .seq = side->seq, .n_prompt = (uint32_t)b->n_pre };
	struct session_want want = { 0, on_logits, side };
	double cpu = own_cpu();
	int64_t t0 = clock_mono();

	if (session_begin(side->s, &info, e) || session_eval(side->s, b->ids, b->n_pre, MOE_PREFILL, &want, e))
		return -1;
	took->clock += (double)(clock_mono() - t0) * 1e-9;
	side->fed += b->n_pre;
	if (session_end(side->s, &res, e))
		return -1;
	took->cpu += own_cpu() - cpu;
	return 0;
}

static int begin_decode(struct bench *b, struct side *side, struct took *took, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = ++side->seq, .domain = "bench" };

	side->fed += b->n_depth;
	if (session_begin(side->s, &info, e) || session_eval(side->s, b->ids, b->n_depth, MOE_PREFILL, NULL, e))
		return -1;
	return begin_phase(side, took, e);
}

/* Tokens from .. to - 1. */
static int decode_turn(struct bench *b, struct side *side, size_t from, size_t to, struct took *took,
	struct moe_err *e)
{
	struct session_want want = { 0, on_logits, side };
	double cpu = own_cpu();
	int64_t t0 = clock_mono();

	for (size_t i = from; i < to; i++)
		if (session_eval(side->s, b->ids + i, 1, MOE_DECODE, &want, e))
			return -1;
	took->clock += (double)(clock_mono() - t0) * 1e-9;
	took->cpu += own_cpu() - cpu;
	return 0;
}

static int end_decode(struct bench *b, struct side *side, struct took *took, struct moe_err *e)
{
	struct moe_seq_result res = { .seq = side->seq, .n_prompt = (uint32_t)b->n_depth,
		.n_generated = (uint32_t)b->n_dec };
	double cpu = own_cpu();

	side->fed += b->n_dec;
	if (session_end(side->s, &res, e))
		return -1;
	took->cpu += own_cpu() - cpu;
	return end_phase(side, took, e);
}

/* Who of n is j-th: each is first as often, and before and behind each other one, whose writer may still be
 * at work. */
static size_t turn_of(size_t n, size_t turn, size_t j)
{
	return ((turn & 1 ? n - 1 - j : j) + turn / 2) % n;
}

/* All sides in turns, so many that a round takes long enough for the clock and for what a writer does
 * once a commit. */
static int prefill_round(struct bench *b, size_t round, struct took took[LOAD_SESSIONS], struct moe_err *e)
{
	size_t n = b->n_side;

	for (size_t i = 0; i < n; i++)
		if (begin_phase(&b->side[i], &took[i], e))
			return -1;
	for (size_t turn = 0; turn < b->turns && !load_interrupted(); turn++)
		for (size_t j = 0; j < n; j++) {
			size_t who = turn_of(n, round + turn, j);

			if (prefill_turn(b, &b->side[who], &took[who], e))
				return -1;
		}
	for (size_t i = 0; i < n; i++) {
		if (end_phase(&b->side[i], &took[i], e))
			return -1;
		took[i].clock /= (double)b->turns;
		took[i].cpu /= (double)b->turns;
	}
	return 0;
}

static int decode_round(struct bench *b, size_t round, struct took took[LOAD_SESSIONS], struct moe_err *e)
{
	size_t n = b->n_side;

	for (size_t i = 0; i < n; i++)
		if (begin_decode(b, &b->side[i], &took[i], e))
			return -1;
	for (size_t at = 0, turn = round; at < b->n_dec && !load_interrupted(); at += TURN, turn++)
		for (size_t j = 0; j < n; j++) {
			size_t who = turn_of(n, turn, j), end = at + TURN < b->n_dec ? at + TURN : b->n_dec;

			if (decode_turn(b, &b->side[who], at, end, &took[who], e))
				return -1;
		}
	for (size_t i = 0; i < n; i++)
		if (end_decode(b, &b->side[i], &took[i], e))
			return -1;
	return 0;
}

/* Both phases. */
static int one_run(struct bench *b, struct side *side, uint64_t seq, struct took took[N_PHASE],
	struct moe_err *e)
{
	side->seq = seq;
	if (prefill_run(b, side, &took[PREFILL], e))
		return -1;
	side->seq++;
	return decode_run(b, side, &took[DECODE], e);
}

static int one_round(struct bench *b, size_t round, struct moe_err *e)
{
	struct took took[N_PHASE][LOAD_SESSIONS], once;

	if (prefill_round(b, round, took[PREFILL], e) || decode_round(b, round, took[DECODE], e))
		return -1;
	for (int p = 0; p < N_PHASE; p++)
		for (size_t j = 0; j < b->n_side; j++) {
			b->t[p][j][round] = took[p][j].clock;
			b->cpu[p][j][round] = took[p][j].cpu;
		}
	if (b->energy.why[0])
		return 0;
	b->side[0].seq++; /* counters of energy see one side at a time */
	return decode_run(b, &b->side[0], &once, e);
}

static int run_pairs(struct bench *b, struct moe_err *e)
{
	struct took took[N_PHASE];

	for (size_t i = 1; i < b->n_side; i++) /* the first has been run */
		if (one_run(b, &b->side[i], 1, took, e))
			return -1;
	for (long long i = 0; i < pairs && !load_interrupted(); i++)
		if (one_round(b, (size_t)i, e))
			return -1;
	return load_interrupted() ? err_set(e, MOE_ERR_USAGE, "interrupted") : 0;
}

/* Runs apart from those that are compared: to look at the clock takes time. */
static int run_parts(struct bench *b, struct moe_err *e)
{
	struct side *side = &b->side[b->n_side > 1];
	struct took took;

	for (int i = 0; i < PART_RUNS; i++) {
		side->seq++;
		side->timed = 1;
		session_time_parts(side->s, 1);
		if (prefill_run(b, side, &took, e))
			return -1;
		take_parts(side->s, took.clock, b->part[PREFILL]);
		side->seq++;
		if (decode_run(b, side, &took, e))
			return -1;
		take_parts(side->s, took.clock, b->part[DECODE]);
		session_time_parts(side->s, 0);
	}
	return 0;
}

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

/* A log of its own, its key beside it in a folder that goes away with it. */
static int start_log(const char *dir, const char *db, int level, struct moe_err *e)
{
	static const enum log_detail keeps[] = { LOG_SUMS, LOG_ROUTES, LOG_FULL };
	struct log_policy p = { .origin = "bench", .detail = keeps[level], .loss = LOG_STRICT,
		.retain_days = 183, .heartbeat_s = 10, .checkpoint_s = 60 };
	struct note_secret key;
	struct admin a;
	char keys[80];
	int bad;

	snprintf(keys, sizeof keys, "%s/keys", dir);
	if (mkdir(keys, 0700) && errno != EEXIST)
		return err_errno(e, "%s", keys);
	snprintf(p.key_path, sizeof p.key_path, "%s/%s", keys, level_name[level]);
	if (admin_open_bare(&a, db, e))
		return -1;
	bad = note_secret_create(&key, p.origin, p.key_path, e) || log_create(a.db, &p, &key, NULL, "bench", e);
	return admin_close(&a, bad, e) || bad ? -1 : 0;
}

static int open_side(struct bench *b, struct side *side, int with_log, struct moe_err *e)
{
	struct moe_trace_opt to = { .detail = (enum moe_detail)side->detail };
	struct record_about about = { .l = &b->l, .s = side->s, .logits = "last" };
	struct moe_run_desc d;
	pid_t before[MAX_TASKS];
	size_t n_before = list_tasks(before);
	char db[100];

	snprintf(db, sizeof db, "%s/%zu.db", b->dir, (size_t)(side - b->side));
	engine_describe(&b->l, side->s, &lo, "bench", &d);
	if (with_log && (start_log(b->dir, db, side->detail, e) || record_start(&side->rec, db, &about, &to, &d, e)))
		return -1;
	side->t = moe_trace_open(db, &to, &d, e);
	take_tasks(side, before, n_before);
	side->fed = 0; /* the first side ran before it had a trace */
	return side->t ? session_add_hook(side->s, moe_trace_hook(side->t), e) : -1;
}

static int new_side(struct bench *b, int level, struct moe_err *e)
{
	struct side *side = &b->side[b->n_side];
	pid_t before[MAX_TASKS];
	size_t n_before = list_tasks(before);

	side->s = engine_session(&b->l, &lo, e);
	take_tasks(side, before, n_before);
	if (!side->s)
		return -1;
	side->detail = level;
	side->than = b->n_side;
	side->n_vocab = model_info(b->l.model)->n_vocab;
	b->n_side++;
	return 0;
}

static int make_ids(struct bench *b, struct moe_err *e)
{
	size_t ctx = session_ctx(b->side[0].s), n;
	struct rng r;

	b->n_pre = (size_t)n_prefill < ctx ? (size_t)n_prefill : ctx;
	if ((size_t)depth >= ctx)
		return err_set(e, MOE_ERR_USAGE, "decoding behind %lld tokens does not fit in a context of %zu (--ctx)",
			depth, ctx);
	b->n_depth = (size_t)depth;
	b->n_dec = (size_t)n_decode < ctx - b->n_depth ? (size_t)n_decode : ctx - b->n_depth;
	n = b->n_pre + b->n_dec + b->n_depth + FIRST_TOKENS;
	b->ids = malloc(n * sizeof *b->ids);
	if (!b->ids)
		return err_nomem(e, n * 4, "tokens");
	rng_seed(&r, 1);
	for (size_t i = 0; i < n; i++)
		b->ids[i] = (int32_t)rng_below(&r, model_info(b->l.model)->n_vocab);
	return 0;
}

/* The side that does not log, alone: what a user of the engine sees of its start and its memory. */
static int open_first(struct bench *b, const char *model, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = 1, .domain = "bench" };
	struct moe_seq_result res = { .seq = 1 };
	struct session_want want = { 0, on_logits, &b->side[0] };
	int64_t t0 = clock_mono();
	struct took took[N_PHASE];
	struct rusage use;
	struct session *s;
	size_t n;

	if (load_model(model, &lo, &b->l, e) || new_side(b, detail == BOTH_LEVELS ? MOE_DETAIL_ROUTES : detail, e) ||
	    make_ids(b, e))
		return -1;
	s = b->side[0].s;
	n = session_ctx(s) < FIRST_TOKENS ? session_ctx(s) : FIRST_TOKENS;
	if (session_begin(s, &info, e) || session_eval(s, b->ids, n, MOE_PREFILL, &want, e) ||
	    session_end(s, &res, e))
		return -1;
	b->start = (double)(clock_mono() - t0) * 1e-9;
	gguf_copy_wait(b->l.gguf);
	if (one_run(b, &b->side[0], 1, took, e))
		return -1;
	b->turns = took[PREFILL].clock > ROUND_S ? 1 : took[PREFILL].clock * MOST_TURNS < ROUND_S ? MOST_TURNS :
		(size_t)(ROUND_S / took[PREFILL].clock);
	b->peak = getrusage(RUSAGE_SELF, &use) ? 0 : (uint64_t)use.ru_maxrss << 10;
	return 0;
}

/* For each level a session that logs, beside the first, which does not. */
static int open_logged(struct bench *b, struct moe_err *e)
{
	int level = b->side[0].detail, last = detail == BOTH_LEVELS ? MOE_DETAIL_FULL : level;

	for (; level <= last; level++) {
		struct side *side = &b->side[b->n_side];

		if (new_side(b, level, e) || open_side(b, side, 0, e))
			return -1;
		side->than = 0;
	}
	return 0;
}

/* For each level one that logs, the first among them, and one that keeps an audit log as well. */
static int open_audited(struct bench *b, struct moe_err *e)
{
	int level = b->side[0].detail, last = detail == BOTH_LEVELS ? MOE_DETAIL_FULL : level;

	for (size_t at = 0; level <= last; level++, at += 2) {
		if ((at && new_side(b, level, e)) || open_side(b, &b->side[at], 0, e) ||
			new_side(b, level, e) || open_side(b, &b->side[at + 1], 1, e))
			return -1;
		b->side[at + 1].than = at;
	}
	return 0;
}

static int open_all(struct bench *b, const char *model, struct moe_err *e)
{
	if (open_first(b, model, e))
		return -1;
	if (no_log || !model_info(b->l.model)->n_moe_layer)
		return 0;
	snprintf(b->dir, sizeof b->dir, "/tmp/moescope-bench-XXXXXX");
	if (!mkdtemp(b->dir)) {
		b->dir[0] = 0;
		return err_errno(e, "creating a directory in /tmp");
	}
	return audit ? open_audited(b, e) : open_logged(b, e);
}

static void close_all(struct bench *b)
{
	static const char *const end[] = { "", "-wal", "-shm", "-lock" };
	char path[100];

	for (size_t i = 0; i < LOAD_SESSIONS; i++) {
		if (b->side[i].t)
			moe_trace_close(b->side[i].t, MOE_RUN_DONE, NULL);
		record_free(&b->side[i].rec);
		for (size_t k = 0; b->dir[0] && k < sizeof end / sizeof end[0]; k++) {
			snprintf(path, sizeof path, "%s/%zu.db%s", b->dir, i, end[k]);
			remove(path);
		}
		session_free(b->side[i].s);
	}
	for (int i = 0; b->dir[0] && i < BOTH_LEVELS; i++) {
		snprintf(path, sizeof path, "%s/keys/%s", b->dir, level_name[i]);
		remove(path);
	}
	snprintf(path, sizeof path, "%s/keys", b->dir);
	if (b->dir[0]) {
		remove(path);
		remove(b->dir);
	}
	free(b->ids);
	load_free(&b->l);
}

/* ---- figures ---- */

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

static double limit_of(const struct bench *b, int phase)
{
	return 1 / (phase == PREFILL ? limit_prefill(&b->limit) :
		limit_decode(&b->limit, b->l.model, b->side[0].s, (uint32_t)(b->n_depth + b->n_dec / 2)));
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

static void json_phase(const struct bench *b, int p)
{
	struct stat3 t = quartiles(b->t[p][0], NULL, pairs);
	double n = (double)tokens_of(b, p), limit = limit_of(b, p);

	printf("{\"phase\": \"%s\", \"tokens\": %zu, \"behind\": %zu, \"tokens_per_s\": %.3f, \"q1\": %.3f, "
		"\"q3\": %.3f, \"limit\": %.3f, \"of_limit\": %.4f, \"logging\": [", phase_name[p], tokens_of(b, p),
		p == DECODE ? b->n_depth : 0, n / t.med, n / t.q3, n / t.q1, limit, n / t.med / limit);
	for (size_t i = 0, n_out = 0; i < b->n_side; i++) {
		size_t than = b->side[i].than;
		struct stat3 c = quartiles(b->t[p][i], b->t[p][than], pairs);
		struct stat3 u = quartiles(b->cpu[p][i], b->cpu[p][than], pairs);
		struct stat3 v = interval(b->cpu[p][i], b->cpu[p][than], pairs);

		if (than == i)
			continue;
		printf("%s{\"detail\": \"%s\", \"audit\": %s, \"ratio\": %.5f, \"q1\": %.5f, \"q3\": %.5f, "
			"\"cpu_ratio\": %.5f, \"cpu_q1\": %.5f, \"cpu_q3\": %.5f, \"cpu_low\": %.5f, \"cpu_high\": %.5f}",
			n_out++ ? ", " : "", level_name[b->side[i].detail], audit ? "true" : "false", c.med, c.q1, c.q3,
			u.med, u.q1, u.q3, v.q1, v.q3);
	}
	printf("], \"joule_per_token\": ");
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
		"\"int8_macs_per_s\": %.4g, \"bf16_macs_per_s\": %.4g, \"float_macs_per_s\": %.4g, \"phases\": [", (int)name.len, name.len ? (const char *)name.data : "",
		in->quant, session_threads(b->side[0].s), session_arithmetic(b->side[0].s), pairs, b->start,
		(unsigned long long)b->peak, (unsigned long long)gguf_file_bytes(b->l.gguf), b->limit.read,
		b->limit.macs[PEAK_INT8], b->limit.macs[PEAK_BF16], b->limit.macs[PEAK_FLOAT]);
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
	uint64_t kv = session_kv_bytes(b->side[0].s, (uint32_t)(b->n_depth + b->n_dec / 2));

	printf("%s, %s, %d threads, %s, %lld %s\n\n%-8s %7s %10s %22s %11s %8s\n", show(in->name).s, in->quant,
		session_threads(b->side[0].s), session_arithmetic(b->side[0].s), pairs, pairs == 1 ? "round" : "rounds", "",
		"tokens", "tokens/s", "(quartiles)", "limit", "of limit");
	for (int p = 0; p < N_PHASE; p++) {
		struct stat3 t = quartiles(b->t[p][0], NULL, pairs);
		double n = (double)tokens_of(b, p), limit = limit_of(b, p);

		printf("%-8s %7zu %10.1f  (%8.1f - %8.1f) %11.1f %6.0f %%\n", phase_name[p], tokens_of(b, p), n / t.med,
			n / t.q3, n / t.q1, limit, 100 * n / t.med / limit);
	}
	printf("\nlimits of all threads together:\n");
	for (int i = 0; i < PEAK_N; i++)
		if (b->limit.need[i] > 0)
			printf("  prefill  %.1f M multiply-adds a token %s at %.0f G/s (%s)\n", 1e-6 * b->limit.need[i],
				arithmetic[i], 1e-9 * b->limit.macs[i], peak_name((enum peak)i));
	printf("  decode   %.1f MB of weights and %.1f MB of keys and values a token at %.1f GB/s read%s\n",
		1e-6 * (double)in->bytes_per_token, 1e-6 * (double)kv, 1e-9 * b->limit.read,
		in->weight_bytes < 32u << 20 ? " (but these weights fit in the cache)" : "");
	printf("\nstart to first token %.1f ms, peak memory %.1f MB, model file %.1f MB\n", 1e3 * b->start,
		1e-6 * (double)b->peak, 1e-6 * (double)gguf_file_bytes(b->l.gguf));
}

static void print_logging(const struct bench *b)
{
	printf("\ncost of %s, with / without, round by round, median:\n%-18s %-26s %s\n",
		audit ? "an audit log beside logging" : "logging", "", "time (quartiles)",
		"processor time of all threads (95 % interval)");
	for (size_t i = 0; i < b->n_side; i++)
		for (int p = 0; p < N_PHASE && b->side[i].than != i; p++) {
			size_t than = b->side[i].than;
			struct stat3 c = quartiles(b->t[p][i], b->t[p][than], pairs);
			struct stat3 u = quartiles(b->cpu[p][i], b->cpu[p][than], pairs);
			struct stat3 v = interval(b->cpu[p][i], b->cpu[p][than], pairs);

			printf("  %-6s  %-8s %.4f (%.4f - %.4f)   %.4f (%.4f - %.4f)\n", level_name[b->side[i].detail],
				phase_name[p], c.med, c.q1, c.q3, u.med, v.q1, v.q3);
		}
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
	energy_init(&b->energy);
	failed = open_all(b, argc ? argv[0] : "sample:balanced", e) || run_pairs(b, e) || (parts && run_parts(b, e));
	if (!failed) {
		bench_limits(b->l.model, b->side[0].s, &b->limit);
		if (json) {
			report_json(b);
		} else {
			print_speed(b);
			print_energy(&b->energy);
			if (b->n_side > 1)
				print_logging(b);
			if (parts)
				print_parts(b);
		}
	}
	close_all(b);
	free(b);
	return failed ? -1 : 0;
}

static const struct opt opts[] = {
	{ "pairs", 'n', OPT_INT, &pairs, "N", "interleaved rounds of runs (default 15)", 1, MAX_PAIRS },
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
