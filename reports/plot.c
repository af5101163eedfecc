/* plot.c - see plot.h. */
#include "reports/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "reports/svg.h"

#define MAX_SVG ((size_t)16 << 20)
#define MAX_DATA ((size_t)64 << 20)

static const char common_gp[] =
#include "common_gp.h"
	;
static const char heat_gp[] =
#include "heat_gp.h"
	;
static const char jsd_gp[] =
#include "jsd_gp.h"
	;
static const char bars_gp[] =
#include "bars_gp.h"
	;
static const char sorted_gp[] =
#include "sorted_gp.h"
	;
static const char range_gp[] =
#include "range_gp.h"
	;
static const char dots_gp[] =
#include "dots_gp.h"
	;
static const char level_gp[] =
#include "level_gp.h"
	;
static const char text_gp[] =
#include "text_gp.h"
	;
static const char lines_gp[] =
#include "lines_gp.h"
	;
static const char spans_gp[] =
#include "spans_gp.h"
	;

static const char *const scripts[] = { /* by enum report_script */
	heat_gp, jsd_gp, bars_gp, sorted_gp, range_gp, dots_gp, level_gp, text_gp,
	lines_gp, spans_gp,
};

/* The files of a picture; all of them go when the directory is a private one. */
static const char *const endings[] = { ".gp", ".dat", ".svg", ".log" };

void report_plot_init(struct report_plot *p, const char *name, enum report_script script)
{
	memset(p, 0, sizeof *p);
	p->name = name;
	p->script = script;
	p->alt = name;
	p->label_columns = 18;
	buf_init(&p->tics, 1 << 20);
	buf_init(&p->data, MAX_DATA);
}

void report_plot_free(struct report_plot *p)
{
	buf_free(&p->tics);
	buf_free(&p->data);
}

void report_plot_var(struct report_plot *p, const char *key, double value)
{
	if (p->n_var == REPORT_MAX_VAR) {
		p->data.failed = 1; /* our own mistake; the picture is refused */
		return;
	}
	p->var[p->n_var].key = key;
	p->var[p->n_var++].value = value;
}

static int fail(struct report_plotter *p)
{
	p->failed = 1;
	return -1;
}

int report_plotter_open(struct report_plotter *p, const char *keep, struct moe_err *e)
{
	const char *tmp = getenv("TMPDIR");
	int n;

	memset(p, 0, sizeof *p);
	p->limit_ms = 20000;
	p->keep = keep != NULL;
	if (keep)
		n = snprintf(p->dir, sizeof p->dir, "%s", keep);
	else
		n = snprintf(p->dir, sizeof p->dir, "%s/moescope-report-XXXXXX",
			tmp && *tmp ? tmp : "/tmp");
	if (n < 0 || (size_t)n >= sizeof p->dir) {
		err_set(&p->why, MOE_ERR_INPUT, "directory name longer than %zu bytes", sizeof p->dir - 1);
		p->dir[0] = 0;
	} else if (keep ? mkdir(keep, 0777) && errno != EEXIST : !mkdtemp(p->dir)) {
		err_errno(&p->why, "making the directory %s", p->dir);
		p->dir[0] = 0;
	} else
		return 0;
	p->failed = 1;
	if (e)
		*e = p->why;
	return -1;
}

void report_plotter_close(struct report_plotter *p)
{
	if (p->dir[0] && !p->keep)
		rmdir(p->dir);
	p->dir[0] = 0;
}

static void file_name(char *out, size_t size, const struct report_plotter *p, const char *name,
	const char *ending)
{
	snprintf(out, size, "%s/%s%s", p->dir, name, ending);
}

static int write_file(struct report_plotter *p, const char *name, const char *ending,
	const struct buf *b)
{
	char path[640];
	FILE *f;
	int bad;

	file_name(path, sizeof path, p, name, ending);
	f = fopen(path, "we");
	if (!f)
		return err_errno(&p->why, "writing %s", path);
	bad = b->len && fwrite(b->data, 1, b->len, f) != b->len;
	if (fclose(f) || bad)
		return err_errno(&p->why, "writing %s", path);
	return 0;
}

/* Variables, then the fixed text. A number that is not finite becomes gnuplot's NaN. */
/* A text for single quotes, in which gnuplot substitutes nothing; a tic's label is a format,
 * too. */
