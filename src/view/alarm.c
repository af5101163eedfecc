/*
 * alarm.c - what needs somebody's attention, each with the evidence.
 *
 * Rules are rows of one table. An alarm is raised on evidence only: a rule about load stays silent
 * where uniform routing of that many tokens could have done the same (CHANCE). Work is bounded: the
 * load of the selection once, the notes of the run once, at most WINDOWS further sums to find out
 * since when, and one pass over the first SCAN tokens for the rules about single decisions. The
 * same code serves live screens and `check`, which may ask for a longer pass and other thresholds.
 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "metrics/balance.h"
#include "metrics/capacity.h"
#include "metrics/router.h"
#include "sim/capacity.h"
#include "view/live.h"
#include "view/table.h"
#include "view/walk.h"

#define CHANCE 1e-3 /* likelier than this under uniform routing: no evidence */
#define CAPACITY 1.25 /* the factor that the collapse rule quotes; the usual one in training */
#define FEW 0.1     /* "few experts": this part of a layer's, but at least k */
#define MOST 0.5    /* "most": a collapse is an alarm where few experts take so much of the picks */
#define WINDOWS 64  /* sums over buckets that one call may ask for */
#define SCAN 4096   /* tokens read by rules about single decisions, unless more are asked for */
#define BATCH 512   /* tokens of a batch for the drop rate by position */
#define TREND_TOKENS 1000 /* tokens of a third of the time, for a trend */

/* The figures of one layer over one window of buckets. */
struct figures {
	uint64_t tokens, n_nan, top; /* picks of the busiest expert */
	unsigned busiest;
	double max_mean, mi;         /* mi: token and expert, bits; NAN without scores */
};

struct window {
	int64_t a, b;           /* buckets a <= x < b */
	int scores;             /* were the sums of scores read, too? */
	int used;               /* by this call */
	struct figures *layer;  /* [n_layer] */
};

struct rule;

/* When an alarm's present spell began. */
struct began { const struct rule *rule; int layer; int64_t bucket; };

/*
 * What a live screen keeps between two calls: load that follows the writer (view/live.h), the notes
 * and first tokens that were read, windows of time that are over, and since when alarms have fired,
 * so that a call reads what is new. A window that reaches to the end of the run is kept until another
 * bucket begins: a trend lags by at most that. Another filter forgets all.
 */
struct view_alarm_memory {
	struct view_live *live;
	struct load_filter f;
	int64_t run, n_buckets;
	struct note *notes;
	size_t n_notes;
	int scan_done;
	uint64_t scanned, same;
	double (*tenth)[2];
	uint64_t *late;
	struct window window[WINDOWS];
	int n_windows;
	struct began *began;
	size_t n_began;
};

struct scene {
	struct reader *r;
	const struct load_filter *f;
	struct view_alarm_memory *memory; /* or NULL */
	int64_t n_buckets;
	struct began *began;             /* of this call, for the memory */
	size_t n_began;
	struct run_info *run;
	struct load_set load;
	struct metrics_balance *balance; /* [load.n] */
	struct note *notes;              /* of the selected time */
	size_t n_notes;
	struct window window[WINDOWS];
	int n_windows;
	uint64_t tokens;                 /* of the layer that saw most */
	char where[96];                  /* " AND ..." for what the filter selects */
	int routing;                     /* may evidence come from `routing`? */
	/* from the first tokens: */
	uint64_t scanned;                /* tokens read; 0 = no single decisions */
	uint64_t same;                   /* rows from the first one on that repeat it */
	double (*tenth)[2];              /* [load.n] share of picks dropped in the first, last tenth */
	uint64_t *late;                  /* [load.n] tokens of the last tenths */
};

/* One candidate. `layer` is an index into scene.load, -1 for rules about the run. */
struct finding {
	const struct scene *s;
	int layer;
	double value;
	int most; /* highest severity that this evidence supports */
	struct view_alarm *out;
};

struct rule {
	const char *kind;
	double note, warning, alarm;       /* value from which on; INFINITY = never */
	int per_layer;
	int (*measure)(struct finding *);  /* sets value, may lower `most`; 0 = does not apply */
	void (*describe)(struct finding *); /* text, sql; also since, for rules about the run */
	double (*again)(const struct figures *); /* value over a window, NULL: since the start */
};

static int collapse(struct finding *);
static int dead(struct finding *);
static int cold(struct finding *);
static int rising(struct finding *);
static int information(struct finding *);
static int tail(struct finding *);
static int warmup(struct finding *);
static int nan_seen(struct finding *);
static int gap(struct finding *);
static int recovery(struct finding *);
static int failed(struct finding *);
static int stopped(struct finding *);
static int lag(struct finding *);
static void say_collapse(struct finding *);
static void say_dead(struct finding *);
static void say_cold(struct finding *);
static void say_rising(struct finding *);
static void say_information(struct finding *);
static void say_tail(struct finding *);
static void say_warmup(struct finding *);
static void say_nan(struct finding *);
static void say_gap(struct finding *);
static void say_recovery(struct finding *);
static void say_failed(struct finding *);
static void say_stopped(struct finding *);
static void say_lag(struct finding *);
static double again_max_mean(const struct figures *);
static double again_nan(const struct figures *);

/*
 * The rules. To add one, do this: write measure() and describe() below, add a row here, a line in
 * docs/METRICS.md and a case to tests/unit/test_view_alarm.c, which runs the SQL of every alarm.
 *
 * collapse: max/mean, the busiest expert against its fair share. Models trained with a working
 *   balancing loss stay below 1.5 on mixed text (our balanced sample model: 1.08-1.44), so 2 is
 *   worth a look; a layer that has collapsed has 4 and more (two of three layers of our collapsed
 *   sample: 6.1 and 7.1), so 3 is an alarm, where few experts take most of the tokens: the busiest
 *   tenth of them, or k if that is more, at least half of the picks (that sample: 52 and 54 %). One
 *   hot expert among many, or a long tail of 256, is uneven but not a collapse: a warning.
 * dead: share of experts never picked. Any is worth a warning (one of the most that a layer can
 *   have, 1024, is above .0005), 10 % wasted parameters an alarm.
 * cold: experts below a tenth of their fair share, but alive.
 * rising: MaxVio of the last third of the time less that of the first. A working bias or loss keeps
 *   it level; the texts may also have changed, so it is never more than a warning by default.
 * information: by how much of itself MI(token; expert) fell from the first third to the last. Router
 *   collapse shows here before it shows in the load.
 * tail: share of picks that a capacity of 1.25 drops in the last tenth of a batch less that in the
 *   first (batches of 512, first come first served). Some of that is in the rule itself: the last come
 *   find the experts full. A batch of one text reaches .2 to .65 with a balanced model (our sample), so
 *   a note from one half on, a warning from three quarters; never an alarm, since an engine without
 *   capacity drops nothing.
 * warmup: rows at the start of the log that repeat the first one: same token id, same experts in all
 *   layers. An engine's warm-up or padding was counted as content.
 * lag: the writer commits every 250 ms; seconds mean that it cannot keep up.
 */
