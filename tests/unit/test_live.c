/*
 * test_live.c - what follows a live run by what changed says what reading everything says: load of
 * any selection while the writer goes on, speed, the run, one request, alarms with a memory.
 */
#include "view_made.h"

#include <time.h>

#include "base/clock.h"
#include "view/live.h"
#include "view/request.h"

static void pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* Until all that was made is committed. */
static void settle(struct reader *r)
{
	sqlite3_stmt *st;
	int64_t n = -1;

	for (int i = 0; i < 2000 && n != (int64_t)made.n; i++) {
		assert_int_equal(sqlite3_prepare_v2(reader_db(r), "SELECT total(n) FROM chunk", -1, &st,
			NULL), SQLITE_OK);
		assert_int_equal(sqlite3_step(st), SQLITE_ROW);
		n = sqlite3_column_int64(st, 0);
		sqlite3_finalize(st);
		if (n != (int64_t)made.n)
			pause_ms(5);
	}
	assert_int_equal(n, made.n);
}

static void same_load(const struct load_set *a, const struct load_set *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		const struct layer_load *x = &a->layer[i], *y = &b->layer[i];

		assert_int_equal(x->layer, y->layer);
		assert_int_equal(x->tokens, y->tokens);
		assert_int_equal(x->n_margin, y->n_margin);
		assert_int_equal(x->n_nan, y->n_nan);
		assert_memory_equal(x->counts, y->counts, x->n_expert * sizeof *x->counts);
		near(x->lse2, y->lse2, 1e-9 * (1 + fabs(y->lse2)));
		near(x->margin, y->margin, 1e-9 * (1 + y->margin));
		for (size_t k = 0; k < x->n_expert; k++) {
			near(x->weights[k], y->weights[k], 1e-9 * (1 + y->weights[k]));
			near(x->probs[k], y->probs[k], 1e-9 * (1 + y->probs[k]));
		}
	}
}

/* Follow with v what f selects; returns how many keys were read, -1 = everything. */
static int follow(struct view_live *v, struct reader *r, const struct load_filter *f)
{
	const struct domain_info *d;
	const struct run_info *u;
	struct load_set a, b;
	size_t n;

	OK(view_live_run(v, r, 1, 1, &u, &d, &n, &err));
	OK(view_live_load(v, r, f, &a, &err));
	OK(reader_load(r, f, &b, &err));
	same_load(&a, &b);
	load_set_free(&a);
	load_set_free(&b);
	return view_live_read(v);
}

static void test_follows(void **state)
{
	static const char *const name[] = { "a", "b", "c", NULL };
	struct load_filter f[] = { { .run = 1, .domain = -1, .phase = -1 },
		{ .run = 1, .domain = 1, .phase = -1 }, { .run = 1, .domain = -1, .phase = MOE_DECODE },
		{ .run = 1, .domain = 0, .phase = MOE_PREFILL }, { .run = 1, .domain = -1, .phase = -1 },
		{ .run = 1, .domain = 2, .phase = -1, .bucket0 = 1, .bucket1 = 3 } };
	enum { N = sizeof f / sizeof *f, WINDOW = 4 };
	struct view_live *v[N];
	int few = 0, all_read = 0;
	struct reader *r;
	int64_t n;

	(void)state;
	made_bucket_ms = 40;
	begin(MOE_DETAIL_FULL, 5);
	made.nan_layer = 1;
	doc("a", 10, 2, even);
	r = open_db();
	settle(r);
	for (int i = 0; i < N; i++)
		assert_non_null(v[i] = view_live_new(&err));
	for (int step = 0; step < 60; step++) {
		if (step % 3) /* sometimes nothing happens, sometimes for several buckets */
			doc(name[step % 4], 20 + 7 * (uint32_t)(step % 9), (uint32_t)step % 5, even);
		settle(r);
		OK(reader_n_buckets(r, 1, &n, &err));
		f[WINDOW].bucket0 = n > 5 ? n - 5 : 0; /* moves on; its end is open */
		f[WINDOW].bucket1 = n + 1;
		for (int i = 0; i < N; i++) {
			int got = follow(v[i], r, &f[i]);

			few += got >= 0;
			all_read += got < 0;
			assert_true(step % 3 || i == WINDOW || step < 2 || got <= 0);
		}
		pause_ms(step % 7 == 6 ? 130 : 8);
	}
	/* most of the time only what chunks touched was read */
	assert_true(few > 5 * all_read);

	/* A chunk that comes late, into a bucket that is long over. */
	edit("BEGIN; INSERT INTO chunk(run, sequence, pos, n, phase, time, codec) SELECT 1, sequence, "
		"900, 3, phase, (SELECT started FROM run), codec FROM chunk WHERE phase = 0 ORDER BY id "
		"LIMIT 1; UPDATE load SET tokens = tokens + 3 WHERE run = 1 AND bucket = 0 AND phase = 0; "
		"COMMIT");
	made.n += 3;
	for (int i = 0; i < N - 1; i++)
		assert_true(follow(v[i], r, &f[i]) == -1 || i == WINDOW || i == 2 || i == 3);
	made.n -= 3;
	for (int i = 0; i < N; i++)
		follow(v[i], r, &f[i]);
	edit("DELETE FROM chunk WHERE pos = 900");
	end();
	for (int i = 0; i < N; i++) { /* a finished run is read as a whole */
		assert_int_equal(follow(v[i], r, &f[i]), -1);
		view_live_free(v[i]);
	}
	reader_close(r);
	made_bucket_ms = 0;
}

