/*
 * bench_side.c - see bench_side.h.
 *
 * A run is a prefill, or a decode behind a prompt. A turn is a prefill, or as much of a decode as
 * takes TURN_S; in a round every side has so many turns that they take ROUND_S, a few of the
 * writer's commits. Its commit_ms is multiplied by the number of sides, so that it commits as often
 * in its side's own time as it would without the others.
 */
#include "cmd/bench_side.h"

#include <errno.h>
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
#include "cmd/engine.h"
#include "trace/writer.h"

#define FIRST_TOKENS 8 /* of the prompt whose first token is waited for */
#define TURN_S 0.002   /* short, since what else the machine does is not the same for long */
#define ROUND_S 0.5    /* two commits: were it one or two, the median would be that of two */
#define MOST_RUNS 128  /* of a side in a round */
#define COMMIT_MS 250  /* as the trace does unless told otherwise */
#define PART_RUNS 3

const char *const bench_level[] = { "counts", "routes", "full" };

/* ---- turns ---- */

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct side *side = ctx;

	return record_logits(&side->rec, side->seq, pos, row,
		model_info(side->bench->l.model)->n_vocab, e);
}

static double clock_seconds(clockid_t id)
{
	struct timespec t;

	return clock_gettime(id, &t) ? 0 : (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The engine is the side's: its hook, its writer. took counts from here. */
static int turn_begins(struct side *side, struct took *took, struct moe_err *e)
{
	struct bench *b = side->bench;

	if (side->t && session_add_hook(b->s, moe_trace_hook(side->t), e))
		return -1;
	if (side == b->side)
		energy_skip(&b->energy);
	took->cpu -= clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
	took->clock -= clock_seconds(CLOCK_MONOTONIC);
	if (side->t)
		writer_hold(side->t, 0);
	return 0;
}

/* What the writer owes it does now. It counts as if it had worked in the engine's place, as it does
 * where all processors are busy; time in which it sleeps, for the disk, does not. */
static void turn_ends(struct side *side, enum moe_phase phase, size_t n_tok, struct took *took)
{
	struct bench *b = side->bench;
	double cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID), clock = clock_seconds(CLOCK_MONOTONIC);

	took->cpu += cpu;
	took->clock += clock;
	if (side->t) {
		writer_hold(side->t, 1);
		cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		clock = clock_seconds(CLOCK_MONOTONIC) - clock;
		took->cpu += cpu;
		took->clock += cpu < clock ? cpu : clock;
		session_remove_hook(b->s, moe_trace_hook(side->t));
	}
	if (side == b->side)
		energy_take(&b->energy, phase, n_tok);
}

static int begin(struct side *side, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = side->seq = ++side->n_seq, .domain = "bench" };

	return session_begin(side->bench->s, &info, e);
}

static int end(struct side *side, size_t n_prompt, size_t n_generated, struct moe_err *e)
{
	struct moe_seq_result res = { .seq = side->seq, .n_prompt = (uint32_t)n_prompt,
		.n_generated = (uint32_t)n_generated };

	if (!side->seq)
		return 0;
	side->seq = 0;
	return session_end(side->bench->s, &res, e);
}

static int prefill(struct side *side, struct moe_err *e)
{
	struct bench *b = side->bench;
	struct session_want want = { 0, on_logits, side };

	if (begin(side, e) || session_eval(b->s, b->ids, b->n_pre, MOE_PREFILL, &want, e))
		return -1;
	side->fed += b->n_pre;
	return end(side, b->n_pre, 0, e);
}

/* Tokens from .. to - 1 of the decode. A sequence's positions only ascend. */
static int decode(struct side *side, size_t from, size_t to, struct moe_err *e)
{
	struct bench *b = side->bench;
	struct session_want want = { 0, on_logits, side };

	if ((!from && end(side, b->n_depth, b->n_dec, e)) || (!side->seq && begin(side, e)) ||
		session_seek(b->s, side->seq, (uint32_t)(b->n_depth + from), e))
		return -1;
	for (size_t i = from; i < to; i++)
		if (session_eval(b->s, b->ids + b->n_depth + i, 1, MOE_DECODE, &want, e))
			return -1;
	side->fed += to - from;
	return 0;
}

