/*
 * feed.c - see feed.h.
 *
 * Everything in struct tui_feed below `lock` is guarded by it, except the fields of a worker that
 * are marked as its own. A result is handed over by swapping a pointer.
 */
#include "tui/feed.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define MS INT64_C(1000000)
#define POLL_NS (500 * MS)       /* how often each thread looks whether something changed */
#define SPEC_MIN_NS (5000 * MS)  /* between two computations of the specialisation */
#define CREDIT_MOST (50.0 * MS)  /* CPU time that can be saved up */
#define SILENT_NS (6000 * MS)    /* without a commit: does the run still live? */
#define STOP_NS (300 * MS)       /* how long stopping waits for a computation */

struct worker {
	struct tui_feed *feed;
	pthread_t thread;
	void (*step)(struct worker *w, const struct tui_want *want);
	int started, done;
	sqlite3 *db;            /* to interrupt it; NULL while closed */
	int again;              /* forget that the last result is new enough */
	int64_t next;           /* monotonic time of its next step */
	/* its own: */
	struct reader *reader;
	dev_t dev;
	ino_t ino;
	struct tui_source source;
	int64_t version;        /* PRAGMA data_version of the last result, -1 = none */
	struct tui_want last;   /* selection of the last result */
	int64_t run, base, finished;
	int alive;              /* the run of the last result was being written */
	double credit;          /* ns of CPU time that it may spend, see pay() */
	int64_t credited, cpu;  /* when it last grew; clock at the begin of a step */
	struct tui_query key;   /* of the last snapshot of a part */
	int more;               /* that was only a first look at it */
};
enum { FIGURES, ALARMS, SPEC, PARTS, N_WORKER = PARTS + TUI_N_PART };

/* Share of one core that each may take for following a run, and whether the work is done by threads
 * of its own. Together with the drawing they stay below a hundredth: figures and alarms always
 * work, the specialisation rarely, and no screen asks for more than two parts. */
static const struct { double share; int threads; } budget[N_WORKER] = {
	[FIGURES] = { .004, 0 },
	[ALARMS] = { .001, 0 },
	[SPEC] = { .0008, 1 },
	[PARTS + TUI_TIMELINE] = { .0005, 0 },
	[PARTS + TUI_EXPERT] = { .001, 1 },
	[PARTS + TUI_STREAM] = { .0015, 0 },
	[PARTS + TUI_WHATIF] = { .0008, 1 },
};

struct tui_feed {
	const char *path, *base_path; /* base_path: see tui_source */
	int wait, wake_fd;
	int64_t after; /* no run up to this one is shown; of the figures' thread */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct tui_want want;
	int stop, busy;
	int64_t run; /* that the figures are of; 0 = none yet */
	int alive;   /* it is being written */
	int judged;  /* there were alarms to look at, or an error */
	struct tui_data *data;
	struct tui_alarms *alarms;
	struct tui_spec *spec;
	struct tui_snap *snap[TUI_N_PART];
	struct tui_ask ask;
	struct tui_query busy_key[TUI_N_PART]; /* being read; run 0 = none */
	char msg[512];
	struct worker worker[N_WORKER];
};

static void wake(struct tui_feed *f)
{
	ssize_t n = write(f->wake_fd, "", 1); /* a full pipe wakes as well */

	(void)n;
}

static void say(struct tui_feed *f, const char *msg)
{
	int changed;

	pthread_mutex_lock(&f->lock);
	changed = strcmp(f->msg, msg) != 0;
	snprintf(f->msg, sizeof f->msg, "%s", msg);
	pthread_mutex_unlock(&f->lock);
	if (changed)
		wake(f);
}

static void set_db(struct worker *w, sqlite3 *db)
{
	pthread_mutex_lock(&w->feed->lock);
	w->db = db;
	pthread_mutex_unlock(&w->feed->lock);
}

static void close_reader(struct worker *w)
{
	if (!w->reader)
		return;
	set_db(w, NULL);
	tui_source_forget(&w->source);
	reader_close(w->reader);
	w->reader = w->source.r = NULL;
	w->version = -1;
}

