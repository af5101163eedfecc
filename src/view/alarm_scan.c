/*
 * alarm_scan.c - one pass over the first tokens of a log, for the rules about single decisions.
 *
 * It finds how many rows at the start repeat the first one, and what the first and the last tenth
 * of full batches lose to a capacity. The first tokens do not change once there are enough of them:
 * a memory keeps what was found.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "metrics/capacity.h"
#include "sim/capacity.h"
#include "view/alarm.h"
#include "view/walk.h"

struct pass {
	struct alarm_scene *s;
	struct sim_room *room; /* [workers] */
	int workers;
	struct pass_layer {
		uint64_t lost[2], of[2]; /* picks dropped, picks, of the first and the last tenth */
		uint64_t tokens, same;   /* rows from the start on that repeat the first: token id,
		                            choices */
		int32_t token;           /* of the first row */
		uint16_t *first;         /* [k] its choices */
		int more;                /* 1 while rows repeat it */
	} *layer; /* [load.n] */
};

static void drop_tenths(struct pass_layer *y, struct sim_room *room, const struct walk_layer *l)
{
	struct sim_batch b = { .n = l->n, .k = l->k, .n_expert = l->n_expert, .experts = l->experts };
	uint64_t cap = metrics_capacity(l->n, l->n_expert, l->k, ALARM_CAPACITY);

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
	if (l->of == ALARM_BATCH && l->n >= ALARM_BATCH / 2)
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
		if (sim_room_init(&p->room[i], ALARM_BATCH, (unsigned)k, n_expert, e))
			return -1;
	for (size_t i = 0; i < load->n; i++) {
		p->layer[i].more = 1;
		p->layer[i].first = calloc(load->layer[i].k, sizeof *p->layer[i].first);
		if (!p->layer[i].first)
			return err_nomem(e, load->layer[i].k * 2, "a token's choices");
	}
	return 0;
}

static int scan(struct alarm_scene *s, uint64_t most, struct moe_err *e)
{
	const struct walk_opt o = { .batch = ALARM_BATCH };
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

int alarm_scan(struct alarm_scene *s, uint64_t most, struct moe_err *e)
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