/* Without chunks (detail counts) nothing says what changed. */
static void test_counts_only(void **state)
{
	struct view_live *v = view_live_new(&err);
	struct reader *r;

	(void)state;
	begin(MOE_DETAIL_COUNTS, 6);
	doc("a", 100, 2, even);
	end();
	r = open_db();
	assert_int_equal(follow(v, r, &all), -1);
	reader_close(r);
	begin_in(MOE_DETAIL_COUNTS, 7);
	doc("a", 100, 2, even);
	pause_ms(100);
	r = open_db();
	view_live_forget(v);
	assert_int_equal(follow(v, r, &(struct load_filter){ .run = 2, .domain = -1, .phase = -1 }),
		-1);
	reader_close(r);
	end();
	view_live_free(v);
}

static void test_summary_follows(void **state)
{
	struct view_live *v = view_live_new(&err);
	const struct domain_info *d;
	const struct run_info *u;
	struct view_summary a, b;
	struct load_set load;
	struct reader *r;
	size_t n;

	(void)state;
	made_bucket_ms = 10;
	begin(MOE_DETAIL_ROUTES, 8);
	doc("a", 64, 3, even);
	r = open_db();
	for (int step = 0; step < 40; step++) {
		doc(step % 2 ? "a" : "b", 64, 3, even);
		settle(r);
		pause_ms(15);
		OK(view_live_run(v, r, 0, 1, &u, &d, &n, &err));
		OK(view_live_load(v, r, &all, &load, &err));
		OK(view_live_summary(v, r, &all, &load, &a, &err));
		OK(view_summary(r, &all, &b, &err));
		load_set_free(&load);
		assert_int_equal(a.tokens, b.tokens);
		assert_int_equal(a.decisions, b.decisions);
		assert_int_equal(a.run.n_seq, b.run.n_seq);
		assert_int_equal(a.n_domain, b.n_domain);
		near(a.prefill_tps, b.prefill_tps, 1e-6 * b.prefill_tps);
		near(a.decode_tps, b.decode_tps, 1e-6 * b.decode_tps);
		near(a.bpb, b.bpb, 1e-9);
	}
	end();
	/* no time to look again, but the state is said */
	OK(view_live_run(v, r, 0, 0, &u, &d, &n, &err));
	assert_string_equal(u->state, "done");
	reader_close(r);
	view_live_free(v);
	made_bucket_ms = 0;
}