static void quoted(struct buf *b, const char *untrusted, size_t columns)
{
	struct buf safe;

	buf_init(&safe, 1 << 16);
	text_escape(&safe, untrusted, strlen(untrusted), TEXT_TERMINAL);
	for (const char *s = safe.data ? safe.data : ""; *s; s++) {
		if (*s == '\'' || *s == '%')
			buf_char(b, *s);
		if ((size_t)(s - safe.data) > 4 * columns && ((unsigned char)*s & 0xc0) != 0x80) {
			buf_str(b, "…");
			break;
		}
		buf_char(b, *s == '`' ? ' ' : *s);
	}
	buf_free(&safe);
}

/* The tics with the names that LABELnnn stands for. */
static void put_labelled(struct buf *b, const struct report_plot *plot)
{
	const char *s = plot->tics.data, *at;
	unsigned i;

	for (; (at = strstr(s, "LABEL")); s = at + 8) {
		buf_add(b, s, (size_t)(at - s));
		if (sscanf(at + 5, "%3u", &i) != 1 || i >= plot->n_label) {
			buf_str(b, "LABEL");
			at -= 3;
			continue;
		}
		quoted(b, plot->label[i], plot->label_columns);
	}
	buf_str(b, s);
}

static int write_script(struct report_plotter *p, const struct report_plot *plot, int real)
{
	struct buf b;
	int rc;

	buf_init(&b, 1 << 20);
	buf_printf(&b, "# %s.gp - draw %s.svg from %s.dat: gnuplot -d %s.gp\n", plot->name, plot->name,
		plot->name, plot->name);
	buf_printf(&b, "DATA = '%s.dat'\nOUT = '%s.svg'\nW = %u\nH = %u\n", plot->name, plot->name,
		plot->width, plot->height);
	for (size_t i = 0; i < plot->n_var; i++) {
		if (isfinite(plot->var[i].value))
			buf_printf(&b, "%s = %.9g\n", plot->var[i].key, plot->var[i].value);
		else
			buf_printf(&b, "%s = NaN\n", plot->var[i].key);
	}
	buf_str(&b, common_gp);
	if (plot->tics.data && real)
		put_labelled(&b, plot);
	else if (plot->tics.data)
		buf_str(&b, plot->tics.data);
	buf_str(&b, scripts[plot->script]);
	rc = b.failed || plot->tics.failed || plot->data.failed ?
		err_set(&p->why, MOE_ERR_SYS, "picture %s: too much data to draw", plot->name) :
		write_file(p, plot->name, ".gp", &b);
	buf_free(&b);
	return rc ? rc : write_file(p, plot->name, ".dat", &plot->data);
}

/* In the child. Nothing of ours is open in it but what it is given. */
static void child(const char *dir, const char *const *argv, const char *log, unsigned limit_ms,
	size_t most)
{
	struct rlimit cpu = { limit_ms / 1000 + 2, limit_ms / 1000 + 2 }, file = { most, most };
	int in, out;

	setpgid(0, 0);
	if (chdir(dir))
		_exit(126);
	in = open("/dev/null", O_RDONLY);
	out = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(126);
	for (int fd = 3; fd < 256; fd++)
		close(fd);
	setrlimit(RLIMIT_CPU, &cpu);
	setrlimit(RLIMIT_FSIZE, &file);
	execvp(argv[0], (char *const *)argv);
	_exit(127);
}

/* Exit status of the child, or -1 after killing it (limit) or if it was killed. */
static int wait_limited(const char *name, pid_t pid, int64_t begun, unsigned limit_ms,
	const volatile sig_atomic_t *stop, struct moe_err *why)
{
	int64_t end = begun + (int64_t)limit_ms * 1000000;
	struct timespec nap = { 0, 1000000 };
	int status;
	pid_t r;

	while ((r = waitpid(pid, &status, WNOHANG)) == 0 || (r < 0 && errno == EINTR)) {
		if (clock_mono() > end || (stop && *stop)) {
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL); /* its group may not be there yet */
			while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
				;
			if (stop && *stop)
				return err_set(why, MOE_ERR_SYS, "interrupted");
			return err_set(why, MOE_ERR_SYS, "%s took longer than %u ms", name, limit_ms);
		}
		nanosleep(&nap, NULL);
	}
	if (r < 0)
		return err_errno(why, "waiting for %s", name);
	if (!WIFEXITED(status))
		return err_set(why, MOE_ERR_SYS, "%s was ended by signal %d", name, WTERMSIG(status));
	return WEXITSTATUS(status);
}

static pid_t start_child(const char *dir, const char *const *argv, const char *log,
	unsigned limit_ms, size_t most, struct moe_err *why)
{
	pid_t pid = fork();

	if (!pid)
		child(dir, argv, log, limit_ms, most);
	if (pid < 0)
		err_errno(why, "starting %s", argv[0]);
	return pid;
}

