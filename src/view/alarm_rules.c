/*
 * alarm_rules.c - the rules that can raise an alarm: when each fires and what it says.
 *
 * A rule is two functions over a finding and a row of the table at the end. An alarm is raised on
 * evidence only: a rule about load stays silent where uniform routing of that many tokens could
 * have done the same (CHANCE). What a rule looks at is in the scene; it reads nothing itself.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "metrics/capacity.h"
#include "view/alarm.h"

#define CHANCE 1e-3 /* likelier than this under uniform routing: no evidence */
#define FEW 0.1     /* "few experts": this part of a layer's, but at least k */
#define MOST 0.5    /* "most": a collapse is an alarm where few experts take so much of the picks */

/* ---- words ---- */

static void say(struct alarm_finding *x, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void say(struct alarm_finding *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->out->text, sizeof x->out->text, fmt, ap);
	va_end(ap);
}

static void sql(struct alarm_finding *x, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void sql(struct alarm_finding *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->out->sql, sizeof x->out->sql, fmt, ap);
	va_end(ap);
}

/* Picks by expert: from single decisions where the run keeps them and all times are selected, else
 * unpacked from the counts in `load` (u64, little-endian: the hexadecimal digits are added up with
 * their weights). */
static void sql_picks(struct alarm_finding *x, const char *order)
{
	const struct alarm_scene *s = x->s;
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

static int collapse(struct alarm_finding *x)
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
static void say_collapse(struct alarm_finding *x)
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
	say(x, "layer %u: %s take%s %.0f %% of picks (fair share %.1f %%), the busiest %u of %u "
		"experts %.0f %%; with capacity factor %.2f at least %.0f %% of picks would be dropped",
		l->layer, names, n == 1 ? "s" : "", 100 * share, 100.0 * n / l->n_expert, few, l->n_expert,
		100 * most, ALARM_CAPACITY, 100 * metrics_dropped(l->counts, l->n_expert, l->tokens, l->k,
		ALARM_CAPACITY));
	sql_picks(x, "DESC");
}

static double again_max_mean(const struct alarm_figures *w)
{
	return w->max_mean;
}

static int dead(struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;

	x->value = x->s->balance[x->layer].dead;
	if (l->n_expert * metrics_dead_chance(l->tokens, l->n_expert, l->k) > CHANCE)
		return 0;
	if (x->s->f->domain >= 0)
		x->most = VIEW_NOTE; /* experts of other domains are not dead */
	return 1;
}

static void say_dead(struct alarm_finding *x)
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

/* Picks of the most picked expert among the cold ones. */
static uint64_t cold_most(const struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	double mean = (double)x->s->balance[x->layer].picks / l->n_expert;
	uint64_t most = 0;

	for (unsigned e = 0; e < l->n_expert; e++)
		if ((double)l->counts[e] / mean < METRICS_COLD && l->counts[e] > most)
			most = l->counts[e];
	return most;
}

/* The most picked of the cold ones must itself be improbable. */
static double cold_chance(const struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;

	return metrics_load_chance(cold_most(x), l->tokens, l->n_expert, l->k, -1);
}

static int cold(struct alarm_finding *x)
{
	const struct metrics_balance *b = x->s->balance + x->layer;

	x->value = (double)b->n_cold - b->n_dead;
	return cold_chance(x) <= CHANCE;
}

static void say_cold(struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	char p[40];

	chance_words(cold_chance(x), p, sizeof p);
	say(x, "layer %u: %.0f of %u experts take less than a tenth of their fair share (by chance: "
		"%s)", l->layer, x->value, l->n_expert, p);
	sql_picks(x, "ASC");
}

static int nan_seen(struct alarm_finding *x)
{
	x->value = (double)x->s->load.layer[x->layer].n_nan;
	return 1;
}

static void say_nan(struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;

	say(x, "layer %u: the router's logits held a NaN for %" PRIu64 " of %" PRIu64 " tokens; their "
		"experts are not a choice", l->layer, l->n_nan, l->tokens);
	sql(x, "SELECT datetime((started+bucket*bucket_ns)/1000000000,'unixepoch') AS since, "
		"sum(n_nan) AS n_nan, sum(tokens) AS tokens FROM load JOIN run ON run.id=load.run WHERE "
		"run=%lld AND layer=%u%s GROUP BY bucket HAVING sum(n_nan)>0", (long long)x->s->run->id,
		l->layer, x->s->where);
}

static double again_nan(const struct alarm_figures *w)
{
	return (double)w->n_nan;
}

/* ---- rules about the run ---- */

/* Notes of a kind: how many, the sum of their values, the time of the first. */
static size_t notes_of(const struct alarm_scene *s, const char *kind, double *sum, int64_t *since)
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