/* The turn'th of a side in a round. Sides are at different places of the decode, so that none finds
 * the other's experts in the processor's cache. */
static int take_turn(struct side *side, int phase, size_t turn, size_t turns, struct took *took,
	struct moe_err *e)
{
	struct bench *b = side->bench;
	size_t n = phase == PREFILL ? b->n_pre : b->n_dec, part = b->plan[phase].part;
	size_t parts = (n + part - 1) / part;
	size_t from = (turn + (size_t)(side - b->side) * parts / b->n_side) % parts * part;
	size_t to = from + part < n ? from + part : n;

	if (turn_begins(side, took, e) ||
		(phase == PREFILL ? prefill(side, e) : decode(side, from, to, e)) ||
		(turn + 1 == turns && end(side, b->n_depth, b->n_dec, e)))
		return -1;
	turn_ends(side, phase == PREFILL ? MOE_PREFILL : MOE_DECODE, to - from, took);
	return 0;
}

/* Wait until all that was fed is committed, so that it is nobody else's cost. */
static int settle(struct side *side, struct moe_err *e)
{
	static const struct timespec pause = { 0, 10000000 };

	if (!side->t)
		return 0;
	writer_hold(side->t, 0);
	while (moe_trace_committed(side->t) < side->fed && !load_interrupted()) {
		if (moe_trace_flush(side->t, e))
			return -1;
		nanosleep(&pause, NULL);
	}
	writer_hold(side->t, 1);
	return 0;
}

/* The prompt of the decode, and the decode once: from now on the cache holds all its positions. */
static int fill_cache(struct bench *b, struct moe_err *e)
{
	struct moe_seq_info info = { .domain = "bench" };

	if (session_begin(b->s, &info, e) ||
		session_eval(b->s, b->ids, b->n_depth, MOE_PREFILL, NULL, e))
		return -1;
	for (size_t i = 0; i < b->n_dec; i++)
		if (session_eval(b->s, b->ids + b->n_depth + i, 1, MOE_DECODE, NULL, e))
			return -1;
	return 0;
}

/* ---- rounds ---- */

/* Who of n is j-th: each is first as often, and before and behind each other one. */
static size_t turn_of(size_t n, size_t turn, size_t j)
{
	return ((turn & 1 ? n - 1 - j : j) + turn / 2) % n;
}

static int one_round(struct bench *b, int phase, size_t round, struct took took[BENCH_SIDES],
	struct moe_err *e)
{
	size_t n = b->n_side, turns = b->plan[phase].turns;
	size_t part = b->plan[phase].part, parts = phase == PREFILL ? 1 : (b->n_dec + part - 1) / part;
	double runs = (double)turns / (double)parts;

	memset(took, 0, BENCH_SIDES * sizeof *took);
	for (size_t turn = 0; turn < turns && !load_interrupted(); turn++)
		for (size_t j = 0; j < n; j++) {
			size_t who = turn_of(n, round * turns + turn, j);

			if (take_turn(&b->side[who], phase, turn, turns, &took[who], e))
				return -1;
		}
	for (size_t i = 0; i < n; i++) {
		took[i].clock /= runs;
		took[i].cpu /= runs;
	}
	return 0;
}

/* How long a run takes decides how turns are made: plan[]. seconds[] of one run. */
static void plan_turns(struct bench *b, const double seconds[N_PHASE])
{
	struct session_cache_stat stat;

	for (int p = 0; p < N_PHASE; p++) {
		size_t n = p == PREFILL ? b->n_pre : b->n_dec, part = n, parts;
		double run = seconds[p] > ROUND_S / MOST_RUNS ? seconds[p] : ROUND_S / MOST_RUNS;

		/* Who comes second would find all experts in a cache of experts. */
		if (p == DECODE && run > TURN_S && !session_cache_stat(b->s, &stat)) {
			part = (size_t)(TURN_S / run * (double)n);
			part += !part;
		}
		parts = (n + part - 1) / part;
		b->plan[p].part = part;
		b->plan[p].turns = ((size_t)(ROUND_S / run) + 1) * parts;
	}
}

/* A first round of each phase is not counted: code and databases are warm then, and the writers
 * have as much left over from it as they leave to the next. */
