/* report.c - `moescope report DB`: collect, draw, put in place. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/report.h"
#include "cmd/show.h"
#include "reports/report.h"
#include "version.h"

static const char *out_path, *keep_dir;
static long long run_id;
static int format;

static const struct opt opts[] = {
	{ .name = "output", .letter = 'o', .kind = OPT_TEXT, .dst = &out_path, .arg = "FILE",
	  .help = "where to write it; default report.html or report.json, - is standard output" },
	{ .name = "run", .kind = OPT_INT, .dst = &run_id, .arg = "N",
	  .help = "which run of the database; default the newest", .min = 1, .max = 9e15 },
	{ .name = "format", .kind = OPT_ENUM, .dst = &format, .arg = "html|json",
	  .help = "a page for people, or the tables as one JSON object" },
	{ .name = "keep", .kind = OPT_TEXT, .dst = &keep_dir, .arg = "DIR",
	  .help = "leave the data and the gnuplot scripts of the pictures in DIR" },
	{ 0 }
};

/* What is being done, on a terminal, while it lasts. */
static void show_step(void *ctx, const char *what)
{
	int *tty = ctx;

	if (*tty)
		fprintf(stderr, "\r\033[Kreport: %s ...", what);
}

static int make(struct reader *r, const struct report_opt *o, struct report_plotter *plotter,
	struct buf *page, struct moe_err *e)
{
	struct report_data d;
	int rc;

	if (report_collect(r, o, &d, e))
		return -1;
	if (o->format == REPORT_JSON)
		rc = report_json(&d, page, e);
	else {
		report_plotter_open(plotter, keep_dir, NULL); /* if it fails, the page says so */
		rc = report_html(&d, plotter, page, e);
		report_plotter_close(plotter);
	}
	report_data_free(&d);
	return rc;
}

static void say_done(const char *path, const struct buf *page, const struct report_plotter *plotter,
	int64_t start)
{
	fprintf(stderr, "Wrote %s: %.0f kB, %u pictures, %.1f s.\n", show(path).s, (double)page->len / 1000,
		plotter->n_drawn, (double)(clock_mono() - start) / 1e9);
	if (plotter->failed)
		fprintf(stderr, "Some pictures are left out: %s.\n", plotter->why.msg);
}

int report_write(const char *db, int64_t run, const char *path, struct moe_err *e)
{
	int tty = isatty(STDERR_FILENO), rc = -1;
	struct report_opt o = { .run = run, .db = db, .out = path, .format = (enum report_format)format,
		.step = show_step, .ctx = &tty,
		.made_by = "moescope " MOESCOPE_VERSION " (" MOESCOPE_COMMIT ")" };
	struct report_plotter plotter = { .failed = 0 };
	int64_t start = clock_mono();
	struct reader *r = NULL;
	struct buf page;

	buf_init(&page, REPORT_MAX_PAGE);
	if (strcmp(path, "-") && report_may_write(path, e))
		goto out;
	r = reader_open(db, e);
	if (!r)
		goto out;
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
	reader_close(r);
	buf_free(&page);
	return rc;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	static const char *const name[] = { "report.html", "report.json" };

	if (argc != 1)
		return err_set(e, MOE_ERR_USAGE, "one database is needed, %d were named", argc);
	if (keep_dir && format != REPORT_HTML)
		return err_set(e, MOE_ERR_USAGE, "--keep is for pictures, which only the html format has");
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