static const struct rule rules[] = {
	/* kind      note      warning   alarm     layer measure   describe      again */
	{ "collapse", INFINITY, 2,       3,        1, collapse, say_collapse, again_max_mean },
	{ "dead",     INFINITY, .0005,   .10,      1, dead,     say_dead,     NULL },
	{ "cold",     1,        INFINITY, INFINITY, 1, cold,    say_cold,     NULL },
	{ "rising",   INFINITY, .25,     INFINITY, 1, rising,   say_rising,   NULL },
	{ "information", INFINITY, .25,  .5,       1, information, say_information, NULL },
	{ "tail",     .5,       .75,     INFINITY, 1, tail,    say_tail,     NULL },
	{ "warmup",   INFINITY, 8,       64,       0, warmup,   say_warmup,   NULL },
	{ "nan",      INFINITY, INFINITY, 1,       1, nan_seen, say_nan,      again_nan },
	{ "gap",      INFINITY, 1e-6,    .01,      0, gap,      say_gap,      NULL },
	{ "recovery", INFINITY, 1,       INFINITY, 0, recovery, say_recovery, NULL },
	{ "failed",   INFINITY, INFINITY, 1,       0, failed,   say_failed,   NULL },
	{ "stopped",  INFINITY, INFINITY, 5,       0, stopped,  say_stopped,  NULL },
	{ "lag",      INFINITY, 2000,    10000,    0, lag,      say_lag,      NULL },
};

/* ---- words ---- */

static void say(struct finding *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct finding *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->out->text, sizeof x->out->text, fmt, ap);
	va_end(ap);
}

static void sql(struct finding *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void sql(struct finding *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->out->sql, sizeof x->out->sql, fmt, ap);
	va_end(ap);
}

/* Picks by expert: from single decisions where the run keeps them and all times are selected, else
 * unpacked from the counts in `load` (u64, little-endian: the hexadecimal digits are added up with
 * their weights). */
static void sql_picks(struct finding *x, const char *order)
{
	const struct scene *s = x->s;
	const struct layer_load *l = s->load.layer + x->layer;
	long long run = s->run->id;

	if (s->routing)
		sql(x, "SELECT expert, count(*) AS picks FROM routing WHERE run=%lld AND layer=%u%s "
			"GROUP BY 1 ORDER BY 2 %s", run, l->layer, s->where, order);
	else
		sql(x, "WITH n(i) AS (VALUES(0) UNION ALL SELECT i+1 FROM n WHERE i<%u) SELECT i/16 "
			"AS expert, sum(instr('123456789ABCDEF',substr(hex(counts),i+1,1))<<"
			"(i%%16/2*8+4-i%%2*4)) AS picks FROM load,n WHERE run=%lld AND layer=%u%s "
			"GROUP BY 1 ORDER BY 2 %s", 16u * l->n_expert - 1, run, l->layer,
			s->where, order);
}

static void chance_words(double p, char *buf, size_t size)
{
	if (p < 1e-9)
		snprintf(buf, size, "less than one in a billion");
	else
		snprintf(buf, size, "%.1g", p);
}

/* ---- rules about a layer ---- */

/* Share of the picks that the *n busiest experts take; *n is what counts as few of them. */
static double few_take(const struct layer_load *l, unsigned *n)
{
	uint64_t sorted[MOE_MAX_EXPERT];
	struct metrics_balance b;

	*n = (unsigned)ceil(FEW * l->n_expert - 1e-9);
	*n = *n < l->k ? l->k : *n;
	metrics_balance(l->counts, l->n_expert, sorted, &b);
	return metrics_top_share(sorted, l->n_expert, *n);
}

static int collapse(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct metrics_balance *b = x->s->balance + x->layer;
	unsigned few;

	x->value = b->max_mean;
	if (!b->picks || metrics_load_chance(l->counts[b->top_expert], l->tokens, l->n_expert, l->k,
	    1) > CHANCE)
		return 0;
	if (x->s->f->domain >= 0 || few_take(l, &few) < MOST)
		x->most = VIEW_WARNING; /* within one domain it may be specialisation */
	return 1;
}

/* "E3+E11 take 71 %": the experts above twice their fair share, at most four of them. */
static void say_collapse(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct metrics_balance *b = x->s->balance + x->layer;
	double mean = (double)b->picks / l->n_expert, share = 0, most;
	char names[80] = "";
	size_t len = 0;
	unsigned n = 0, few;
	uint64_t last = UINT64_MAX, next;

	while (n < 4) { /* busiest first, one load at a time */
		next = 0;
		for (unsigned e = 0; e < l->n_expert; e++)
			if (l->counts[e] < last && l->counts[e] > next)
				next = l->counts[e];
		if (!next || (double)next < 2 * mean)
			break;
		for (unsigned e = 0; e < l->n_expert && n < 4; e++)
			if (l->counts[e] == next) {
				len += (size_t)snprintf(names + len, sizeof names - len, "%sE%u",
					n++ ? "+" : "", e);
				share += (double)next / (double)b->picks;
			}
		last = next;
	}
	most = few_take(l, &few);
	say(x, "layer %u: %s take%s %.0f %% of picks (fair share %.1f %%), the busiest %u of %u experts "
		"%.0f %%; with capacity factor %.2f at least %.0f %% of picks would be dropped", l->layer,
		names, n == 1 ? "s" : "", 100 * share, 100.0 * n / l->n_expert, few, l->n_expert,
		100 * most, CAPACITY, 100 * metrics_dropped(l->counts, l->n_expert, l->tokens, l->k, CAPACITY));
	sql_picks(x, "DESC");
}

static double again_max_mean(const struct figures *w)
{
	return w->max_mean;
}

static int dead(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;

	x->value = x->s->balance[x->layer].dead;
	if (l->n_expert * metrics_dead_chance(l->tokens, l->n_expert, l->k) > CHANCE)
		return 0;
	if (x->s->f->domain >= 0)
		x->most = VIEW_NOTE; /* experts of other domains are not dead */
	return 1;
}