/* A reader on the file that is there now: it may not exist yet, or be replaced by a new one. */
static int open_reader(struct worker *w, struct moe_err *e)
{
	struct tui_feed *f = w->feed;
	struct stat st;

	if (stat(f->path, &st)) {
		close_reader(w);
		if (errno == ENOENT && f->wait)
			return err_set(e, MOE_ERR_INPUT, "waiting for %s to appear", f->path);
		return err_errno(e, "%s", f->path);
	}
	if (w->reader && (st.st_dev != w->dev || st.st_ino != w->ino))
		close_reader(w);
	if (w->reader)
		return 0;
	w->reader = w->source.r = reader_open(f->path, e);
	if (!w->reader)
		return -1;
	w->dev = st.st_dev;
	w->ino = st.st_ino;
	w->version = -1;
	set_db(w, reader_db(w->reader));
	return 0;
}

/* Changes when another connection has committed; costs no more than a look at shared memory. */
static int64_t data_version(struct reader *r)
{
	sqlite3_stmt *s = NULL;
	int64_t v = -2;

	if (sqlite3_prepare_v2(reader_db(r), "PRAGMA data_version", -1, &s, NULL) == SQLITE_OK &&
	    sqlite3_step(s) == SQLITE_ROW)
		v = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return v;
}

