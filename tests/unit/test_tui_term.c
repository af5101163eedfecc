/*
 * test_tui_term.c - `moescope top` on a real pseudo-terminal: it draws, follows the size, refuses
 * what cannot show it, and leaves the terminal as it was however it ends.
 *
 * Runs the program that MOESCOPE names; skipped where that is not set (tests/run sets it).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <moescope/trace.h>

#include "base/clock.h"
#include "base/rng.h"

static char dir[64], db[96], late[96];

/* ---- a database: 4 layers of 16 experts, two domains, a model name that attacks terminals ---- */

static void put_sequence(struct moe_hook *h, uint64_t seq, struct rng *r)
{
	enum { N = 64, K = 2, E = 16 };
	struct moe_seq_info info = { .seq = seq, .domain = seq % 2 ? "law" : "\033[2Jcode",
		.n_prompt = N };
	struct moe_seq_result res = { .seq = seq, .n_prompt = N };
	struct moe_batch_info batch = { .seq = seq, .n_tok = N, .busy_ns = 1000000 };
	uint64_t seqs[N];
	uint32_t pos[N];
	int32_t token[N];
	uint16_t experts[N * K];
	float weights[N * K], margin[N], logits[N * E] = { 0 };
	uint8_t flags[N] = { 0 };
	struct moe_err e;

	assert_int_equal(h->seq_begin(h->ctx, &info, &e), 0);
	for (uint16_t layer = 0; layer < 4; layer++) {
		struct moe_route_view v = { .layer = layer, .n_expert = E, .k = K, .n_tok = N,
			.seq = seqs, .pos = pos, .token = token, .experts = experts, .weights = weights,
			.margin = margin, .logits = logits, .flags = flags };

		for (uint32_t i = 0; i < N; i++) {
			seqs[i] = seq;
			pos[i] = i;
			token[i] = (int32_t)i;
			experts[i * K] = (uint16_t)rng_below(r, E);
			experts[i * K + 1] = (uint16_t)((experts[i * K] + 1 + rng_below(r, E - 1)) % E);
			weights[i * K] = .6f;
			weights[i * K + 1] = .4f;
			margin[i] = .1f;
		}
		assert_int_equal(h->route(h->ctx, &v, &e), 0);
	}
	assert_int_equal(h->batch_end(h->ctx, &batch, &e), 0);
	assert_int_equal(h->seq_end(h->ctx, &res, &e), 0);
}

static void make_db(const char *path)
{
	struct moe_layer_desc layers[4];
	struct moe_run_desc d = { .command = "test", .model_name = "ev\033]0;pwn\007il",
		.arch = "a\x9b" "b", .layers = layers, .n_moe_layer = 4, .n_layer = 4, .router = "r",
		.score = "softmax" };
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES };
	struct moe_trace *t;
	struct moe_err e = { 0 };
	struct rng r;

	rng_seed(&r, 1);
	for (uint16_t i = 0; i < 4; i++)
		layers[i] = (struct moe_layer_desc){ i, 16, 2 };
	t = moe_trace_open(path, &o, &d, &e);
	if (!t)
		fail_msg("%s", e.msg);
	for (uint64_t i = 0; i < 40; i++)
		put_sequence(moe_trace_hook(t), i, &r);
	assert_int_equal(moe_trace_close(t, MOE_RUN_DONE, &e), 0);
}

/* ---- the program on a pseudo-terminal ---- */

struct term {
	int fd;
	pid_t pid;
	struct termios before;
	char *out; /* all that it wrote, with a NUL */
	size_t len, cap;
};

static void set_size(struct term *t, int w, int h)
{
	struct winsize z = { .ws_row = (unsigned short)h, .ws_col = (unsigned short)w };

	assert_int_equal(ioctl(t->fd, TIOCSWINSZ, &z), 0);
}