static void say_dead(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	char p[40];

	chance_words(metrics_dead_chance(l->tokens, l->n_expert, l->k), p, sizeof p);
	say(x, "layer %u: %u of %u experts never picked in %" PRIu64 " tokens (chance for one expert "
		"if routing were uniform: %s)", l->layer, x->s->balance[x->layer].n_dead, l->n_expert,
		l->tokens, p);
	if (x->s->routing)
		sql(x, "WITH n(e) AS (VALUES(0) UNION ALL SELECT e+1 FROM n WHERE e<%u) SELECT e AS expert "
			"FROM n WHERE e NOT IN (SELECT expert FROM routing WHERE run=%lld AND layer=%u%s)",
			l->n_expert - 1u, (long long)x->s->run->id, l->layer, x->s->where);
	else
		sql_picks(x, "ASC");
}

/* The most picked of the cold ones must itself be improbable. */
static int cold(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct metrics_balance *b = x->s->balance + x->layer;
	double mean = (double)b->picks / l->n_expert;
	uint64_t most = 0;

	x->value = (double)b->n_cold - b->n_dead;
	for (unsigned e = 0; e < l->n_expert; e++)
		if ((double)l->counts[e] / mean < METRICS_COLD && l->counts[e] > most)
			most = l->counts[e];
	return metrics_load_chance(most, l->tokens, l->n_expert, l->k, -1) <= CHANCE;
}

static void say_cold(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;

	uint64_t most = 0;
	double mean = (double)x->s->balance[x->layer].picks / l->n_expert;
	char p[40];

	for (unsigned e = 0; e < l->n_expert; e++)
		if ((double)l->counts[e] / mean < METRICS_COLD && l->counts[e] > most)
			most = l->counts[e];
	chance_words(metrics_load_chance(most, l->tokens, l->n_expert, l->k, -1), p, sizeof p);
	say(x, "layer %u: %.0f of %u experts take less than a tenth of their fair share (by chance: %s)", l->layer,
		x->value, l->n_expert, p);
	sql_picks(x, "ASC");
}

static int nan_seen(struct finding *x)
{
	x->value = (double)x->s->load.layer[x->layer].n_nan;
	return 1;
}

static void say_nan(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;

	say(x, "layer %u: the router's logits held a NaN for %" PRIu64 " of %" PRIu64 " tokens; their "
		"experts are not a choice", l->layer, l->n_nan, l->tokens);
	sql(x, "SELECT datetime((started+bucket*bucket_ns)/1000000000,'unixepoch') AS since, "
		"sum(n_nan) AS n_nan, sum(tokens) AS tokens FROM load JOIN run ON run.id=load.run WHERE "
		"run=%lld AND layer=%u%s GROUP BY bucket HAVING sum(n_nan)>0", (long long)x->s->run->id,
		l->layer, x->s->where);
}

static double again_nan(const struct figures *w)
{
	return (double)w->n_nan;
}

/* ---- rules about the run ---- */

/* Notes of a kind: how many, the sum of their values, the time of the first. */
static size_t notes_of(const struct scene *s, const char *kind, double *sum, int64_t *since)
{
	size_t n = 0;

	*sum = 0;
	for (size_t i = 0; i < s->n_notes; i++)
		if (!strcmp(s->notes[i].kind, kind)) {
			if (!n++)
				*since = s->notes[i].time;
			*sum += isfinite(s->notes[i].value) ? s->notes[i].value : 0;
		}
	return n;
}

static void sql_notes(struct finding *x, const char *kind)
{
	sql(x, "SELECT datetime(time/1000000000,'unixepoch') AS at, sequence, pos, value, text FROM "
		"event WHERE run=%lld AND kind='%s' ORDER BY id", (long long)x->s->run->id, kind);
}

static void sql_run(struct finding *x)
{
	sql(x, "SELECT id, state, pid, datetime(started/1000000000,'unixepoch') AS started, "
		"datetime(heartbeat/1000000000,'unixepoch') AS heartbeat, lag_ns FROM run WHERE id=%lld",
		(long long)x->s->run->id);
}

/* Value: lost tokens as a share of all that were there. */
static int gap(struct finding *x)
{
	double lost;
	size_t n = notes_of(x->s, "gap", &lost, &x->out->since);

	lost = lost > 0 ? lost : (double)n; /* a gap of unknown size is one token at least */
	x->value = n ? lost / (lost + (double)x->s->tokens) : 0;
	return 1;
}

static void say_gap(struct finding *x)
{
	double lost;
	size_t n = notes_of(x->s, "gap", &lost, &x->out->since);

	say(x, "%zu gap%s in the log: %.0f token%s of decisions lost (%.2g %%)", n, n == 1 ? "" : "s",
		lost, lost == 1 ? "" : "s", 100 * x->value);
	sql_notes(x, "gap");
}

static int recovery(struct finding *x)
{
	double sum;

	x->value = (double)notes_of(x->s, "recovery", &sum, &x->out->since);
	return 1;
}

static void say_recovery(struct finding *x)
{
	say(x, "the log was recovered after a crash %.0f time%s; the last decisions before it may be "
		"missing", x->value, x->value == 1 ? "" : "s");
	sql_notes(x, "recovery");
}

static int failed(struct finding *x)
{
	x->value = !strcmp(x->s->run->state, "failed");
	return 1;
}

static void say_failed(struct finding *x)
{
	const struct run_info *u = x->s->run;

	say(x, "run %lld ended with an error; what was committed before it is complete",
		(long long)u->id);
	x->out->since = u->ended ? u->ended : u->heartbeat;
	sql_run(x);
}

/* Value: seconds without a heartbeat. */
static int stopped(struct finding *x)
{
	const struct run_info *u = x->s->run;

	x->value = ((double)clock_wall() - (double)u->heartbeat) / 1e9;
	return !strcmp(u->state, "live") && !u->alive;
}

static void say_stopped(struct finding *x)
{
	const struct run_info *u = x->s->run;

	say(x, "run %lld was never closed and its writer has been silent for %.0f s: it crashed or was "
		"killed", (long long)u->id, x->value);
	x->out->since = u->heartbeat;
	sql_run(x);
}

/* Value: ms between a decision and its commit. */
static int lag(struct finding *x)
{
	x->value = (double)x->s->run->lag_ns / 1e6;
	return x->s->run->alive;
}

static void say_lag(struct finding *x)
{
	say(x, "the log is %.1f s behind the engine", x->value / 1e3);
	x->out->since = x->s->run->heartbeat; /* of the commit that was late */
	sql_run(x);
}

/* ---- since when ---- */

static double information_of(const struct layer_load *l)
{
	struct metrics_router_sums sums = { .n_expert = l->n_expert, .counts = l->counts,
		.probs = l->probs, .lse2 = l->lse2, .entropy = l->entropy,
		.confidence = l->confidence, .margin = l->margin, .n_margin = l->n_margin };
	struct metrics_router m;

	metrics_router(&sums, &m);
	return m.mi_token;
}