static int all_rounds(struct bench *b, struct limiter *l, struct moe_err *e)
{
	struct took took[BENCH_SIDES];

	for (int p = 0; p < N_PHASE; p++) {
		if (p == DECODE && fill_cache(b, e))
			return -1;
		for (size_t i = 0; i < b->n_side; i++)
			if (settle(&b->side[i], e))
				return -1;
		for (long long r = -1; r < b->pairs && !load_interrupted(); r++) {
			if (one_round(b, p, (size_t)(r + 1), took, e))
				return -1;
			for (size_t i = 0; r >= 0 && i < b->n_side; i++) {
				b->t[p][i][r] = took[i].clock;
				b->cpu[p][i][r] = took[i].cpu;
			}
			if (r < 0)
				b->energy.phase[p].uj = b->energy.phase[p].tokens = 0;
			else
				b->limit[p][r] = limiter_take(l, p == PREFILL ? MOE_PREFILL : MOE_DECODE);
		}
	}
	return load_interrupted() ? err_set(e, MOE_ERR_USAGE, "interrupted") : 0;
}

int bench_run(struct bench *b, struct moe_err *e)
{
	struct limiter *l = limiter_new(b->l.model, b->s, b->n_pre, e);
	int failed = !l || all_rounds(b, l, e);

	limiter_free(l);
	return failed ? -1 : 0;
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

int bench_parts(struct bench *b, struct moe_err *e)
{
	struct side *side = b->side;

	while (!side->t && side + 1 < b->side + b->n_side) /* the first that logs */
		side++;
	for (int p = 0; p < N_PHASE; p++) {
		if (p == DECODE && fill_cache(b, e))
			return -1;
		for (int i = 0; i < PART_RUNS; i++) {
			struct took took = { 0, 0 };

			session_time_parts(b->s, 1);
			if (turn_begins(side, &took, e) ||
				(p == PREFILL ? prefill(side, e) : decode(side, 0, b->n_dec, e)) ||
				end(side, b->n_depth, b->n_dec, e))
				return -1;
			turn_ends(side, MOE_PREFILL, 0, &took);
			take_parts(b->s, took.clock, b->part[p]);
			session_time_parts(b->s, 0);
		}
	}
	return 0;
}

/* ---- opening and closing ---- */

static struct side *new_side(struct bench *b, int level, size_t than)
{
	struct side *side = &b->side[b->n_side++];

	side->bench = b;
	side->detail = level;
	side->than = than;
	return side;
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
	snprintf(p.key_path, sizeof p.key_path, "%s/%s", keys, bench_level[level]);
	if (admin_open_bare(&a, db, e))
		return -1;
	bad = note_secret_create(&key, p.origin, p.key_path, e) ||
		log_create(a.db, &p, &key, NULL, "bench", e);
	return admin_close(&a, bad, e) || bad ? -1 : 0;
}

static int open_trace(struct bench *b, struct side *side, int with_log, unsigned commit_ms,
	struct moe_err *e)
{
	struct moe_trace_opt to = { .detail = (enum moe_detail)side->detail, .commit_ms = commit_ms };
	struct record_about about = { .l = &b->l, .s = b->s, .logits = "last" };
	struct moe_run_desc d;
	char db[100];

	snprintf(db, sizeof db, "%s/%zu.db", b->dir, (size_t)(side - b->side));
	engine_describe(&b->l, b->s, b->lo, "bench", &d);
	if (with_log && (start_log(b->dir, db, side->detail, e) ||
		record_start(&side->rec, db, &about, &to, &d, e)))
		return -1;
	side->t = moe_trace_open(db, &to, &d, e);
	if (!side->t)
		return -1;
	side->fed = 0; /* the first side ran before it had a trace */
	writer_hold(side->t, 1);
	return 0;
}

int bench_add_sides(struct bench *b, int first, int last, int audit, struct moe_err *e)
{
	unsigned n = (unsigned)(last - first + 1), commit_ms = COMMIT_MS * (audit ? 2 * n + 1 : n + 2);

	snprintf(b->dir, sizeof b->dir, "/tmp/moescope-bench-XXXXXX");
	if (!mkdtemp(b->dir)) {
		b->dir[0] = 0;
		return err_errno(e, "creating a directory in /tmp");
	}
	b->side[0].detail = first;
	if (audit && open_trace(b, &b->side[0], 0, commit_ms, e))
		return -1;
	new_side(b, first, 0)->same = 1;
	if (audit && open_trace(b, &b->side[1], 0, commit_ms, e))
		return -1;
	for (int level = first; level <= last; level++) {
		size_t than = audit && level > first ? b->n_side : 0;

		if (than && open_trace(b, new_side(b, level, than), 0, commit_ms, e))
			return -1;
		if (open_trace(b, new_side(b, level, than), audit, commit_ms, e))
			return -1;
	}
	return 0;
}

static int make_ids(struct bench *b, size_t n_pre, size_t n_dec, size_t depth, struct moe_err *e)
{
	const struct model_info *in = model_info(b->l.model);
	size_t ctx = session_ctx(b->s), most, n;
	struct rng r;

	b->n_pre = n_pre < ctx ? n_pre : ctx;
	if (depth >= ctx)
		return err_set(e, MOE_ERR_USAGE, "decoding behind %zu tokens does not fit in a context of "
			"%zu (--ctx)", depth, ctx);
	b->n_depth = depth;
	most = ctx - depth;
	if (in->n_window_layer && most > session_batch(b->s)) /* how far session_seek() goes back */
		most = session_batch(b->s);
	b->n_dec = n_dec < most ? n_dec : most;
	n = b->n_pre + b->n_dec + b->n_depth + FIRST_TOKENS;
	b->ids = malloc(n * sizeof *b->ids);
	if (!b->ids)
		return err_nomem(e, n * 4, "tokens");
	rng_seed(&r, 1);
	for (size_t i = 0; i < n; i++)
		b->ids[i] = (int32_t)rng_below(&r, in->n_vocab);
	return 0;
}

/* The side that does not log, alone: what a user of the engine sees of its start and its memory. */
int bench_open(struct bench *b, const char *model, size_t n_pre, size_t n_dec, size_t n_depth,
	struct moe_err *e)
{
	int64_t t0 = clock_mono(), t1;
	double seconds[N_PHASE];
	struct rusage use;
	size_t n;

	if (load_model(model, b->lo, &b->l, e) || !(b->s = engine_session(&b->l, b->lo, e)) ||
	    make_ids(b, n_pre, n_dec, n_depth, e))
		return -1;
	new_side(b, 0, 0);
	n = b->n_pre;
	b->n_pre = session_ctx(b->s) < FIRST_TOKENS ? session_ctx(b->s) : FIRST_TOKENS;
	if (prefill(b->side, e))
		return -1;
	b->start = (double)(clock_mono() - t0) * 1e-9;
	b->n_pre = n;
	gguf_copy_wait(b->l.gguf);
	t0 = clock_mono();
	if (prefill(b->side, e))
		return -1;
	t1 = clock_mono();
	seconds[PREFILL] = (double)(t1 - t0) * 1e-9;
	if (fill_cache(b, e))
		return -1;
	t0 = clock_mono();
	if (decode(b->side, 0, b->n_dec, e) || end(b->side, b->n_depth, b->n_dec, e))
		return -1;
	seconds[DECODE] = (double)(clock_mono() - t0) * 1e-9;
	plan_turns(b, seconds);
	b->peak = getrusage(RUSAGE_SELF, &use) ? 0 : (uint64_t)use.ru_maxrss << 10;
	return 0;
}

void bench_close(struct bench *b)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-lock" };
	char path[100];

	for (size_t i = 0; i < b->n_side; i++) {
		if (b->side[i].t)
			moe_trace_close(b->side[i].t, MOE_RUN_DONE, NULL);
		record_free(&b->side[i].rec);
		for (size_t k = 0; b->dir[0] && k < sizeof ends / sizeof ends[0]; k++) {
			snprintf(path, sizeof path, "%s/%zu.db%s", b->dir, i, ends[k]);
			remove(path);
		}
	}
	session_free(b->s);
	for (int i = 0; b->dir[0] && i < 3; i++) {
		snprintf(path, sizeof path, "%s/keys/%s", b->dir, bench_level[i]);
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
