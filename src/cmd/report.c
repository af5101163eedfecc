/* report.c - `moescope report DB`: collect, draw, put in place. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/report.h"
#include "cmd/show.h"
#include "reports/report.h"
#include "version.h"

static const char *out_path, *keep_dir, *baseline, *pubkey, *anchor;
static int with_audit;
static long long run_id;
static int format = -1;

static const struct opt opts[] = {
	{ .name = "output", .letter = 'o', .kind = OPT_TEXT, .dst = &out_path, .arg = "FILE",
	  .help = "where to write it; default report.html, - is standard output; an ending .md, .json "
	  "or .pdf chooses the format" },
	{ .name = "run", .kind = OPT_INT, .dst = &run_id, .arg = "N",
	  .help = "which run of the database; default the newest", .min = 1, .max = 9e15 },
	{ .name = "format", .kind = OPT_ENUM, .dst = &format, .arg = "html|md|json|pdf",
	  .help = "a page for people, the same as Markdown or PDF, or the tables as one JSON object" },
	{ .name = "keep", .kind = OPT_TEXT, .dst = &keep_dir, .arg = "DIR",
	  .help = "leave the data and the gnuplot scripts of the pictures in DIR" },
	{ .name = "baseline", .kind = OPT_TEXT, .dst = &baseline, .arg = "RUN",
	  .help = "compare with another run: its number, a database, or DB:RUN" },
	{ .name = "audit", .kind = OPT_FLAG, .dst = &with_audit,
	  .help = "pages for an auditor: what was logged, retention, verification, changes, rules" },
	{ .name = "pubkey", .kind = OPT_TEXT, .dst = &pubkey, .arg = "FILE",
	  .help = "with --audit: verify the log with this public key" },
	{ .name = "anchor", .kind = OPT_TEXT, .dst = &anchor, .arg = "FILE",
	  .help = "with --audit: a checkpoint that was kept elsewhere" },
	{ 0 }
};

/* What is being done, on a terminal, while it lasts. */
static void show_step(void *ctx, const char *what)
{
	int *tty = ctx;

	if (*tty)
		fprintf(stderr, "\r\033[Kreport: %s ...", what);
}

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

/* Draw and print. A signal ends it early, but not before its files are removed. */
static int draw(const struct report_data *d, struct report_plotter *plotter, struct buf *out,
	struct moe_err *e)
{
	static const int sigs[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction a = { .sa_handler = on_signal }, before[3];
	struct buf page;
	int rc;

	buf_init(&page, REPORT_MAX_PAGE);
	for (int i = 0; i < 3; i++)
		sigaction(sigs[i], &a, &before[i]);
	if (d->opt.format == REPORT_MD && !keep_dir)
		plotter->off = 1;
	else
		report_plotter_open(plotter, keep_dir, NULL); /* if it fails, the page says so */
	plotter->stop = &interrupted;
	rc = report_html(d, plotter, &page, e);
	report_plotter_close(plotter);
	if (!rc && !interrupted && d->opt.format == REPORT_PDF) {
		show_step(d->opt.ctx, "printing");
		rc = report_pdf(&page, &interrupted, out, e);
	} else if (!rc && !interrupted && d->opt.format == REPORT_MD)
		rc = report_markdown(&page, keep_dir, out, e);
	else if (!rc)
		buf_add(out, page.data, page.len);
	for (int i = 0; i < 3; i++)
		sigaction(sigs[i], &before[i], NULL);
	if (interrupted)
		raise(interrupted); /* nothing of ours is left behind: end as if we had not caught it */
	buf_free(&page);
	return rc;
}

static int make(struct reader *r, const struct report_opt *o, struct report_plotter *plotter,
	struct buf *page, struct moe_err *e)
{
	struct report_data d;
	int rc;