/* Figures of every layer over buckets a..b-1 (mi only with scores), from the scene's windows or freshly read; NULL when
 * the call has asked for enough. */
static const struct figures *look(struct scene *s, int64_t a, int64_t b, int scores)
{
	struct load_filter f = *s->f;
	struct load_set set = { 0 };
	uint64_t sorted[MOE_MAX_EXPERT];
	struct metrics_balance bal;
	struct moe_err ignored;
	struct window *w;

	for (int i = 0; i < s->n_windows; i++)
		if (s->window[i].a == a && s->window[i].b == b && s->window[i].scores >= scores) {
			s->window[i].used = 1;
			return s->window[i].layer;
		}
	f.bucket0 = a, f.bucket1 = b;
	if (s->n_windows == WINDOWS ||
	    (scores ? reader_load : reader_load_counts)(s->r, &f, &set, &ignored))
		return NULL;
	w = s->window + s->n_windows;
	w->a = a, w->b = b, w->scores = scores, w->used = 1;
	w->layer = calloc(set.n + 1, sizeof *w->layer);
	for (size_t i = 0; w->layer && i < set.n && i < s->load.n; i++) {
		metrics_balance(set.layer[i].counts, set.layer[i].n_expert, sorted, &bal);
		w->layer[i] = (struct figures){ set.layer[i].tokens, set.layer[i].n_nan,
			set.layer[i].counts[bal.top_expert], bal.top_expert, bal.max_mean,
			information_of(set.layer + i) };
	}
	load_set_free(&set);
	s->n_windows += w->layer != NULL;
	return w->layer;
}

/* What the last call found out about the same alarm, or NULL. */
static const struct began *remembered(const struct scene *s, const struct rule *rule, int layer)
{
	for (size_t i = 0; s->memory && i < s->memory->n_began; i++)
		if (s->memory->began[i].rule == rule && s->memory->began[i].layer == layer)
			return &s->memory->began[i];
	return NULL;
}

/* The bucket in which the present spell began: walk back in windows that double while the value
 * holds and halve after the first that does not. Buckets without tokens do not end a spell. If the
 * latest bucket does not show it, there is no present spell: first. */
static int64_t spell(struct scene *s, const struct rule *rule, int layer, int64_t first,
	int64_t end)
{
	double least = fmin(rule->note, fmin(rule->warning, rule->alarm));
	int64_t lo = end, found = first, width = 1, a;
	const struct began *was = remembered(s, rule, layer);
	const struct figures *w;
	int shrinking = 0;

	if (was && was->bucket >= first) { /* does it go on in the buckets since the last call? */
		a = s->memory->n_buckets - 1;
		w = a >= s->n_buckets - 1 ? NULL : look(s, a > first ? a : first, end, 0);
		if (a >= s->n_buckets - 1 || (w && (!w[layer].tokens || rule->again(w + layer) >= least)))
			return was->bucket;
	}
	while (lo > first && width > 0) {
		a = lo - width > first ? lo - width : first;
		w = look(s, a, lo, 0);
		if (!w)
			break;
		if (!w[layer].tokens || rule->again(w + layer) >= least) {
			found = w[layer].tokens ? a : found;
			lo = a;
			width = shrinking || width > INT64_MAX / 2 ? width : width * 2;
		} else {
			shrinking = 1;
			width = (lo - a) / 2;
		}
	}
	return found;
}

/* When a bucket begins. The numbers come from a file: what would overflow is the run's start. */
static int64_t bucket_time(const struct run_info *u, int64_t bucket)
{
	if (u->started < 0 || u->bucket_ns <= 0 || bucket < 0 ||
	    bucket > (INT64_MAX - u->started) / u->bucket_ns)
		return u->started;
	return u->started + bucket * u->bucket_ns;
}

static int64_t since(struct scene *s, const struct rule *rule, int layer)
{
	int64_t first = s->f->bucket0, end = s->f->bucket1, n = s->n_buckets;

	if (first >= end) /* all buckets */
		first = 0, end = n;
	end = end < n ? end : n;
	if (rule->again && end > first)
		first = spell(s, rule, layer, first, end);
	if (s->began)
		s->began[s->n_began++] = (struct began){ rule, layer, first };
	return bucket_time(s->run, first);
}

/* ---- trends: the first third of the time against the last ---- */

/* NULL where there are too few tokens or too few buckets for a trend. */
static const struct figures *third(const struct scene *s, int last, int layer)
{
	int64_t first = s->f->bucket0, end = s->f->bucket1, n = s->n_buckets, span;
	const struct figures *w;

	if (first >= end)
		first = 0, end = n;
	end = end < n ? end : n;
	span = (end - first) / 3;
	if (span < 1)
		return NULL;
	w = look((struct scene *)s, last ? end - span : first, last ? end : first + span, 1);
	return w && w[layer].tokens >= TREND_TOKENS ? w + layer : NULL;
}

/* Could the last third's busiest expert have been the busiest of the first, by chance? Both thirds'
 * loads are what they are; what is asked is whether a top of the first third's height reaches the
 * last one's: E exp(-T KL). */
static int rising(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct figures *a = third(x->s, 0, x->layer), *b = third(x->s, 1, x->layer);
	double p, q, kl;

	if (!a || !b)
		return 0;
	x->value = b->max_mean - a->max_mean;
	q = (double)a->top / (double)a->tokens;
	p = (double)b->top / (double)b->tokens;
	if (!(p > q))
		return 0;
	kl = p * log(p / q) + (p < 1 ? (1 - p) * log((1 - p) / (1 - q)) : 0);
	return l->n_expert * exp(-(double)b->tokens * kl) <= CHANCE;
}

static void say_rising(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct figures *a = third(x->s, 0, x->layer), *b = third(x->s, 1, x->layer);

	say(x, "layer %u: MaxVio rose from %.2f in the first third of the time to %.2f in the last "
		"(busiest: E%u, then E%u)", l->layer, a->max_mean - 1, b->max_mean - 1, a->busiest, b->busiest);
	sql(x, "WITH n(i) AS (VALUES(0) UNION ALL SELECT i+1 FROM n WHERE i<%u) SELECT bucket, "
		"max(p)*%u.0/sum(p)-1 AS max_vio FROM (SELECT bucket, i/16 AS e, sum(instr("
		"'123456789ABCDEF',substr(hex(counts),i+1,1))<<(i%%16/2*8+4-i%%2*4)) AS p FROM load,n WHERE "
		"run=%lld AND layer=%u%s GROUP BY 1,2) GROUP BY 1", 16u * l->n_expert - 1, l->n_expert,
		(long long)x->s->run->id, l->layer, x->s->where);
}