/* One request's load against the count kept here. */
static void test_request(void **state)
{
	struct view_request q;
	struct run_info *u = malloc(sizeof *u);
	struct load_set s;
	struct load_filter f = all;
	struct reader *r;
	int64_t id;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 9);
	doc("a", 100, 5, even);
	made.nan_layer = 0;
	doc("b", 300, 40, collapsed);
	made.nan_layer = -1;
	doc("a", 30, 0, even);
	end();
	r = open_db();
	OK(reader_run(r, 1, u, &err));
	assert_int_equal(view_request_find(r, &f, 0, &q, &err), 1); /* the newest */
	assert_int_equal(q.seq, 3);
	assert_int_equal(q.after, 0);
	assert_int_equal(q.n_seq, 3);
	f.domain = q.domain_id; /* its neighbour in its own domain is the first */
	assert_int_equal(view_request_find(r, &f, 0, &q, &err), 1);
	assert_int_equal(q.n_seq, 2);
	assert_int_equal(view_request_find(r, &all, q.before, &q, &err), 1);
	assert_int_equal(q.seq, 1);
	assert_int_equal(view_request_number(r, 1, 2, &id, &err), 1);
	assert_int_equal(view_request_number(r, 1, 77, &id, &err), 0);
	assert_int_equal(view_request_number(r, 1, 2, &id, &err), 1);
	for (int phase = -1; phase <= MOE_DECODE; phase++) {
		f = (struct load_filter){ .run = 1, .domain = -1, .phase = phase };
		assert_int_equal(view_request_find(r, &f, id, &q, &err), 1);
		OK(view_request_load(r, u, &f, &q, &s, &err));
		for (int l = 0; l < L; l++) {
			uint64_t count[E] = { 0 }, tokens = 0, nan = 0;
			double weight[E] = { 0 };

			for (size_t i = 0; i < made.n; i++) {
				if (made.tok[i].seq != 2 || (phase >= 0 && made.tok[i].phase != phase))
					continue;
				tokens++;
				nan += (uint64_t)made.tok[i].nan[l];
				for (int k = 0; k < K; k++) {
					count[made.tok[i].pick[l][k]]++;
					weight[made.tok[i].pick[l][k]] += made.tok[i].nan[l] ? 0 : k ? .25 : .75;
				}
			}
			assert_int_equal(tokens, phase < 0 ? 340 : phase == MOE_PREFILL ? 300 : 40);
			assert_int_equal(s.layer[l].tokens, tokens);
			assert_int_equal(s.layer[l].n_nan, nan);
			assert_int_equal(s.layer[l].n_margin, tokens - nan);
			assert_memory_equal(s.layer[l].counts, count, sizeof count);
			for (int k = 0; k < E; k++)
				near(s.layer[l].weights[k], weight[k], 1e-9);
		}
		load_set_free(&s);
	}
	reader_close(r);
	free(u);
}

static const struct view_alarm *find(const struct view_alarms *a, const struct view_alarm *x)
{
	for (size_t i = 0; i < a->n; i++)
		if (!strcmp(a->alarm[i].kind, x->kind) && a->alarm[i].layer == x->layer)
			return &a->alarm[i];
	return NULL;
}

/* With a memory the same rules fire, for the same reasons and since the same bucket. */
static void test_alarms_follow(void **state)
{
	struct view_alarm_memory *m = view_alarm_memory_new(&err);
	struct view_alarms a, b;
	struct reader *r;
	int64_t collapse = 0; /* when it began */
	size_t fired = 0;

	(void)state;
	made_bucket_ms = 40;
	begin(MOE_DETAIL_ROUTES, 10);
	doc("a", 64, 3, even);
	r = open_db();
	for (int step = 0; step < 40; step++) {
		collapse = step == 12 ? clock_mono() : collapse;
		doc(step % 2 ? "a" : "b", 300, 3, step < 12 ? even : collapsed);
		settle(r);
		OK(view_alarms_follow(r, &all, m, &a, &err));
		OK(view_alarms(r, &all, &b, &err));
		for (size_t i = 0; i < b.n; i++) {
			const struct view_alarm *x = &b.alarm[i], *y = find(&a, x);

			if (!strcmp(x->kind, "rising") || !strcmp(x->kind, "information"))
				continue; /* a trend may lag by a bucket */
			assert_non_null(y);
			assert_int_equal(x->severity, y->severity);
			near(x->value, y->value, 1e-9);
			assert_string_equal(x->text, y->text);
			fired += !strcmp(x->kind, "collapse");
		}
		view_alarms_free(&a);
		view_alarms_free(&b);
		pause_ms(10);
	}
	assert_true(fired > 5);
	end();
	OK(view_alarms_follow(r, &all, m, &a, &err));
	OK(view_alarms(r, &all, &b, &err));
	/* The search for a spell's begin takes in what came before it as long as the whole still shows
	 * it: how much depends on when it looked. */
	for (size_t i = 0; i < b.n; i++)
		if (!strcmp(b.alarm[i].kind, "collapse"))
			assert_true(llabs(find(&a, &b.alarm[i])->since - b.alarm[i].since) <=
				(clock_mono() - collapse) / 2 + 2 * 40000000);
	view_alarms_free(&a);
	view_alarms_free(&b);
	view_alarm_memory_free(m);
	reader_close(r);
	made_bucket_ms = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_follows),
		cmocka_unit_test(test_counts_only),
		cmocka_unit_test(test_summary_follows),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_alarms_follow),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
