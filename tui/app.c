/*
 * app.c - the loop behind `moescope top`: keys, signals and new snapshots in, frames out.
 *
 * One thread draws; it sleeps until a key, a signal or a snapshot comes, or the second changes.
 */
#include "tui/tui.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "tui/draw.h"
#include "tui/feed.h"
#include "tui/panel.h"

#define TICK_NS INT64_C(500000000)

struct app {
	struct tui_state state;
	struct tui_feed *feed;
	struct tui_data *data;
	struct tui_alarms *alarms;
	struct tui_spec *spec;
	struct tui_snap *snap[TUI_N_PART];
	struct tui_grid grid;
	const struct tui_opt *opt;
	int stale; /* the selection changed; what is shown is still the old one */
	int over;  /* what tui_opt.beside said last */
	int64_t tick; /* monotonic time of the next one */
};

/* ---- signals: noted here, acted upon in the loop ---- */

static volatile sig_atomic_t ended_by, resized;
static int wake_pipe[2] = { -1, -1 };
static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT };
#define N_CAUGHT (sizeof caught / sizeof caught[0])
static struct sigaction before[N_CAUGHT];

static void on_signal(int sig)
{
	int saved = errno;
	ssize_t n;

	if (sig == SIGWINCH || sig == SIGCONT)
		resized = sig == SIGCONT ? 2 : resized ? resized : 1;
	else
		ended_by = sig;
	n = write(wake_pipe[1], "", 1);
	(void)n;
	errno = saved;
}

static int open_pipe(struct moe_err *e)
{
	if (pipe(wake_pipe))
		return err_errno(e, "making a pipe");
	for (int i = 0; i < 2; i++) {
		fcntl(wake_pipe[i], F_SETFL, O_NONBLOCK);
		fcntl(wake_pipe[i], F_SETFD, FD_CLOEXEC);
	}
	return 0;
}

static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	ended_by = resized = 0;
	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < N_CAUGHT; i++)
		sigaction(caught[i], &sa, &before[i]);
}

static void release_signals(void)
{
	for (size_t i = 0; i < N_CAUGHT; i++)
		sigaction(caught[i], &before[i], NULL);
}

/* ---- snapshots ---- */

static void free_data(struct app *a)
{
	if (a->data)
		tui_data_free(a->data);
	free(a->data);
	a->data = NULL;
}

static void free_alarms(struct app *a)
{
	if (a->alarms)
		tui_alarms_free(a->alarms);
	free(a->alarms);
	a->alarms = NULL;
}

static void free_spec(struct app *a)
{
	if (a->spec)
		tui_spec_free(a->spec);
	free(a->spec);
	a->spec = NULL;
}

/* The specialisation, if it is that of the run on the screen. */
static const struct tui_spec *fitting_spec(const struct app *a)
{
	return a->spec && a->data && a->spec->run == a->data->sum.run.id ? a->spec : NULL;
}

/* The alarms, if they are those of the selection on the screen. */
static const struct view_alarms *fitting_alarms(const struct app *a)
{
	return a->alarms && a->data && tui_same_want(&a->alarms->want, &a->data->want) ?
		&a->alarms->list : NULL;
}

static void judge(struct app *a)
{
	const struct tui_spec *sp = fitting_spec(a);
	const struct view_alarms *alarms = fitting_alarms(a);

	if (!alarms || view_verdict(&a->data->sum, &a->data->layers, alarms,
		sp ? &sp->spec : NULL, a->state.verdict, sizeof a->state.verdict))
		a->state.verdict[0] = 0;
}

/* While paused a screen keeps what it shows, but gets what it lacks. */
static void take_part(struct app *a, enum tui_part part)
{
	struct tui_query want = tui_asking(&(struct tui_ctx){ .s = &a->state }).key;
	struct tui_snap *s;

	want.run = a->data ? a->data->sum.run.id : 0;
	want = tui_query_for(part, &want);
	if (a->state.paused && a->snap[part] && tui_query_same(&a->snap[part]->key, &want))
		return;
	s = tui_feed_snap(a->feed, part);
	if (!s)
		return;
	tui_snap_free(a->snap[part]);
	a->snap[part] = s;
}

static void take(struct app *a)
{
	struct tui_data *d = NULL;
	struct tui_alarms *l;
	struct tui_spec *s;

	tui_feed_status(a->feed, a->state.message, sizeof a->state.message, &a->state.spec_busy);
	if (!a->state.paused || a->stale)
		d = tui_feed_data(a->feed);
	if (d) {
		free_data(a);
		a->data = d;
		a->stale = 0;
	}
	l = a->state.paused && fitting_alarms(a) ? NULL : tui_feed_alarms(a->feed);
	if (l) {
		free_alarms(a);
		a->alarms = l;
	}
	s = a->state.paused && fitting_spec(a) ? NULL : tui_feed_spec(a->feed);
	if (s) {
		free_spec(a);
		a->spec = s;
	}
	for (int i = 0; i < TUI_N_PART; i++)
		take_part(a, (enum tui_part)i);
	if (d || l || s)
		judge(a);
}

/* ---- one turn of the loop ---- */