static int information(struct finding *x)
{
	const struct figures *a = third(x->s, 0, x->layer), *b = third(x->s, 1, x->layer);

	if (!a || !b || !(a->mi > .05))
		return 0; /* also without scores */
	x->value = 1 - b->mi / a->mi;
	return 1;
}

static void say_information(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct figures *a = third(x->s, 0, x->layer), *b = third(x->s, 1, x->layer);

	say(x, "layer %u: what a token says about its expert fell from %.2f bits in the first third of the "
		"time to %.2f in the last", l->layer, a->mi, b->mi);
	sql(x, "SELECT bucket, sum(entropy)/sum(tokens) AS token_entropy_nats, sum(confidence)/sum(tokens) AS "
		"confidence FROM load WHERE run=%lld AND layer=%u%s GROUP BY 1", (long long)x->s->run->id,
		l->layer, x->s->where);
}

/* ---- rules about single decisions: the first tokens of the log ---- */

/* Of what the last tenths drop, under uniform routing. */
static double late_chance(const struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;

	return metrics_late_chance(x->s->tenth[x->layer][1], x->s->late[x->layer], BATCH, l->n_expert, l->k,
		CAPACITY);
}

static int tail(struct finding *x)
{
	const struct scene *s = x->s;

	if (s->scanned < BATCH)
		return 0;
	x->value = s->tenth[x->layer][1] - s->tenth[x->layer][0];
	return late_chance(x) <= CHANCE;
}

static void say_tail(struct finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	char p[40];

	chance_words(late_chance(x), p, sizeof p);
	say(x, "layer %u: a capacity factor of %.2f drops %.0f %% of the picks in the last tenth of a batch of "
		"%d tokens, %.0f %% in the first (by chance: %s)", l->layer, CAPACITY,
		100 * x->s->tenth[x->layer][1], BATCH, 100 * x->s->tenth[x->layer][0], p);
	sql(x, "WITH d AS (SELECT rank, expert, dense_rank() OVER (ORDER BY seq,pos)-1 AS i FROM routing "
		"WHERE run=%lld AND layer=%u%s), q AS (SELECT i%%%d*10/%d AS tenth, row_number() OVER "
		"(PARTITION BY i/%d,expert ORDER BY i,rank)>%llu AS lost FROM d) SELECT tenth, avg(lost) AS "
		"dropped FROM q GROUP BY 1", (long long)x->s->run->id, l->layer, x->s->where, BATCH, BATCH,
		BATCH, (unsigned long long)metrics_capacity(BATCH, l->n_expert, l->k, CAPACITY));
}

static int warmup(struct finding *x)
{
	x->value = (double)x->s->same;
	return x->s->scanned > 0;
}

static void say_warmup(struct finding *x)
{
	size_t k_row = 0;

	for (size_t l = 0; l < x->s->load.n; l++)
		k_row += x->s->load.layer[l].k;
	say(x, "the first %.0f rows of the log are alike, token id and all choices: warm-up or padding seems to "
		"be counted as content", x->value);
	x->out->since = x->s->run->started;
	sql(x, "SELECT seq, pos, token, group_concat(expert) AS experts FROM (SELECT seq, pos, token, expert "
		"FROM routing WHERE run=%lld%s ORDER BY seq, pos, layer, rank LIMIT %zu) GROUP BY 1, 2",
		(long long)x->s->run->id, x->s->where, (size_t)(x->value + 8) * k_row);
}

struct pass {
	struct scene *s;
	struct sim_room *room; /* [workers] */
	int workers;
	struct pass_layer {
		uint64_t lost[2], of[2]; /* picks dropped, picks, of the first and the last tenth */
		uint64_t tokens, same;   /* rows from the start on that repeat the first: token id, choices */
		int32_t token;           /* of the first row */
		uint16_t *first;         /* [k] its choices */
		int more;                /* 1 while rows repeat it */
	} *layer; /* [load.n] */
};

static void drop_tenths(struct pass_layer *y, struct sim_room *room, const struct walk_layer *l)
{
	struct sim_batch b = { .n = l->n, .k = l->k, .n_expert = l->n_expert, .experts = l->experts };
	uint64_t cap = metrics_capacity(l->n, l->n_expert, l->k, CAPACITY);

	sim_queue(&b, SIM_DROP_POSITION, room);
	for (size_t i = 0; i < (size_t)l->n * l->k; i++) {
		uint64_t t = i / l->k * 10 / l->n;

		if (t == 0 || t == 9) {
			y->of[t == 9]++;
			y->lost[t == 9] += room->place[i] >= cap;
		}
	}
}

static void count_same(struct pass_layer *y, const struct walk_layer *l)
{
	if (!y->tokens && l->n) {
		y->token = l->token[0];
		memcpy(y->first, l->experts, l->k * sizeof *y->first);
	}
	y->more &= l->n == l->of; /* a row without a choice is not alike */
	for (uint32_t t = 0; t < l->n && y->more; t++) {
		y->more = l->token[t] == y->token && !memcmp(l->experts + (size_t)t * l->k, y->first,
			l->k * sizeof *y->first);
		y->same += (uint64_t)y->more;
	}
}

/* Full batches only: in a short one the tenths mean little. */
static int pass_batch(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	struct pass *p = ctx;
	struct pass_layer *y = p->layer + layer;

	(void)e;
	if (!y->tokens || y->more)
		count_same(y, l);
	if (l->of == BATCH && l->n >= BATCH / 2)
		drop_tenths(y, &p->room[worker], l);
	y->tokens += l->of;
	return 0;
}

static int pass_init(struct pass *p, struct moe_err *e)
{
	const struct load_set *load = &p->s->load;
	size_t k = 1, n_expert = 1;

	for (size_t i = 0; i < load->n; i++) {
		k = load->layer[i].k > k ? load->layer[i].k : k;
		n_expert = load->layer[i].n_expert > n_expert ? load->layer[i].n_expert : n_expert;
	}
	p->workers = scan_threads(0);
	p->room = calloc((size_t)p->workers, sizeof *p->room);
	p->layer = calloc(load->n + 1, sizeof *p->layer);
	p->s->tenth = calloc(load->n + 1, sizeof *p->s->tenth);
	p->s->late = calloc(load->n + 1, sizeof *p->s->late);
	if (!p->room || !p->layer || !p->s->tenth || !p->s->late)
		return err_nomem(e, load->n * sizeof *p->layer, "drops by position");
	for (int i = 0; i < p->workers; i++)
		if (sim_room_init(&p->room[i], BATCH, (unsigned)k, n_expert, e))
			return -1;
	for (size_t i = 0; i < load->n; i++) {
		p->layer[i].more = 1;
		p->layer[i].first = calloc(load->layer[i].k, sizeof *p->layer[i].first);
		if (!p->layer[i].first)
			return err_nomem(e, load->layer[i].k * 2, "a token's choices");
	}
	return 0;
}

