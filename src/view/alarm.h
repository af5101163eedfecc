/*
 * alarm.h - the inside of the alarms; what others call is in view/view.h.
 *
 * A call makes a scene of its selection (alarm_scene.c), puts every rule (alarm_rules.c) to every
 * layer of it, and judges what they measured (alarm.c). Rules ask the scene for load over windows
 * of time (alarm_since.c) and for what a pass over the first tokens found (alarm_scan.c).
 */
#ifndef VIEW_ALARM_H
#define VIEW_ALARM_H

#include "metrics/balance.h"
#include "view/view.h"

#define ALARM_CAPACITY 1.25 /* the factor that rules quote; the usual one in training */
enum {
	ALARM_RULES = 13,   /* rows of the table of rules */
	ALARM_WINDOWS = 64, /* sums over buckets that one call may ask for */
	ALARM_SCAN = 4096,  /* tokens read by rules about single decisions, unless more are asked for */
	ALARM_BATCH = 512,  /* tokens of a batch for the drop rate by position */
};

/* by enum view_severity, as thresholds and tables spell it */
extern const char *const alarm_severity[];

/* The figures of one layer over one window of buckets. */
struct alarm_figures {
	uint64_t tokens, n_nan, top; /* picks of the busiest expert */
	unsigned busiest;
	double max_mean, mi;         /* mi: token and expert, bits; NAN without scores */
};

struct alarm_window {
	int64_t a, b;                /* buckets a <= x < b */
	int scores;                  /* were the sums of scores read, too? */
	int used;                    /* by this call */
	struct alarm_figures *layer; /* [n_layer] */
};

struct alarm_rule;

/* When an alarm's present spell began. */
struct alarm_began { const struct alarm_rule *rule; int layer; int64_t bucket; };

/*
 * What a live screen keeps between two calls: load that follows the writer (view/live.h), the notes
 * and first tokens that were read, windows of time that are over, and since when alarms have fired,
 * so that a call reads what is new. A window that reaches to the end of the run is kept until
 * another bucket begins: a trend lags by at most that. Another filter forgets all.
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
	struct alarm_window window[ALARM_WINDOWS];
	int n_windows;
	struct alarm_began *began;
	size_t n_began;
};

struct alarm_scene {
	struct reader *r;
	const struct load_filter *f;
	struct view_alarm_memory *memory; /* or NULL */
	int64_t n_buckets;
	struct alarm_began *began;       /* of this call, for the memory */
	size_t n_began;
	struct run_info *run;
	struct load_set load;
	struct metrics_balance *balance; /* [load.n] */
	struct note *notes;              /* of the selected time */
	size_t n_notes;
	struct alarm_window window[ALARM_WINDOWS];
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

/* One candidate. `layer` is an index into alarm_scene.load, -1 for rules about the run. */
struct alarm_finding {
	const struct alarm_scene *s;
	int layer;
	double value;
	int most; /* highest severity that this evidence supports */
	struct view_alarm *out;
};

struct alarm_rule {
	const char *kind;
	double note, warning, alarm;             /* value from which on; INFINITY = never */
	int per_layer;
	int (*measure)(struct alarm_finding *);  /* sets value, may lower `most`; 0 = does not apply */
	void (*describe)(struct alarm_finding *); /* text, sql; also since, for rules about the run */
	double (*again)(const struct alarm_figures *); /* value over a window, NULL: since the start */
};
extern const struct alarm_rule alarm_rules[ALARM_RULES];
/* out: [ALARM_RULES], the rules with the caller's thresholds; l may be NULL. */
void alarm_with_limits(const struct view_limits *l, struct alarm_rule *out);

/* s: zeros but for the memory. The filter must outlive the scene.
 * Release it also after an error. */
int alarm_scene_init(struct alarm_scene *s, struct reader *r, const struct load_filter *f,
	struct moe_err *e);
void alarm_scene_free(struct alarm_scene *s);
/* After the rules, with a memory: windows that were looked at, and since when alarms fire. */
void alarm_keep(struct alarm_scene *s);
/* Read the first tokens of the selection, at most `most`; fills in scanned, same,
 * tenth and late. */
int alarm_scan(struct alarm_scene *s, uint64_t most, struct moe_err *e);

/* Start of the present spell of a rule that fires, in ns since 1970. */
int64_t alarm_since(struct alarm_scene *s, const struct alarm_rule *rule, int layer);
/* A layer's figures in the first or the last third of the time; NULL where there are too few tokens
 * or too few buckets for a trend. */
const struct alarm_figures *alarm_third(const struct alarm_scene *s, int last, int layer);
/* When a bucket begins. The numbers come from a file: what would overflow is the run's start. */
int64_t alarm_bucket_time(const struct run_info *u, int64_t bucket);

#endif