	if (report_collect(r, o, &d, e))
		return -1;
	rc = o->format == REPORT_JSON ? report_json(&d, page, e) : draw(&d, plotter, page, e);
	report_data_free(&d);
	return rc;
}

/* "7", "other.db" or "other.db:7". */
static int open_baseline(const char *db, struct reader *own, struct report_opt *o, char *name,
	size_t size, struct moe_err *e)
{
	const char *colon = strrchr(baseline, ':'), *digits = baseline;
	char *end;

	o->base_arg = baseline;
	snprintf(name, size, "%s", baseline);
	if (access(baseline, F_OK) && colon && strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
	    colon[1]) {
		snprintf(name, size, "%.*s", (int)(colon - baseline), baseline);
		digits = colon + 1;
	} else if (access(baseline, F_OK) && *baseline &&
	    strspn(baseline, "0123456789") == strlen(baseline))
		snprintf(name, size, "%s", db);
	else
		digits = "0";
	o->base_run = strtoll(digits, &end, 10);
	o->base_db = name;
	o->base = !strcmp(name, db) ? own : reader_open(name, e);
	if (!o->base)
		return err_wrap(e, "the baseline");
	return 0;
}

static void say_done(const char *path, const struct buf *page, const struct report_plotter *plotter,
	int64_t start)
{
	fprintf(stderr, "Wrote %s: %.0f kB, %u pictures, %.1f s.\n", show(path).s,
		(double)page->len / 1000, plotter->n_drawn, (double)(clock_mono() - start) / 1e9);
	if (plotter->failed)
		fprintf(stderr, "Some pictures are left out: %s.\n", plotter->why.msg);
}

int report_write(const char *db, int64_t run, const char *path, struct moe_err *e)
{
	int tty = isatty(STDERR_FILENO), rc = -1;
	struct report_opt o = { .run = run, .db = db, .out = path,
		.format = format < 0 ? REPORT_HTML : (enum report_format)format, .step = show_step,
		.ctx = &tty, .made_by = "moescope " MOESCOPE_VERSION " (" MOESCOPE_COMMIT ")" };
	struct report_plotter plotter = { .failed = 0 };
	int64_t start = clock_mono();
	struct reader *r = NULL;
	struct buf page;
	struct report_audit *audit = NULL;
	char name[1024];

	buf_init(&page, REPORT_MAX_PAGE);
	if (strcmp(path, "-") && report_may_write(path, e))
		goto out;
	r = reader_open(db, e);
	if (!r || (baseline && open_baseline(db, r, &o, name, sizeof name, e)))
		goto out;
	if (with_audit) {
		audit = malloc(sizeof *audit);
		if (!audit) {
			err_nomem(e, sizeof *audit, "an audit log's figures");
			goto out;
		}
		show_step(&tty, "audit log");
		if (report_ask_audit(r, pubkey, anchor, audit, e))
			goto out;
		o.audit = audit;
	}
	rc = make(r, &o, &plotter, &page, e);
	if (tty)
		fputs("\r\033[K", stderr);
	if (rc)
		goto out;
	if (!strcmp(path, "-"))
		fwrite(page.data, 1, page.len, stdout); /* main.c checks stdout */
	else if (!(rc = report_save(path, &page, e)))
		say_done(path, &page, &plotter, start);
out:
	free(audit);
	if (o.base != r)
		reader_close(o.base);
	reader_close(r);
	buf_free(&page);
	return rc;
}

static int ends_with(const char *s, const char *end)
{
	return s && strlen(s) > strlen(end) && !strcmp(s + strlen(s) - strlen(end), end);
}

static int run(int argc, char **argv, struct moe_err *e)
{
	static const char *const name[] = { "report.html", "report.md", "report.json", "report.pdf" };

	if (argc != 1)
		return err_set(e, MOE_ERR_USAGE, "one database is needed, %d were named", argc);
	if ((pubkey || anchor) && !with_audit)
		return err_set(e, MOE_ERR_USAGE, "--pubkey and --anchor are for --audit");
	if (anchor && !pubkey)
		return err_set(e, MOE_ERR_USAGE, "--anchor needs --pubkey");
	if (format < 0) /* by the ending of the file's name */
		for (format = REPORT_N_FORMAT - 1; format > 0; format--)
			if (ends_with(out_path, strrchr(name[format], '.')))
				break;
	if (keep_dir && format == REPORT_JSON)
		return err_set(e, MOE_ERR_USAGE, "--keep is for pictures, which the json format has not");
	return report_write(argv[0], run_id, out_path ? out_path : name[format], e);
}

const struct cmd cmd_report = {
	.name = "report",
	.args = "DB",
	.summary = "Write a self-contained page about a run",
	.text =
		"The page opens with a verdict and five figures, goes on to load, balance, domains and\n"
		"the router, each claim with its evidence, and ends with where everything comes from.\n"
		"It loads nothing from elsewhere. Pictures are drawn by gnuplot; without it the page has\n"
		"its tables only.\n",
	.opts = opts,
	.run = run,
};
