/*
 * bench_side.h - the sides that `moescope bench` compares, and their turns.
 *
 * All sides share one session and its buffers: two sessions differ by a few per cent because their
 * memory lies elsewhere. A side is what is hooked to the session in its turns: nothing, a trace, a
 * trace with an audit log. It is fed what the others are, at the same positions; each has a
 * database of its own, whose writer works in the turns of its side only. So all that happens in a
 * turn is that side's cost.
 */
#ifndef CMD_BENCH_SIDE_H
#define CMD_BENCH_SIDE_H

#include "cmd/bench_limit.h"
#include "cmd/energy.h"
#include "cmd/load.h"
#include "cmd/record.h"

#define BENCH_SIDES 5
#define BENCH_PAIRS 1001

enum { PREFILL, DECODE, N_PHASE };

struct side {
	struct moe_trace *t; /* NULL = nothing is hooked */
	int detail;
	size_t than;         /* the side that it is compared with; itself = none */
	int same;            /* it does what that one does: how well a difference can be told */
	struct record rec;   /* of the audit log, if it has one */
	struct bench *bench;
	uint64_t seq, fed;   /* its open sequence, 0 = none; tokens given to the trace */
	size_t n_seq;        /* so many began */
};

struct took { double clock, cpu; }; /* seconds */

struct bench {
	const struct load_opts *lo;
	struct loaded l;
	struct session *s;
	struct side side[BENCH_SIDES];
	size_t n_side;
	long long pairs;
	int32_t *ids;
	size_t n_pre, n_dec, n_depth;
	struct { size_t part, turns; } plan[N_PHASE]; /* tokens of a turn; turns of a side in a round */
	double t[N_PHASE][BENCH_SIDES][BENCH_PAIRS];   /* seconds of a run */
	double cpu[N_PHASE][BENCH_SIDES][BENCH_PAIRS]; /* the same of processors */
	double start;          /* seconds from this command's begin to the first token */
	uint64_t peak;         /* bytes of memory after a prefill and a decode */
	double part[N_PHASE][SESSION_N_PART + 1]; /* seconds of one run, the last: what is in none */
	struct limits limit[N_PHASE][BENCH_PAIRS]; /* of a phase, behind each round */
	struct energy energy;  /* of the first side */
	char dir[64];          /* of the databases; nothing is left of it */
};

/* The names of enum moe_detail. */
extern const char *const bench_level[];

/* The session, and its first run without a log; tokens as asked for, at most what fits. */
int bench_open(struct bench *b, const char *model, size_t n_pre, size_t n_dec, size_t n_depth,
	struct moe_err *e);
/* The sides: one that does not log and one for each of the levels first .. last, or, with audit,
 * one that logs and one that keeps an audit log as well for each level. With a second one of the
 * first kind. */
int bench_add_sides(struct bench *b, int first, int last, int audit, struct moe_err *e);
/* All rounds; t and cpu. */
int bench_run(struct bench *b, struct moe_err *e);
/* Runs apart from those that are compared: to look at the clock takes time. */
int bench_parts(struct bench *b, struct moe_err *e);
/* A bench that was zeroed, however far it came. */
void bench_close(struct bench *b);

#endif
