/*
 * demo.c - `moescope demo`: the first thing that a new user runs. Profiles the embedded sample
 * model over the embedded texts, prints what was found, writes the report, says what to do next.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/load.h"
#include "cmd/profile.h"
#include "cmd/report.h"
#include "cmd/show.h"
#include "cmd/summary.h"

static const char *db = "demo.db", *html = "demo.html", *model = "sample:balanced";

/* A command to copy, and what it gives. */
static void suggest(const char *what, const char *program, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void suggest(const char *what, const char *program, const char *fmt, ...)
{
	va_list ap;

	printf("  %s\n      %s ", what, program);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static void say_next(const struct shown *d, const struct shown *h)
{
	const char *me = cmd_program;

	printf("\nNow look at it:\n");
	suggest("the dashboard (q quits, ? helps)", me, "top %s", d->s);
	suggest("the report, in any browser", "xdg-open", "%s", h->s);
	suggest("every figure as text or JSON", me, "stat %s --by expert", d->s);
	suggest("your own question", me,
		"sql %s \"SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2\"", d->s);
	suggest("a router that collapsed, for comparison", me,
		"demo --model sample:collapsed --db collapsed.db --html collapsed.html");
	printf("Then your own model (GGUF: OLMoE, Qwen2-MoE, Qwen3-MoE and others) over your own "
		"texts:\n");
	suggest("a folder per domain, or a .jsonl file", me,
		"profile model.gguf my-texts/ --db mine.db");
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct load_opts none = { 0 };
	struct profile_opt po = { .detail = MOE_DETAIL_FULL, .max_tokens = 1LL << 40, .generate = 24,
		.load = &none };
	struct shown d = show(db), h = show(html);
	int64_t id = 0;

	(void)argv;
	if (argc)
		return err_set(e, MOE_ERR_USAGE, "`demo` takes options only");
	po.model = model;
	po.db = db;
	printf("Profiling %s, a small Mixture-of-Experts model trained for this purpose, over short "
		"held-out\n"
	       "texts of 13 domains. Every routing decision goes to %s.\n\n", show(model).s, d.s);
	fflush(stdout);
	if (profile_run(&po, NULL, 0, &id, e))
		return -1;
	if (load_interrupted())
		return 130;
	if (summary_print(db, id, e) || report_write(db, id, html, e))
		return -1;
	say_next(&d, &h);
	return 0;
}

static const struct opt opts[] = {
	{ "model", 'm', OPT_TEXT, &model, "MODEL", "sample:balanced (default), sample:collapsed or a "
		"file", 0, 0 },
	{ "db", 'd', OPT_TEXT, &db, "FILE", "database (default demo.db)", 0, 0 },
	{ "html", 'o', OPT_TEXT, &html, "FILE", "report (default demo.html)", 0, 0 },
	{ 0 },
};

const struct cmd cmd_demo = {
	"demo", "", "Profile the embedded sample model and show everything once", NULL, opts, run,
};