static int scan(struct scene *s, uint64_t most, struct moe_err *e)
{
	const struct walk_opt o = { .batch = BATCH };
	struct pass p = { .s = s };
	struct load_filter f = *s->f;
	int status = -1;

	f.most = most;
	if (pass_init(&p, e) || walk_each(s->r, &f, s->run, &o, pass_batch, &p, e))
		goto out;
	s->scanned = p.layer[0].tokens;
	s->same = s->scanned;
	for (size_t i = 0; i < s->load.n; i++) {
		const struct pass_layer *y = p.layer + i;

		s->same = y->same < s->same ? y->same : s->same;
		for (int t = 0; t < 2; t++)
			s->tenth[i][t] = y->of[t] ? (double)y->lost[t] / (double)y->of[t] : NAN;
		s->late[i] = y->of[1] / s->load.layer[i].k;
	}
	status = 0;
out:
	for (int i = 0; p.room && i < p.workers; i++)
		sim_room_free(&p.room[i]);
	for (size_t i = 0; p.layer && i < s->load.n; i++)
		free(p.layer[i].first);
	free(p.room);
	free(p.layer);
	return status;
}

/* ---- putting it together ---- */

static void where(struct scene *s)
{
	const struct load_filter *f = s->f;
	size_t n = 0;

	if (f->phase >= 0)
		n = (size_t)snprintf(s->where, sizeof s->where, " AND phase=%d", f->phase);
	if (f->domain >= 0)
		n += (size_t)snprintf(s->where + n, sizeof s->where - n, " AND domain=%lld",
			(long long)f->domain);
	s->routing = strcmp(s->run->detail, "counts") && f->bucket0 >= f->bucket1;
	if (f->bucket0 < f->bucket1) /* decisions have no time of their own; load has */
		snprintf(s->where + n, sizeof s->where - n, " AND bucket>=%lld AND bucket<%lld",
			(long long)f->bucket0, (long long)f->bucket1);
}

/* Keep the notes of the filter's buckets. */
static void select_notes(struct scene *s)
{
	int64_t from, to;
	size_t keep = 0;

	if (s->f->bucket0 >= s->f->bucket1)
		return;
	from = bucket_time(s->run, s->f->bucket0);
	to = bucket_time(s->run, s->f->bucket1);
	for (size_t i = 0; i < s->n_notes; i++)
		if (s->notes[i].time >= from && s->notes[i].time < to)
			s->notes[keep++] = s->notes[i];
	s->n_notes = keep;
}

/* ---- what is kept between two calls ---- */

static void forget(struct view_alarm_memory *m)
{
	for (int i = 0; i < m->n_windows; i++)
		free(m->window[i].layer);
	free(m->notes);
	free(m->tenth);
	free(m->late);
	free(m->began);
	*m = (struct view_alarm_memory){ .live = m->live };
}

struct view_alarm_memory *view_alarm_memory_new(struct moe_err *e)
{
	struct view_alarm_memory *m = calloc(1, sizeof *m);

	if (!m)
		err_nomem(e, sizeof *m, "alarms");
	else if (!(m->live = view_live_new(e))) {
		free(m);
		m = NULL;
	}
	return m;
}

void view_alarm_memory_forget(struct view_alarm_memory *m)
{
	forget(m);
	view_live_forget(m->live);
}

void view_alarm_memory_free(struct view_alarm_memory *m)
{
	if (!m)
		return;
	forget(m);
	view_live_free(m->live);
	free(m);
}

/* Run, load and notes, as far as they are known already. */
static int remember(struct scene *s, struct moe_err *e)
{
	struct view_alarm_memory *m = s->memory;
	const struct load_filter *f = s->f;
	const struct domain_info *d;
	const struct run_info *u;
	struct note *notes = NULL, *all;
	size_t n;

	if (view_live_run(m->live, s->r, f->run, .0005, &u, &d, &n, e))
		return -1;
	*s->run = *u;
	if (m->run != u->id || m->f.domain != f->domain || m->f.phase != f->phase ||
	    m->f.bucket0 != f->bucket0 || m->f.bucket1 != f->bucket1)
		forget(m);
	m->run = u->id;
	m->f = *f;
	if (view_live_load(m->live, s->r, f, &s->load, e) ||
	    reader_notes(s->r, u->id, m->n_notes ? m->notes[m->n_notes - 1].id : 0, &notes, &n, e))
		return -1;
	all = realloc(m->notes, (m->n_notes + n + 1) * sizeof *all);
	if (all) {
		m->notes = all;
		if (n)
			memcpy(all + m->n_notes, notes, n * sizeof *all);
		m->n_notes += n;
	}
	free(notes);
	s->notes = malloc((m->n_notes + 1) * sizeof *s->notes); /* select_notes() drops some */
	if (!all || !s->notes)
		return err_nomem(e, (m->n_notes + n) * sizeof *all, "notes");
	s->n_notes = m->n_notes;
	memcpy(s->notes, m->notes, m->n_notes * sizeof *s->notes);
	return 0;
}

/* Windows that still say what they said. */
static void recall_windows(struct scene *s)
{
	struct view_alarm_memory *m = s->memory;

	for (int i = 0; i < m->n_windows; i++)
		if (m->n_buckets == s->n_buckets || m->window[i].b < m->n_buckets)
			s->window[s->n_windows++] = m->window[i];
		else
			free(m->window[i].layer);
	for (int i = 0; i < s->n_windows; i++)
		s->window[i].used = 0;
	m->n_windows = 0;
}

/* After the rules: windows that were looked at, and since when alarms fire. */
static void keep(struct scene *s)
{
	struct view_alarm_memory *m = s->memory;

	for (int i = 0; i < s->n_windows; i++)
		if (s->window[i].used)
			m->window[m->n_windows++] = s->window[i];
		else
			free(s->window[i].layer);
	s->n_windows = 0;
	free(m->began);
	m->began = s->began;
	m->n_began = s->n_began;
	s->began = NULL;
	m->n_buckets = s->n_buckets;
}