static void sql_notes(struct alarm_finding *x, const char *kind)
{
	sql(x, "SELECT datetime(time/1000000000,'unixepoch') AS at, sequence, pos, value, text FROM "
		"event WHERE run=%lld AND kind='%s' ORDER BY id", (long long)x->s->run->id, kind);
}

static void sql_run(struct alarm_finding *x)
{
	sql(x, "SELECT id, state, pid, datetime(started/1000000000,'unixepoch') AS started, "
		"datetime(heartbeat/1000000000,'unixepoch') AS heartbeat, lag_ns FROM run WHERE id=%lld",
		(long long)x->s->run->id);
}

/* Value: lost tokens as a share of all that were there. */
static int gap(struct alarm_finding *x)
{
	double lost;
	size_t n = notes_of(x->s, "gap", &lost, &x->out->since);

	lost = lost > 0 ? lost : (double)n; /* a gap of unknown size is one token at least */
	x->value = n ? lost / (lost + (double)x->s->tokens) : 0;
	return 1;
}

static void say_gap(struct alarm_finding *x)
{
	double lost;
	size_t n = notes_of(x->s, "gap", &lost, &x->out->since);

	say(x, "%zu gap%s in the log: %.0f token%s of decisions lost (%.2g %%)", n, n == 1 ? "" : "s",
		lost, lost == 1 ? "" : "s", 100 * x->value);
	sql_notes(x, "gap");
}

static int recovery(struct alarm_finding *x)
{
	double sum;

	x->value = (double)notes_of(x->s, "recovery", &sum, &x->out->since);
	return 1;
}

static void say_recovery(struct alarm_finding *x)
{
	say(x, "the log was recovered after a crash %.0f time%s; the last decisions before it may be "
		"missing", x->value, x->value == 1 ? "" : "s");
	sql_notes(x, "recovery");
}

static int failed(struct alarm_finding *x)
{
	x->value = !strcmp(x->s->run->state, "failed");
	return 1;
}

static void say_failed(struct alarm_finding *x)
{
	const struct run_info *u = x->s->run;

	say(x, "run %lld ended with an error; what was committed before it is complete",
		(long long)u->id);
	x->out->since = u->ended ? u->ended : u->heartbeat;
	sql_run(x);
}

/* Value: seconds without a heartbeat. */
static int stopped(struct alarm_finding *x)
{
	const struct run_info *u = x->s->run;

	x->value = ((double)clock_wall() - (double)u->heartbeat) / 1e9;
	return !strcmp(u->state, "live") && !u->alive;
}

static void say_stopped(struct alarm_finding *x)
{
	const struct run_info *u = x->s->run;

	say(x, "run %lld was never closed and its writer has been silent for %.0f s: it crashed or was "
		"killed", (long long)u->id, x->value);
	x->out->since = u->heartbeat;
	sql_run(x);
}

/* Value: ms between a decision and its commit. */
static int lag(struct alarm_finding *x)
{
	x->value = (double)x->s->run->lag_ns / 1e6;
	return x->s->run->alive;
}

static void say_lag(struct alarm_finding *x)
{
	say(x, "the log is %.1f s behind the engine", x->value / 1e3);
	x->out->since = x->s->run->heartbeat; /* of the commit that was late */
	sql_run(x);
}

/* ---- trends: the first third of the time against the last ---- */

/* Could the last third's busiest expert have been the busiest of the first, by chance? Both thirds'
 * loads are what they are; what is asked is whether a top of the first third's height reaches the
 * last one's: E exp(-T KL). */