static void start(struct term *t, const char *name, const char *locale, const char *path,
	const char *option)
{
	struct winsize z = { .ws_row = 24, .ws_col = 80 };

	memset(t, 0, sizeof *t);
	t->pid = forkpty(&t->fd, NULL, NULL, &z);
	assert_true(t->pid >= 0);
	if (!t->pid) {
		if (name)
			setenv("TERM", name, 1);
		else
			unsetenv("TERM");
		setenv("LC_ALL", locale, 1);
		if (read(STDIN_FILENO, &z, 1) < 0) /* until the settings have been noted */
			_exit(98);
		execl(getenv("MOESCOPE"), "moescope", "top", path, option, (char *)NULL);
		_exit(99);
	}
	assert_int_equal(tcgetattr(t->fd, &t->before), 0);
	assert_int_equal(write(t->fd, "\n", 1), 1);
}

/* Read what comes within ms; 0 at the end of output. */
static int take(struct term *t, int ms)
{
	struct pollfd p = { t->fd, POLLIN, 0 };
	ssize_t n;

	if (poll(&p, 1, ms) <= 0)
		return 1;
	if (t->cap - t->len < 65537) {
		t->cap = t->cap * 2 + 131072;
		t->out = realloc(t->out, t->cap);
		assert_non_null(t->out);
	}
	n = read(t->fd, t->out + t->len, 65536);
	if (n <= 0)
		return 0;
	t->len += (size_t)n;
	t->out[t->len] = 0;
	return 1;
}

/* Wait until it has written `text` after offset `from`; fails after ten seconds. */
static void wait_for(struct term *t, size_t from, const char *text)
{
	int64_t end = clock_mono() + INT64_C(10000000000);

	while (clock_mono() < end) {
		if (t->out && t->len > from && strstr(t->out + from, text))
			return;
		if (!take(t, 100))
			break;
	}
	fail_msg("'%s' did not appear in: %s", text, t->out ? t->out : "");
}

/* Collect the rest; returns the wait status. */
static int finish(struct term *t)
{
	int64_t end = clock_mono() + INT64_C(10000000000);
	int status = 0, gone = 0;

	while (!gone && clock_mono() < end) {
		take(t, 20);
		gone = waitpid(t->pid, &status, WNOHANG) == t->pid;
	}
	if (!gone) {
		kill(t->pid, SIGKILL);
		waitpid(t->pid, &status, 0);
		fail_msg("it did not end");
	}
	while (take(t, 0) && poll(&(struct pollfd){ t->fd, POLLIN, 0 }, 1, 0) > 0)
		;
	return status;
}

static void forget(struct term *t)
{
	close(t->fd);
	free(t->out);
}

/* The alternate screen was left, the cursor is visible, the line settings are what they were. */
static void check_restored(struct term *t)
{
	struct termios now;
	char *leave = NULL, *p;

	for (p = t->out; p && (p = strstr(p, "\033[?1049l")); p++)
		leave = p;
	assert_non_null(leave);
	assert_null(strstr(leave, "\033[?1049h"));
	for (p = t->out, leave = NULL; (p = strstr(p, "\033[?25l")); p++)
		leave = p;
	if (leave)
		assert_true(strstr(leave, "\033[?25h") || strstr(leave, "\033[?12l\033[?25h"));
	assert_int_equal(tcgetattr(t->fd, &now), 0);
	assert_int_equal(now.c_lflag & (ECHO | ICANON | ISIG),
		t->before.c_lflag & (ECHO | ICANON | ISIG));
	assert_int_equal(now.c_iflag, t->before.c_iflag);
	assert_int_equal(now.c_oflag, t->before.c_oflag);
}

/* ---- tests ---- */

static int skip_without_program(void **state)
{
	(void)state;
	return !getenv("MOESCOPE") || access(getenv("MOESCOPE"), X_OK);
}

#define NEEDS_PROGRAM() do { if (skip_without_program(state)) skip(); } while (0)

static void q_quits_and_restores(void **state)
{
	struct term t;
	int status;

	NEEDS_PROGRAM();
	start(&t, "xterm-256color", "C.UTF-8", db, NULL);
	wait_for(&t, 0, "max/mean");
	wait_for(&t, 0, "law");
	assert_int_equal(write(t.fd, "2", 1), 1);
	wait_for(&t, 0, "its fair share");
	assert_int_equal(write(t.fd, "q", 1), 1);
	status = finish(&t);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	check_restored(&t);
	/* the names in the database reached the screen as text, not as commands */
	assert_non_null(strstr(t.out, "x1b]0;pwn"));
	assert_null(strstr(t.out, "\033]0;pwn"));
	assert_null(strstr(t.out, "\007il"));
	assert_null(strstr(t.out, "\033[2Jcode"));
	forget(&t);
}

