/*
 * course.c - balance over time: the load of each layer in equal windows of the run.
 *
 * A window is a whole number of the run's buckets. One with fewer than COURSE_LEAST picks per
 * expert says nothing: its few picks are uneven by chance, so its figures are left out.
 */
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "view/table.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))
#define COURSE_LEAST 20

static const struct view_col cols[] = {
	VIEW_HEAD, { "window", NULL, VIEW_INT, 0 }, { "start_s", "from, s", VIEW_REAL, 1 },
	{ "seconds", "long, s", VIEW_REAL, 1 }, { "layer", "layer", VIEW_INT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "max_mean", "max/mean", VIEW_REAL, 3 },
	{ "gini", "Gini", VIEW_REAL, 4 }, { "entropy_norm", "entropy", VIEW_REAL, 4 },
};

static int window(struct reader *r, const struct load_filter *f, const char *domain,
	const struct run_info *u, int64_t nth, struct view_table *out, struct moe_err *e)
{
	struct view_layers l = { 0 };
	int status = -1;

	if (view_layers(r, f, &l, e))
		return -1;
	for (size_t i = 0; i < l.n; i++) {
		const struct view_layer *v = &l.layer[i];
		int enough = (double)v->tokens * v->k >= (double)COURSE_LEAST * v->n_expert;
		struct view_cell *c = v->tokens ? view_table_row(out, e) : NULL;

		if (!v->tokens)
			continue;
		if (!c || view_table_head(c, u->id, domain, f->phase, e))
			goto out;
		c += VIEW_N_HEAD;
		view_set_int(c, nth);
		view_set_real(c + 1, (double)f->bucket0 * (double)u->bucket_ns * 1e-9);
		view_set_real(c + 2, (double)(f->bucket1 - f->bucket0) * (double)u->bucket_ns * 1e-9);
		view_set_int(c + 3, v->layer);
		view_set_int(c + 4, (int64_t)v->tokens);
		view_set_real(c + 5, enough ? v->max_mean : NAN);
		view_set_real(c + 6, enough ? v->gini : NAN);
		view_set_real(c + 7, enough ? v->entropy_norm : NAN);
	}
	status = 0;
out:
	view_layers_free(&l);
	return status;
}

int view_course(struct reader *r, const struct load_filter *f, unsigned windows,
	struct view_table *out, struct moe_err *e)
{
	struct load_filter one = *f;
	struct run_info u;
	char name[64];
	const char *domain;
	int64_t n, width;

	view_table_init(out, cols, N_COLS(cols));
	if (reader_run(r, f->run, &u, e) || reader_n_buckets(r, u.id, &n, e))
		return -1;
	domain = view_domain_name(r, f, name, sizeof name);
	width = windows ? (n + windows - 1) / windows : 0;
	if (n < 2 || !width) {
		snprintf(out->why, sizeof out->why, "the run lasted less than two buckets of %.3g s",
			(double)u.bucket_ns * 1e-9);
		return 0;
	}
	for (int64_t b = 0; b < n; b += width) {
		one.bucket0 = b, one.bucket1 = b + width < n ? b + width : n;
		if (window(r, &one, domain, &u, b / width, out, e)) {
			view_table_free(out);
			return -1;
		}
	}
	return 0;
}