/* The first tokens do not change once there are enough of them. */
static int scan_once(struct scene *s, uint64_t most, struct moe_err *e)
{
	struct view_alarm_memory *m = s->memory;

	if (!m || !m->scan_done) {
		if (scan(s, most, e))
			return -1;
		if (!m || s->scanned < most)
			return 0;
		if (!m->tenth)
			m->tenth = malloc((s->load.n + 1) * sizeof *m->tenth);
		if (!m->late)
			m->late = malloc((s->load.n + 1) * sizeof *m->late);
		if (!m->tenth || !m->late)
			return 0;
		memcpy(m->tenth, s->tenth, s->load.n * sizeof *m->tenth);
		memcpy(m->late, s->late, s->load.n * sizeof *m->late);
		m->scanned = s->scanned, m->same = s->same, m->scan_done = 1;
		return 0;
	}
	s->tenth = malloc((s->load.n + 1) * sizeof *s->tenth);
	s->late = malloc((s->load.n + 1) * sizeof *s->late);
	if (!s->tenth || !s->late)
		return err_nomem(e, s->load.n * sizeof *s->tenth, "drops by position");
	memcpy(s->tenth, m->tenth, s->load.n * sizeof *s->tenth);
	memcpy(s->late, m->late, s->load.n * sizeof *s->late);
	s->scanned = m->scanned, s->same = m->same;
	return 0;
}

static int scene_init(struct scene *s, struct reader *r, const struct load_filter *f,
	struct moe_err *e)
{
	uint64_t sorted[MOE_MAX_EXPERT];

	s->r = r;
	s->f = f;
	s->run = malloc(sizeof *s->run);
	if (!s->run)
		return err_nomem(e, sizeof *s->run, "a run");
	if (s->memory ? remember(s, e) : reader_run(r, f->run, s->run, e) ||
	    reader_load(r, f, &s->load, e) ||
	    reader_notes(r, s->run->id, 0, &s->notes, &s->n_notes, e))
		return -1;
	if (reader_n_buckets(r, s->run->id, &s->n_buckets, e))
		return -1;
	if (s->memory)
		recall_windows(s);
	s->balance = calloc(s->load.n + 1, sizeof *s->balance);
	if (!s->balance)
		return err_nomem(e, s->load.n * sizeof *s->balance, "the layers' balance");
	for (size_t i = 0; i < s->load.n; i++) {
		const struct layer_load *l = s->load.layer + i;

		metrics_balance(l->counts, l->n_expert, sorted, s->balance + i);
		s->tokens = l->tokens > s->tokens ? l->tokens : s->tokens;
	}
	select_notes(s);
	where(s);
	return 0;
}

static void scene_free(struct scene *s)
{
	for (int i = 0; i < s->n_windows; i++)
		free(s->window[i].layer);
	load_set_free(&s->load);
	free(s->balance);
	free(s->began);
	free(s->tenth);
	free(s->late);
	free(s->notes);
	free(s->run);
}

/* Apply one rule to one layer (or to the run, layer -1): 1 if it fires. */
static int apply(struct scene *s, const struct rule *rule, int layer, struct view_alarm *out)
{
	struct finding x = { .s = s, .layer = layer, .most = VIEW_ALARM, .out = out };

	memset(out, 0, sizeof *out);
	if ((layer >= 0 && !s->load.layer[layer].tokens) || !rule->measure(&x))
		return 0;
	if (x.value >= rule->alarm)
		out->severity = VIEW_ALARM, out->threshold = rule->alarm;
	else if (x.value >= rule->warning)
		out->severity = VIEW_WARNING, out->threshold = rule->warning;
	else if (x.value >= rule->note)
		out->severity = VIEW_NOTE, out->threshold = rule->note;
	else
		return 0; /* also where the value is NaN */
	if ((int)out->severity > x.most) {
		out->severity = (enum view_severity)x.most;
		out->threshold = isfinite(rule->warning) ? rule->warning : rule->alarm;
	}
	snprintf(out->kind, sizeof out->kind, "%s", rule->kind);
	out->layer = layer < 0 ? -1 : s->load.layer[layer].layer;
	out->value = x.value;
	rule->describe(&x);
	if (layer >= 0)
		out->since = since(s, rule, layer);
	return 1;
}

/* Worst first; then what exceeds its threshold most; then by layer. */
static int worse(const void *a, const void *b)
{
	const struct view_alarm *x = a, *y = b;
	double p = x->value / x->threshold, q = y->value / y->threshold;
	int kind = strcmp(x->kind, y->kind);

	if (x->severity != y->severity)
		return x->severity < y->severity ? 1 : -1;
	if (kind)
		return kind;
	if (p != q)
		return p < q ? 1 : -1;
	return (x->layer > y->layer) - (x->layer < y->layer);
}

static const size_t n_rules = sizeof rules / sizeof *rules;

/* The rules with the caller's thresholds. */
static void with_limits(const struct view_limits *l, struct rule *out)
{
	memcpy(out, rules, sizeof rules);
	for (size_t i = 0; l && i < l->n; i++)
		for (size_t k = 0; k < n_rules; k++)
			if (!strcmp(out[k].kind, l->limit[i].kind)) {
				double *at = l->limit[i].severity == VIEW_NOTE ? &out[k].note :
					l->limit[i].severity == VIEW_WARNING ? &out[k].warning : &out[k].alarm;

				*at = l->limit[i].value;
			}
}

/* mine: [n_rules]. */
static int judge(struct reader *r, const struct load_filter *f, const struct rule *mine, uint64_t most,
	struct view_alarm_memory *memory, struct view_alarms *out, struct moe_err *e)
{
	struct scene *s = calloc(1, sizeof *s);
	int status = -1;

	memset(out, 0, sizeof *out);
	if (!s)
		return err_nomem(e, sizeof *s, "alarms");
	s->memory = memory;
	if (scene_init(s, r, f, e))
		goto out;
	if (s->routing && s->tokens && scan_once(s, most ? most : SCAN, e))
		goto out;
	if (memory)
		s->began = malloc(n_rules * (s->load.n + 1) * sizeof *s->began);
	out->alarm = calloc(n_rules * (s->load.n + 1), sizeof *out->alarm);
	if (!out->alarm) {
		err_nomem(e, n_rules * (s->load.n + 1) * sizeof *out->alarm, "alarms");
		goto out;
	}
	for (size_t i = 0; i < n_rules; i++) {
		if (!mine[i].per_layer)
			out->n += (size_t)apply(s, mine + i, -1, out->alarm + out->n);
		else
			for (size_t l = 0; l < s->load.n; l++)
				out->n += (size_t)apply(s, mine + i, (int)l, out->alarm + out->n);
	}
	qsort(out->alarm, out->n, sizeof *out->alarm, worse);
	if (memory)
		keep(s);
	status = 0;
out:
	if (status)
		view_alarms_free(out);
	scene_free(s);
	free(s);
	return status;
}