static int rising(struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct alarm_figures *a = alarm_third(x->s, 0, x->layer),
		*b = alarm_third(x->s, 1, x->layer);
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

static void say_rising(struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct alarm_figures *a = alarm_third(x->s, 0, x->layer),
		*b = alarm_third(x->s, 1, x->layer);

	say(x, "layer %u: MaxVio rose from %.2f in the first third of the time to %.2f in the last "
		"(busiest: E%u, then E%u)", l->layer, a->max_mean - 1, b->max_mean - 1, a->busiest,
		b->busiest);
	sql(x, "WITH n(i) AS (VALUES(0) UNION ALL SELECT i+1 FROM n WHERE i<%u) SELECT bucket, "
		"max(p)*%u.0/sum(p)-1 AS max_vio FROM (SELECT bucket, i/16 AS e, sum(instr("
		"'123456789ABCDEF',substr(hex(counts),i+1,1))<<(i%%16/2*8+4-i%%2*4)) AS p FROM load,n "
		"WHERE run=%lld AND layer=%u%s GROUP BY 1,2) GROUP BY 1", 16u * l->n_expert - 1,
		l->n_expert, (long long)x->s->run->id, l->layer, x->s->where);
}

static int information(struct alarm_finding *x)
{
	const struct alarm_figures *a = alarm_third(x->s, 0, x->layer),
		*b = alarm_third(x->s, 1, x->layer);

	if (!a || !b || !(a->mi > .05))
		return 0; /* also without scores */
	x->value = 1 - b->mi / a->mi;
	return 1;
}

static void say_information(struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	const struct alarm_figures *a = alarm_third(x->s, 0, x->layer),
		*b = alarm_third(x->s, 1, x->layer);

	say(x, "layer %u: what a token says about its expert fell from %.2f bits in the first third of "
		"the time to %.2f in the last", l->layer, a->mi, b->mi);
	sql(x, "SELECT bucket, sum(entropy)/sum(tokens) AS token_entropy_nats, "
		"sum(confidence)/sum(tokens) AS confidence FROM load WHERE run=%lld AND layer=%u%s GROUP "
		"BY 1", (long long)x->s->run->id, l->layer, x->s->where);
}

/* ---- rules about single decisions: the first tokens of the log ---- */

/* Of what the last tenths drop, under uniform routing. */
static double late_chance(const struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;

	return metrics_late_chance(x->s->tenth[x->layer][1], x->s->late[x->layer], ALARM_BATCH,
		l->n_expert, l->k, ALARM_CAPACITY);
}

static int tail(struct alarm_finding *x)
{
	const struct alarm_scene *s = x->s;

	if (s->scanned < ALARM_BATCH)
		return 0;
	x->value = s->tenth[x->layer][1] - s->tenth[x->layer][0];
	return late_chance(x) <= CHANCE;
}

static void say_tail(struct alarm_finding *x)
{
	const struct layer_load *l = x->s->load.layer + x->layer;
	char p[40];

	chance_words(late_chance(x), p, sizeof p);
	say(x, "layer %u: a capacity factor of %.2f drops %.0f %% of the picks in the last tenth of a "
		"batch of %d tokens, %.0f %% in the first (by chance: %s)", l->layer, ALARM_CAPACITY,
		100 * x->s->tenth[x->layer][1], ALARM_BATCH, 100 * x->s->tenth[x->layer][0], p);
	sql(x, "WITH d AS (SELECT rank, expert, dense_rank() OVER (ORDER BY seq,pos)-1 AS i FROM "
		"routing WHERE run=%lld AND layer=%u%s), q AS (SELECT i%%%d*10/%d AS tenth, row_number() "
		"OVER (PARTITION BY i/%d,expert ORDER BY i,rank)>%llu AS lost FROM d) SELECT tenth, "
		"avg(lost) AS dropped FROM q GROUP BY 1", (long long)x->s->run->id, l->layer, x->s->where,
		ALARM_BATCH, ALARM_BATCH, ALARM_BATCH,
		(unsigned long long)metrics_capacity(ALARM_BATCH, l->n_expert, l->k, ALARM_CAPACITY));
}

static int warmup(struct alarm_finding *x)
{
	x->value = (double)x->s->same;
	return x->s->scanned > 0;
}

static void say_warmup(struct alarm_finding *x)
{
	size_t k_row = 0;

	for (size_t l = 0; l < x->s->load.n; l++)
		k_row += x->s->load.layer[l].k;
	say(x, "the first %.0f rows of the log are alike, token id and all choices: warm-up or padding "
		"seems to be counted as content", x->value);
	x->out->since = x->s->run->started;
	sql(x, "SELECT seq, pos, token, group_concat(expert) AS experts FROM (SELECT seq, pos, token, "
		"expert FROM routing WHERE run=%lld%s ORDER BY seq, pos, layer, rank LIMIT %zu) GROUP BY "
		"1, 2", (long long)x->s->run->id, x->s->where, (size_t)(x->value + 8) * k_row);
}

/* ---- the table ---- */

/*
 * The rules. To add one, do this: write measure() and describe() above, add a row here and to
 * ALARM_RULES (view/alarm.h), a line in docs/METRICS.md and a case to tests/unit/test_view_alarm.c,
 * which runs the SQL of every alarm.
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
 * information: by how much of itself MI(token; expert) fell from the first third to the last.
 *   Router collapse shows here before it shows in the load.
 * tail: share of picks that a capacity of 1.25 drops in the last tenth of a batch less that in the
 *   first (batches of 512, first come first served). Some of that is in the rule itself: the last
 *   come find the experts full. A batch of one text reaches .2 to .65 with a balanced model (our
 *   sample), so a note from one half on, a warning from three quarters; never an alarm, since an
 *   engine without capacity drops nothing.
 * warmup: rows at the start of the log that repeat the first one: same token id, same experts in
 *   all layers. An engine's warm-up or padding was counted as content.
 * lag: the writer commits every 250 ms; seconds mean that it cannot keep up.
 */
const struct alarm_rule alarm_rules[] = {
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
