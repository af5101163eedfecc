/*
 * live.c - see live.h.
 *
 * The inference is a process of its own, so that neither can take the other down; it gets an
 * interrupt when the dashboard dies.
 */
#include "cmd/live.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/cmd.h"
#include "tui/tui.h"

struct beside { pid_t pid; int over, status; };

static void look(struct beside *b, int flags)
{
	pid_t got;

	if (b->over)
		return;
	do
		got = waitpid(b->pid, &b->status, flags);
	while (got < 0 && errno == EINTR);
	b->over = got != 0;
}

static int ask(void *ctx)
{
	struct beside *b = ctx;

	look(b, WNOHANG);
	if (!b->over)
		return 0;
	return WIFEXITED(b->status) && !WEXITSTATUS(b->status) ? 1 : -1;
}

/* What the inference wrote; on a terminal control characters become escapes. */
static void replay(FILE *from, FILE *to)
{
	int tty = isatty(fileno(to));
	char line[8192];
	size_t n;

	rewind(from);
	while (fgets(line, sizeof line, from)) {
		struct buf b;

		n = strcspn(line, "\n");
		buf_init(&b, sizeof line * 8);
		text_escape(&b, line, n, TEXT_TERMINAL);
		fputs(!tty ? line : b.data ? b.data : "", to);
		if (tty && line[n] == '\n')
			putc('\n', to);
		buf_free(&b);
	}
	fflush(to);
}

static _Noreturn void child(FILE *out, FILE *err, pid_t parent,
	int (*work)(int argc, char **argv, struct moe_err *e), int argc, char **argv)
{
	struct moe_err e = { 0 };
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGINT);
	if (getppid() != parent)
		_exit(1);
	dup2(fileno(out), STDOUT_FILENO);
	dup2(fileno(err), STDERR_FILENO);
	rc = work(argc, argv, &e);
	if (rc < 0)
		fprintf(stderr, "%s: %s\n", cmd_program, e.msg);
	fflush(NULL);
	_exit(rc < 0 ? (int)e.code : rc);
}

static void wait_for(struct beside *b)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;

	look(b, WNOHANG);
	if (b->over)
		return;
	fprintf(stderr, "%s: waiting for the inference to end; Ctrl-C ends it\n", cmd_program);
	sigaction(SIGINT, &ignore, &old); /* it gets its own */
	look(b, 0);
	sigaction(SIGINT, &old, NULL);
}

/* The newest run that is in the database already; 0 = none, or no database yet. */
static int64_t newest_run(const char *db)
{
	struct moe_err ignored;
	struct reader *r = access(db, F_OK) ? NULL : reader_open(db, &ignored);
	int64_t *id = NULL, newest = 0;
	size_t n = 0;

	if (r && !reader_runs(r, &id, &n, &ignored) && n)
		newest = id[n - 1];
	free(id);
	reader_close(r);
	return newest;
}

int live_run(const char *db, int (*work)(int argc, char **argv, struct moe_err *e), int argc,
	char **argv, struct moe_err *e)
{
	struct beside b = { 0 };
	struct tui_opt o = { .want = { .domain = -1 }, .wait = 1, .beside = ask, .ctx = &b };
	FILE *out = tmpfile(), *err = tmpfile();
	pid_t self = getpid();
	int rc;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		err_set(e, MOE_ERR_USAGE, "--live needs a terminal; without one, log and look later with "
			"top");
		goto fail;
	}
	if (!out || !err) {
		err_errno(e, "making a temporary file");
		goto fail;
	}
	o.after = newest_run(db);
	fflush(NULL);
	b.pid = fork();
	if (b.pid < 0) {
		err_errno(e, "starting a process");
		goto fail;
	}
	if (!b.pid)
		child(out, err, self, work, argc, argv);
	setlocale(LC_CTYPE, "");
	rc = tui_run(db, &o, e);
	/* the terminal's Ctrl-C has reached it; a second one kills */
	if (rc && rc != SIGINT && !b.over)
		kill(b.pid, SIGINT);
	wait_for(&b);
	replay(out, stdout);
	replay(err, stderr);
	fclose(out);
	fclose(err);
	if (rc < 0)
		return -1;
	return WIFEXITED(b.status) ? WEXITSTATUS(b.status) : 128 + WTERMSIG(b.status);
fail:
	if (out)
		fclose(out);
	if (err)
		fclose(err);
	return -1;
}