static void signals_restore(void **state)
{
	static const int sigs[] = { SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS };

	NEEDS_PROGRAM();
	for (size_t i = 0; i < sizeof sigs / sizeof sigs[0]; i++) {
		struct term t;
		int status;

		start(&t, "xterm-256color", "C.UTF-8", db, NULL);
		wait_for(&t, 0, "max/mean");
		kill(t.pid, sigs[i]);
		status = finish(&t);
		if (sigs[i] == SIGINT)
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 130);
		else if (!WIFEXITED(status)) /* a sanitizer turns faults into an exit */
			assert_int_equal(WTERMSIG(status), sigs[i]);
		else
			assert_int_not_equal(WEXITSTATUS(status), 0);
		check_restored(&t);
		forget(&t);
	}
}

static void control_c_is_an_interrupt(void **state)
{
	struct term t;
	int status;

	NEEDS_PROGRAM();
	start(&t, "xterm", "C.UTF-8", db, NULL);
	wait_for(&t, 0, "max/mean");
	assert_int_equal(write(t.fd, "\003", 1), 1);
	status = finish(&t);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 130);
	check_restored(&t);
	forget(&t);
}

static void hang_up_ends_it(void **state)
{
	struct term t;
	int status = 0;

	NEEDS_PROGRAM();
	start(&t, "xterm", "C.UTF-8", db, NULL);
	wait_for(&t, 0, "max/mean");
	close(t.fd); /* the terminal is gone */
	for (int i = 0; i < 500 && waitpid(t.pid, &status, WNOHANG) != t.pid; i++)
		usleep(10000);
	assert_int_not_equal(kill(t.pid, 0), 0);
	free(t.out);
}

static void resize_storm(void **state)
{
	static const int odd[][2] = { { 1, 1 }, { 5000, 2000 }, { 1, 500 }, { 3000, 1 }, { 2, 2 },
		{ 0, 0 }, { 65535, 65535 }, { 40, 10 } };
	struct term t;
	struct rng r;
	size_t mark;
	int status;

	NEEDS_PROGRAM();
	rng_seed(&r, 3);
	start(&t, "xterm-256color", "C.UTF-8", db, NULL);
	wait_for(&t, 0, "max/mean");
	for (int i = 0; i < 400; i++) {
		if (i % 10 == 0)
			set_size(&t, odd[i / 10 % 8][0], odd[i / 10 % 8][1]);
		else
			set_size(&t, 1 + (int)rng_below(&r, 300), 1 + (int)rng_below(&r, 100));
		if (i % 20 == 0 && write(t.fd, "1\t\t2+3jj45", 10) < 0)
			fail();
		take(&t, i % 7 == 0 ? 20 : 0);
	}
	while (poll(&(struct pollfd){ t.fd, POLLIN, 0 }, 1, 300) > 0)
		take(&t, 0);
	mark = t.len;
	set_size(&t, 100, 30);
	assert_int_equal(write(t.fd, "3", 1), 1);
	wait_for(&t, mark, "capacity 1.25");
	assert_int_equal(write(t.fd, "q", 1), 1);
	status = finish(&t);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	check_restored(&t);
	forget(&t);
}

static void terminals_that_cannot(void **state)
{
	static const char *const names[] = { "dumb", NULL, "", "no-such-terminal" };

	NEEDS_PROGRAM();
	for (size_t i = 0; i < 4; i++) {
		struct term t;
		int status;
		char *line;

		start(&t, names[i], "C.UTF-8", db, NULL);
		status = finish(&t);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), MOE_ERR_SYS);
		line = strstr(t.out, "moescope top: ");
		assert_non_null(line);
		assert_non_null(strstr(line, "--once --text"));
		assert_null(strchr(line, '\033'));
		assert_int_equal(strcspn(line, "\n"), strlen(line) - 1); /* one line */
		forget(&t);
	}
}