static int64_t cpu_clock(const struct worker *w)
{
	struct timespec t;

	clock_gettime(budget[w - w->feed->worker].threads ? CLOCK_PROCESS_CPUTIME_ID :
		CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The credit grows with time; a result that only follows the run is paid from it, one that the user
 * asked for is not. Without credit a worker waits. */
static int can_pay(struct worker *w)
{
	int64_t now = clock_mono();

	w->credit += budget[w - w->feed->worker].share * (double)(w->credited ? now - w->credited : 0);
	w->credit = w->credit > CREDIT_MOST ? CREDIT_MOST : w->credit;
	w->credited = now;
	return w->credit >= 0;
}

/* Is there something new to read? */
static int news(const struct worker *w, const struct tui_want *want, int64_t version)
{
	/* A window of a live run moves on even when nothing is written;
	 * one that falls silent is said. */
	return version != w->version || (w->alive && (want->window_ns ||
		clock_mono() - w->finished > SILENT_NS));
}

/* Begin a step if it is due; *follow = it is only because the database has changed. */
static int due(struct worker *w, const struct tui_want *want, int64_t version, int *follow)
{
	*follow = w->version >= 0 && tui_same_want(want, &w->last);
	if (*follow && !(news(w, want, version) && can_pay(w)))
		return 0;
	w->cpu = cpu_clock(w);
	return 1;
}

static void note_done(struct worker *w, const struct tui_want *want, int64_t version, int follow)
{
	if (follow)
		w->credit -= (double)(cpu_clock(w) - w->cpu);
	w->version = version;
	w->last = *want;
	w->finished = clock_mono();
}

/* Is there a run that may be shown? Looked for until the first one is. */
static int begun(struct worker *w)
{
	struct tui_feed *f = w->feed;
	sqlite3_stmt *s = NULL;
	int64_t newest = 0;

	if (!f->after)
		return 1;
	if (sqlite3_prepare_v2(reader_db(w->reader), "SELECT max(id) FROM run", -1, &s, NULL) ==
	    SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
		newest = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	if (newest <= f->after)
		return 0;
	f->after = 0;
	return 1;
}

static void step_figures(struct worker *w, const struct tui_want *want)
{
	struct tui_feed *f = w->feed;
	struct moe_err e = { 0 };
	struct tui_data *d, *old;
	int64_t version;
	int follow;

	if (open_reader(w, &e)) {
		say(f, e.msg);
		return;
	}
	version = data_version(w->reader);
	if (!begun(w)) {
		say(f, "waiting for the run to begin \xe2\x80\xa6");
		return;
	}
	if (!due(w, want, version, &follow))
		return;
	d = calloc(1, sizeof *d);
	if (!d || tui_data_load(&w->source, want, d, &e)) {
		free(d);
		say(f, d ? e.msg : "out of memory");
		w->version = -1;
		return;
	}
	w->alive = d->sum.run.alive;
	note_done(w, want, version, follow);
	pthread_mutex_lock(&f->lock);
	f->alive = w->alive;
	old = f->data;
	f->data = d;
	if (f->run != d->sum.run.id) /* the others wait for the first figures, or for a new run */
		for (int i = ALARMS; i < N_WORKER; i++)
			f->worker[i].next = 0;
	f->run = d->sum.run.id;
	f->msg[0] = 0;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
	if (old) {
		tui_data_free(old);
		free(old);
	}
	wake(f);
}

/* The run that the figures are of; 0 before the first. */
static int64_t shown_run(struct worker *w)
{
	struct tui_feed *f = w->feed;
	int64_t run;

	pthread_mutex_lock(&f->lock);
	run = f->run;
	w->alive = f->alive;
	pthread_mutex_unlock(&f->lock);
	return run;
}

static void step_alarms(struct worker *w, const struct tui_want *want)
{
	struct tui_feed *f = w->feed;
	struct moe_err e = { 0 };
	struct tui_alarms *a, *old;
	int64_t version;
	int follow, was = w->alive;

	if (!shown_run(w) || open_reader(w, &e))
		return; /* the figures' thread says why */
	version = data_version(w->reader);
	if (was != w->alive)
		w->version = -1; /* ended, or silent: that is an alarm */
	if (!due(w, want, version, &follow))
		return;
	a = calloc(1, sizeof *a);
	if (!a || tui_alarms_load(&w->source, want, a, &e)) {
		free(a);
		w->version = -1;
		pthread_mutex_lock(&f->lock);
		f->judged = 1;
		pthread_mutex_unlock(&f->lock);
		return;
	}
	note_done(w, want, version, follow);
	pthread_mutex_lock(&f->lock);
	old = f->alarms;
	f->alarms = a;
	if (!f->judged)
		f->worker[SPEC].next = 0;
	f->judged = 1;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
	if (old) {
		tui_alarms_free(old);
		free(old);
	}
	wake(f);
}

static void set_busy(struct tui_feed *f, int busy)
{
	pthread_mutex_lock(&f->lock);
	f->busy = busy;
	pthread_mutex_unlock(&f->lock);
}

/* The alarms come first: they take less, and are asked for sooner. */
static int judged(struct tui_feed *f)
{
	int done;

	pthread_mutex_lock(&f->lock);
	done = f->judged;
	pthread_mutex_unlock(&f->lock);
	return done;
}

static void step_spec(struct worker *w, const struct tui_want *want)
{
	struct tui_feed *f = w->feed;
	struct moe_err e = { 0 };
	struct tui_spec *s, *old;
	int64_t run, version;
	int follow;

	run = shown_run(w);
	if (!run || !judged(f) || open_reader(w, &e))
		return;
	version = data_version(w->reader);
	follow = w->version >= 0 && run == w->run && want->base == w->base;
	if (follow && (version == w->version || clock_mono() - w->finished < SPEC_MIN_NS ||
	    !can_pay(w)))
		return;
	s = calloc(1, sizeof *s);
	if (!s)
		return;
	set_busy(f, 1);
	w->cpu = cpu_clock(w);
	if (tui_spec_load(&w->source, run, want->base, s, &e)) {
		s->run = run;
		snprintf(s->spec.why, sizeof s->spec.why, "%.250s", e.msg);
	}
	note_done(w, want, version, follow);
	w->run = run;
	w->base = want->base;
	pthread_mutex_lock(&f->lock);
	f->busy = 0;
	old = f->spec;
	f->spec = s;
	pthread_mutex_unlock(&f->lock);
	if (old) {
		tui_spec_free(old);
		free(old);
	}
	wake(f);
}

/* What a screen asked for: again when it asks for another, or when the database has changed and the
 * budget allows it. */
static void step_part(struct worker *w, const struct tui_want *want)
{
	struct tui_feed *f = w->feed;
	enum tui_part part = (enum tui_part)(w - &f->worker[PARTS]);
	struct tui_snap *s, *old;
	struct moe_err e = { 0 };
	struct tui_ask ask;
	struct tui_query key;
	int64_t version;
	int follow;

	pthread_mutex_lock(&f->lock);
	ask = f->ask;
	ask.key.run = f->run;
	pthread_mutex_unlock(&f->lock);
	if (!ask.key.run || !(ask.parts & 1u << part) || open_reader(w, &e))
		return;
	key = tui_query_for(part, &ask.key);
	version = data_version(w->reader);
	follow = w->version >= 0 && tui_query_same(&key, &w->key);
	if (follow && !w->more && (version == w->version || !can_pay(w)))
		return;
	follow = follow && !w->more;
	w->cpu = cpu_clock(w);
	pthread_mutex_lock(&f->lock);
	f->busy_key[part] = key;
	pthread_mutex_unlock(&f->lock);
	s = tui_snap_load(&w->source, part, &ask.key, !w->more && !follow);
	pthread_mutex_lock(&f->lock);
	f->busy_key[part].run = 0;
	ask.key = f->ask.key;
	pthread_mutex_unlock(&f->lock);
	ask.key.run = key.run;
	ask.key = tui_query_for(part, &ask.key);
	if (!s || (s->error[0] && !tui_query_same(&key, &ask.key))) { /* interrupted */
		tui_snap_free(s);
		return;
	}
	note_done(w, want, version, follow);
	w->key = key;
	w->more = s->more;
	pthread_mutex_lock(&f->lock);
	old = f->snap[part];
	f->snap[part] = s;
	pthread_mutex_unlock(&f->lock);
	tui_snap_free(old);
	wake(f);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct tui_feed *f = w->feed;
	struct tui_want want;

	if (budget[w - f->worker].threads && nice(10) < 0) /* of this thread: the engine first */
		errno = 0;
	pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		if (clock_mono() < w->next) {
			struct timespec t = { w->next / 1000000000, w->next % 1000000000 };

			pthread_cond_timedwait(&f->cond, &f->lock, &t);
			continue;
		}
		want = f->want;
		if (w->again)
			w->version = -1;
		w->again = 0;
		w->next = INT64_MAX; /* a request that comes in meanwhile sets it to 0 */
		pthread_mutex_unlock(&f->lock);
		w->step(w, &want);
		pthread_mutex_lock(&f->lock);
		if (w->next)
			w->next = w->more ? 0 : w < &f->worker[PARTS] ||
				f->ask.parts & 1u << (w - &f->worker[PARTS]) ? clock_mono() + POLL_NS : INT64_MAX;
	}
	pthread_mutex_unlock(&f->lock);
	close_reader(w);
	tui_source_free(&w->source);
	pthread_mutex_lock(&f->lock);
	w->done = 1;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static int start(struct tui_feed *f, struct worker *w,
	void (*step)(struct worker *, const struct tui_want *), struct moe_err *e)
{
	sigset_t all, old;
	int rc;

	w->feed = f;
	w->step = step;
	w->version = -1;
	if (tui_source_init(&w->source, f->base_path, e))
		return -1;
	sigfillset(&all); /* signals are for the thread that draws */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rc = pthread_create(&w->thread, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	w->started = !rc;
	if (rc) {
		tui_source_free(&w->source);
		errno = rc;
		return err_errno(e, "starting a thread");
	}
	return 0;
}

struct tui_feed *tui_feed_start(const char *path, const char *base_path, int wait, int64_t after,
	const struct tui_want *want, int wake_fd, struct moe_err *e)
{
	struct tui_feed *f = calloc(1, sizeof *f);
	pthread_condattr_t a;

	if (!f) {
		err_nomem(e, sizeof *f, "the dashboard");
		return NULL;
	}
	f->path = path;
	f->base_path = base_path;
	f->wait = wait;
	f->after = after;
	f->wake_fd = wake_fd;
	f->want = *want;
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&f->cond, &a);
	pthread_condattr_destroy(&a);
	for (int i = 0; i < N_WORKER; i++)
		if (start(f, &f->worker[i], i == FIGURES ? step_figures : i == ALARMS ? step_alarms :
			i == SPEC ? step_spec : step_part, e)) {
			tui_feed_stop(f);
			return NULL;
		}
	return f;
}

/* 1 if the worker has ended and was joined. */
static int join(struct tui_feed *f, struct worker *w, int64_t until)
{
	int done;

	if (!w->started)
		return 1;
	pthread_mutex_lock(&f->lock);
	while (!w->done && clock_mono() < until) {
		struct timespec t = { until / 1000000000, until % 1000000000 };

		pthread_cond_timedwait(&f->cond, &f->lock, &t);
	}
	done = w->done;
	pthread_mutex_unlock(&f->lock);
	if (done)
		pthread_join(w->thread, NULL);
	else
		pthread_detach(w->thread);
	return done;
}

void tui_feed_stop(struct tui_feed *f)
{
	int64_t until = clock_mono() + STOP_NS;
	int all = 1;

	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = 1;
	for (int i = 0; i < N_WORKER; i++)
		if (f->worker[i].db)
			sqlite3_interrupt(f->worker[i].db);
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
	for (int i = 0; i < N_WORKER; i++)
		all &= join(f, &f->worker[i], until);
	if (!all)
		return; /* still in use by a thread that ends with the process */
	if (f->data)
		tui_data_free(f->data);
	if (f->alarms)
		tui_alarms_free(f->alarms);
	if (f->spec)
		tui_spec_free(f->spec);
	free(f->data);
	free(f->alarms);
	free(f->spec);
	for (int i = 0; i < TUI_N_PART; i++)
		tui_snap_free(f->snap[i]);
	pthread_cond_destroy(&f->cond);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void tui_feed_want(struct tui_feed *f, const struct tui_want *want)
{
	pthread_mutex_lock(&f->lock);
	f->want = *want;
	f->worker[FIGURES].next = f->worker[ALARMS].next = f->worker[SPEC].next = 0;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

void tui_feed_again(struct tui_feed *f)
{
	pthread_mutex_lock(&f->lock);
	for (int i = 0; i < N_WORKER; i++)
		f->worker[i].again = 1, f->worker[i].next = 0;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

void tui_feed_ask(struct tui_feed *f, const struct tui_ask *ask)
{
	int changed;

	pthread_mutex_lock(&f->lock);
	changed = f->ask.parts != ask->parts || !tui_query_same(&f->ask.key, &ask->key);
	f->ask = *ask;
	for (int i = 0; i < TUI_N_PART && changed; i++) {
		struct tui_query key = ask->key;

		if (!(ask->parts & 1u << i))
			continue;
		f->worker[PARTS + i].next = 0;
		key.run = f->busy_key[i].run;
		key = tui_query_for((enum tui_part)i, &key);
		if (key.run && !tui_query_same(&key, &f->busy_key[i]) && f->worker[PARTS + i].db)
			sqlite3_interrupt(f->worker[PARTS + i].db); /* nobody waits for that any more */
	}
	if (changed)
		pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

struct tui_snap *tui_feed_snap(struct tui_feed *f, enum tui_part part)
{
	struct tui_snap *s;

	pthread_mutex_lock(&f->lock);
	s = f->snap[part];
	f->snap[part] = NULL;
	pthread_mutex_unlock(&f->lock);
	return s;
}

struct tui_data *tui_feed_data(struct tui_feed *f)
{
	struct tui_data *d;

	pthread_mutex_lock(&f->lock);
	d = f->data;
	f->data = NULL;
	pthread_mutex_unlock(&f->lock);
	return d;
}

struct tui_alarms *tui_feed_alarms(struct tui_feed *f)
{
	struct tui_alarms *a;

	pthread_mutex_lock(&f->lock);
	a = f->alarms;
	f->alarms = NULL;
	pthread_mutex_unlock(&f->lock);
	return a;
}

struct tui_spec *tui_feed_spec(struct tui_feed *f)
{
	struct tui_spec *s;

	pthread_mutex_lock(&f->lock);
	s = f->spec;
	f->spec = NULL;
	pthread_mutex_unlock(&f->lock);
	return s;
}

void tui_feed_status(struct tui_feed *f, char *msg, size_t size, int *busy)
{
	pthread_mutex_lock(&f->lock);
	snprintf(msg, size, "%s", f->msg);
	*busy = f->busy;
	pthread_mutex_unlock(&f->lock);
}