static struct tui_ctx context(struct app *a)
{
	struct tui_ctx c = { .g = &a->grid, .s = &a->state, .d = a->data, .alarms = fitting_alarms(a),
		.spec = fitting_spec(a) };

	if (c.alarms && a->alarms->with_base)
		c.base_alarms = &a->alarms->base;
	for (int i = 0; i < TUI_N_PART; i++)
		c.snap[i] = a->snap[i];
	return c;
}

/* 0, or -1 without memory for the grid. */
static int frame(struct app *a)
{
	struct tui_ask ask;
	struct tui_ctx c;
	int w, h;

	tui_draw_size(&w, &h);
	if (w != a->grid.w || h != a->grid.h) {
		tui_grid_free(&a->grid);
		if (tui_grid_init(&a->grid, w, h, tui_draw_look()))
			return -1;
	}
	if (a->state.repaint)
		tui_draw_palette((enum tui_palette)a->state.palette, a->state.light);
	a->state.repaint = 0;
	a->state.now = clock_wall();
	c = context(a);
	tui_render(&c);
	ask = tui_asking(&c);
	tui_feed_ask(a->feed, &ask);
	tui_draw_put(&a->grid);
	return 0;
}

static void keys(struct app *a)
{
	struct tui_ctx c;
	int k;

	while (!a->state.quit && (k = tui_draw_key()) != TUI_KEY_NONE) {
		c = context(a);
		tui_draw_mouse(&a->state.mouse_x, &a->state.mouse_y);
		if (k == 12) /* ^L */
			tui_draw_again();
		else if (tui_key(&c, k)) {
			tui_feed_want(a->feed, &a->state.want);
			a->stale = 1;
		}
		if (a->state.again)
			tui_feed_again(a->feed);
		a->state.again = 0;
		if (a->state.save) {
			tui_save(&c, a->state.save, a->state.note, sizeof a->state.note);
			a->state.save = 0;
		}
	}
}

/* Twice a second: playing goes on, and is the inference beside us still there? */
static void tick(struct app *a)
{
	struct tui_ctx c = context(a);

	if ((!a->state.playing && !a->opt->beside) || clock_mono() < a->tick)
		return;
	a->tick = clock_mono() + TICK_NS;
	if (tui_tick(&c)) {
		tui_feed_want(a->feed, &a->state.want);
		a->stale = 1;
	}
	if (!a->opt->beside || a->over)
		return;
	a->over = a->opt->beside(a->opt->ctx);
	if (a->over > 0)
		snprintf(a->state.note, sizeof a->state.note, "the inference has finished; q leaves");
	if (a->over < 0)
		a->state.quit = 1;
}

/* Sleep until something happens; -1 when the terminal is gone. */
static int sleep_until(const struct app *a)
{
	int fast = a->state.playing || (a->opt->beside && !a->over);
	struct pollfd p[2] = { { STDIN_FILENO, POLLIN, 0 }, { wake_pipe[0], POLLIN, 0 } };
	int64_t now = clock_wall();
	char drain[64];

	if (poll(p, 2, (int)(1000 - now / 1000000 % 1000) / (fast ? 2 : 1) + fast) < 0)
		return errno == EINTR ? 0 : -1;
	while (read(wake_pipe[0], drain, sizeof drain) > 0)
		;
	return p[0].revents & (POLLHUP | POLLERR | POLLNVAL) ? -1 : 0;
}

static int loop(struct app *a, struct moe_err *e)
{
	while (!ended_by && !a->state.quit) {
		int again = resized == 2;

		resized = 0;
		take(a);
		if (frame(a))
			return err_nomem(e, sizeof(struct tui_cell) * TUI_MAX_W * TUI_MAX_H, "the screen");
		if (again)
			tui_draw_again();
		if (sleep_until(a))
			return SIGHUP;
		keys(a);
		tick(a);
	}
	return ended_by;
}

/* A file that cannot be read is refused before the screen is taken. */
static int probe(const char *path, struct moe_err *e)
{
	struct reader *r = reader_open(path, e);

	if (!r)
		return -1;
	reader_close(r);
	return 0;
}

int tui_run(const char *path, const struct tui_opt *opt, struct moe_err *e)
{
	struct app a = { .opt = opt, .state = { .path = path, .want = opt->want, .pos = -1,
		.base = opt->want.base, .base_path = opt->base_path, .palette = opt->palette,
		.light = opt->light, .repaint = 1 } };
	int rc = -1;

	if (open_pipe(e) || (!opt->wait && probe(path, e)) || tui_draw_open(!opt->no_mouse, e))
		goto out;
	catch_signals();
	a.feed = tui_feed_start(path, opt->base_path, opt->wait, opt->after, &opt->want, wake_pipe[1],
		e);
	if (a.feed)
		rc = loop(&a, e);
	tui_draw_close();
	tui_feed_stop(a.feed);
	release_signals();
out:
	tui_grid_free(&a.grid);
	free_data(&a);
	free_alarms(&a);
	free_spec(&a);
	for (int i = 0; i < TUI_N_PART; i++)
		tui_snap_free(a.snap[i]);
	if (!a.feed) { /* else a thread may still write to the pipe */
		close(wake_pipe[0]);
		close(wake_pipe[1]);
	}
	return rc;
}