int view_alarms_with(struct reader *r, const struct load_filter *f, const struct view_limits *limits,
	uint64_t most, struct view_alarms *out, struct moe_err *e)
{
	struct rule mine[sizeof rules / sizeof *rules];

	with_limits(limits, mine);
	return judge(r, f, mine, most, NULL, out, e);
}

int view_alarms_follow(struct reader *r, const struct load_filter *f, struct view_alarm_memory *m,
	struct view_alarms *out, struct moe_err *e)
{
	return judge(r, f, rules, 0, m, out, e);
}

int view_alarms(struct reader *r, const struct load_filter *f, struct view_alarms *out,
	struct moe_err *e)
{
	return view_alarms_with(r, f, NULL, 0, out, e);
}

/* ---- thresholds as text ---- */

static const char *const severity_name[] = { "note", "warning", "alarm" };

static int add_limit(struct view_limits *l, const char *kind, const char *severity, const char *value,
	const char *name, unsigned line, struct moe_err *e)
{
	struct view_limit x = { .severity = VIEW_NOTE }, *p;
	size_t k = 0, s = 0;
	char *end;

	while (k < n_rules && strcmp(rules[k].kind, kind))
		k++;
	while (s < 3 && strcmp(severity_name[s], severity))
		s++;
	if (k == n_rules)
		return err_set(e, MOE_ERR_INPUT, "%s, line %u: no rule '%.40s'; `check --list` names them", name,
			line, kind);
	if (s == 3)
		return err_set(e, MOE_ERR_INPUT, "%s, line %u: '%.40s' is not note, warning or alarm", name, line,
			severity);
	x.value = strcmp(value, "off") ? strtod(value, &end) : INFINITY;
	if (strcmp(value, "off") && (end == value || *end || isnan(x.value)))
		return err_set(e, MOE_ERR_INPUT, "%s, line %u: '%.40s' is neither a number nor off", name, line,
			value);
	x.severity = (enum view_severity)s;
	snprintf(x.kind, sizeof x.kind, "%s", kind);
	p = realloc(l->limit, (l->n + 1) * sizeof *p);
	if (!p)
		return err_nomem(e, (l->n + 1) * sizeof *p, "thresholds");
	l->limit = p;
	p[l->n++] = x;
	return 0;
}

int view_limits_parse(const char *text, const char *name, struct view_limits *out, struct moe_err *e)
{
	for (unsigned line = 1; *text; line++) {
		size_t len = strcspn(text, "\n"), used = len;
		char copy[256], *word[4] = { NULL }, *hash, *p;
		int n = 0;

		if (len >= sizeof copy)
			return err_set(e, MOE_ERR_INPUT, "%s, line %u: longer than %zu bytes", name, line,
				sizeof copy - 1);
		memcpy(copy, text, len);
		copy[len] = 0;
		text += used + (text[used] == '\n');
		hash = strchr(copy, '#');
		if (hash)
			*hash = 0;
		for (p = copy; n < 4; n++) {
			while (isspace((unsigned char)*p))
				*p++ = 0;
			if (!*p)
				break;
			word[n] = p;
			while (*p && !isspace((unsigned char)*p))
				p++;
		}
		if (!n)
			continue;
		if (n != 3)
			return err_set(e, MOE_ERR_INPUT, "%s, line %u: wanted are a rule, a severity and a value", name,
				line);
		if (add_limit(out, word[0], word[1], word[2], name, line, e))
			return -1;
	}
	return 0;
}

void view_limits_free(struct view_limits *l)
{
	free(l->limit);
	memset(l, 0, sizeof *l);
}

static const struct view_col rule_cols[] = {
	{ "kind", "rule", VIEW_TEXT, 0 }, { "per", "per", VIEW_TEXT, 0 },
	{ "note", "note", VIEW_REAL, 4 }, { "warning", "warning", VIEW_REAL, 4 },
	{ "alarm", "alarm", VIEW_REAL, 4 },
};

int view_rules_table(const struct view_limits *limits, struct view_table *out, struct moe_err *e)
{
	struct rule mine[sizeof rules / sizeof *rules];

	with_limits(limits, mine);
	view_table_init(out, rule_cols, sizeof rule_cols / sizeof *rule_cols);
	for (size_t i = 0; i < n_rules; i++) {
		struct view_cell *c = view_table_row(out, e);

		if (!c || view_set_text(c, mine[i].kind, e) ||
		    view_set_text(c + 1, mine[i].per_layer ? "layer" : "run", e)) {
			view_table_free(out);
			return -1;
		}
		view_set_real(c + 2, mine[i].note);
		view_set_real(c + 3, mine[i].warning);
		view_set_real(c + 4, mine[i].alarm);
	}
	return 0;
}

void view_alarms_free(struct view_alarms *v)
{
	free(v->alarm);
	memset(v, 0, sizeof *v);
}

/* ---- the table of `stat --alarms` ---- */

static const struct view_col cols[] = {
	{ "severity", "severity", VIEW_TEXT, 0 }, { "kind", "kind", VIEW_TEXT, 0 },
	{ "layer", "layer", VIEW_INT, 0 }, { "since", "since (UTC)", VIEW_TEXT, 0 },
	{ "value", "value", VIEW_REAL, 3 }, { "threshold", "threshold", VIEW_REAL, 3 },
	{ "text", "what", VIEW_TEXT, 0 }, { "sql", NULL, VIEW_TEXT, 0 },
};

int view_alarms_table(const struct view_alarms *v, struct view_table *out, struct moe_err *e)
{
	static const char *const severity[] = { "note", "warning", "alarm" };
	struct view_cell *c;
	char at[32];

	view_table_init(out, cols, sizeof cols / sizeof *cols);
	for (size_t i = 0; i < v->n; i++) {
		const struct view_alarm *a = v->alarm + i;
		time_t s = (time_t)(a->since / 1000000000);
		struct tm tm;

		c = view_table_row(out, e);
		if (!c)
			goto fail;
		if (a->layer >= 0)
			view_set_int(c + 2, a->layer);
		if (a->since && gmtime_r(&s, &tm) && strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm) &&
		    view_set_text(c + 3, at, e))
			goto fail;
		view_set_real(c + 4, a->value);
		view_set_real(c + 5, a->threshold);
		if (view_set_text(c, severity[a->severity], e) || view_set_text(c + 1, a->kind, e) ||
		    view_set_text(c + 6, a->text, e) || view_set_text(c + 7, a->sql, e))
			goto fail;
	}
	return 0;
fail:
	view_table_free(out);
	return -1;
}