static void fewer_colours_and_no_utf8(void **state)
{
	static const struct { const char *term, *locale, *no_color; int colour; } how[] = {
		{ "xterm-256color", "C.UTF-8", "", 2 }, { "linux", "C.UTF-8", "", 1 },
		{ "vt100", "C", "", 0 }, { "xterm-256color", "C", "1", 0 } };

	NEEDS_PROGRAM();
	for (size_t i = 0; i < 4; i++) {
		struct term t;
		int colour = 0, ascii = 1;

		setenv("NO_COLOR", how[i].no_color, 1);
		start(&t, how[i].term, how[i].locale, db, NULL);
		wait_for(&t, 0, "max/mean");
		assert_int_equal(write(t.fd, "2q", 2), 2);
		assert_true(WIFEXITED(finish(&t)));
		for (size_t k = 0; k + 6 < t.len; k++) {
			ascii &= (unsigned char)t.out[k] < 0x80;
			if (!memcmp(t.out + k, "38;5;", 5) || !memcmp(t.out + k, "48;5;", 5))
				colour = 2;
			else if (t.out[k] == '\033' && t.out[k + 1] == '[' && t.out[k + 2] == '3' &&
				 t.out[k + 4] == 'm' && t.out[k + 3] != '9')
				colour = colour ? colour : 1;
		}
		assert_int_equal(colour, how[i].colour);
		assert_int_equal(ascii, !strcmp(how[i].locale, "C"));
		forget(&t);
	}
	unsetenv("NO_COLOR");
}

static void waits_for_the_database(void **state)
{
	struct term t;
	int status;

	NEEDS_PROGRAM();
	start(&t, "xterm-256color", "C.UTF-8", late, "--wait");
	wait_for(&t, 0, "waiting for");
	make_db(late);
	wait_for(&t, 0, "max/mean");
	unlink(late); /* what is shown stays; the last line says what happened */
	wait_for(&t, t.len, "waiting for");
	assert_int_equal(write(t.fd, "q", 1), 1);
	status = finish(&t);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	forget(&t);
}

static void missing_or_foreign_file(void **state)
{
	struct term t;
	char path[96];
	FILE *f;

	NEEDS_PROGRAM();
	start(&t, "xterm", "C.UTF-8", late, NULL);
	assert_int_equal(WEXITSTATUS(finish(&t)), MOE_ERR_INPUT);
	assert_null(strstr(t.out, "\033["));
	forget(&t);
	snprintf(path, sizeof path, "%s/not.db", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("this is not a database, and it is longer than the header of one, which is 100 bytes "
		"long, so that it is read\n", f);
	fclose(f);
	start(&t, "xterm", "C.UTF-8", path, NULL);
	assert_int_equal(WEXITSTATUS(finish(&t)), MOE_ERR_INPUT);
	assert_null(strstr(t.out, "\033["));
	forget(&t);
	unlink(path);
}

static int make_all(void **state)
{
	(void)state;
	unsetenv("NO_COLOR");
	snprintf(dir, sizeof dir, "/tmp/moescope-tui-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(db, sizeof db, "%s/run.db", dir);
	snprintf(late, sizeof late, "%s/late.db", dir);
	make_db(db);
	return 0;
}

static int remove_all(void **state)
{
	static const char *const ends[] = { "", "-wal", "-shm", NULL };
	char path[128];

	(void)state;
	for (int i = 0; ends[i]; i++) {
		snprintf(path, sizeof path, "%s%s", db, ends[i]);
		unlink(path);
		snprintf(path, sizeof path, "%s%s", late, ends[i]);
		unlink(path);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(q_quits_and_restores),
		cmocka_unit_test(signals_restore),
		cmocka_unit_test(control_c_is_an_interrupt),
		cmocka_unit_test(hang_up_ends_it),
		cmocka_unit_test(resize_storm),
		cmocka_unit_test(terminals_that_cannot),
		cmocka_unit_test(fewer_colours_and_no_utf8),
		cmocka_unit_test(waits_for_the_database),
		cmocka_unit_test(missing_or_foreign_file),
	};

	return cmocka_run_group_tests(tests, make_all, remove_all);
}