int report_child(const char *dir, const char *const *argv, const char *log, unsigned limit_ms,
	size_t most, const volatile sig_atomic_t *stop, struct moe_err *why)
{
	int64_t begun = clock_mono();
	pid_t pid = start_child(dir, argv, log, limit_ms, most, why);

	return pid < 0 ? -1 : wait_limited(argv[0], pid, begun, limit_ms, stop, why);
}

static int read_file(struct report_plotter *p, const char *name, const char *ending, struct buf *b)
{
	char path[640], part[16384];
	size_t n;
	FILE *f;

	file_name(path, sizeof path, p, name, ending);
	f = fopen(path, "re");
	if (!f)
		return err_errno(&p->why, "reading %s", path);
	while ((n = fread(part, 1, sizeof part, f)) > 0)
		buf_add(b, part, n);
	fclose(f);
	if (b->failed)
		return err_set(&p->why, MOE_ERR_INPUT, "%s is larger than %zu bytes", path, b->max);
	return 0;
}

/* The last line that gnuplot said: where and why it stopped. */
static void last_words(struct report_plotter *p, const char *name, char *out, size_t size)
{
	struct moe_err keep = p->why;
	struct buf log;
	char *end, *line;

	buf_init(&log, 1 << 16);
	out[0] = 0;
	if (!read_file(p, name, ".log", &log) && log.len) {
		end = log.data + log.len;
		while (end > log.data && strchr(" \t\n", end[-1]))
			*--end = 0;
		line = strrchr(log.data, '\n');
		snprintf(out, size, "%s", line ? line + 1 : log.data);
	}
	p->why = keep;
	buf_free(&log);
}

static int start_gnuplot(struct report_plotter *p, struct report_plot *plot)
{
	char script[96], log[96];
	const char *const argv[] = { "gnuplot", "-d", script, NULL };

	snprintf(script, sizeof script, "%s.gp", plot->name);
	snprintf(log, sizeof log, "%s.log", plot->name);
	plot->begun = clock_mono();
	plot->child = start_child(p->dir, argv, log, p->limit_ms, MAX_SVG, &p->why);
	if (plot->child > 0)
		return 0;
	plot->child = 0;
	return -1;
}

static int await_gnuplot(struct report_plotter *p, struct report_plot *plot)
{
	char words[200];
	int status;

	if (!plot->child) /* it could not be begun */
		return -1;
	status = wait_limited("gnuplot", plot->child, plot->begun, p->limit_ms, p->stop, &p->why);
	plot->child = 0;
	if (status == 127)
		return err_set(&p->why, MOE_ERR_SYS, "gnuplot is not installed");
	if (status > 0) {
		last_words(p, plot->name, words, sizeof words);
		return err_set(&p->why, MOE_ERR_SYS, "gnuplot failed with status %d: %s", status, words);
	}
	return status;
}

static void note_version(struct report_plotter *p, const struct buf *svg)
{
	const char *s = svg->data ? strstr(svg->data, "GNUPLOT ") : NULL;
	size_t n = s ? strspn(s + 8, "0123456789. abcdefghijklmnopqrstuvwxyz") : 0;

	if (!p->version[0] && n)
		snprintf(p->version, sizeof p->version, "gnuplot %.*s", (int)(n < 40 ? n : 40), s + 8);
}

void report_plot_begin(struct report_plotter *p, struct report_plot *plot)
{
	plot->child = 0;
	if (!p->failed && (write_script(p, plot, 0) || start_gnuplot(p, plot)))
		fail(p);
}

int report_plot_end(struct report_plotter *p, struct report_plot *plot, struct buf *out)
{
	const struct report_labels labels = { plot->label, plot->n_label, plot->label_columns };
	char path[640];
	struct buf svg;
	int rc = -1;

	buf_init(&svg, MAX_SVG);
	if (await_gnuplot(p, plot) || read_file(p, plot->name, ".svg", &svg) ||
	    report_svg_clean(svg.data, svg.len, &labels, plot->alt, out, &p->why))
		goto out;
	note_version(p, &svg);
	if (p->keep && plot->n_label && (write_script(p, plot, 1) || start_gnuplot(p, plot) ||
	    await_gnuplot(p, plot)))
		goto out; /* what is kept shows the names themselves */
	p->n_drawn++;
	rc = 0;
out:
	for (size_t i = 0; p->dir[0] && !p->keep && i < sizeof endings / sizeof *endings; i++) {
		file_name(path, sizeof path, p, plot->name, endings[i]);
		unlink(path);
	}
	buf_free(&svg);
	return rc ? fail(p) : 0;
}
