/* top.c - `moescope top`: the dashboard, on a live or a finished database. */
#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "tui/tui.h"

static int once, text, json, wait, no_mouse, light, palette;
static long long run_id, width = 80, height = 24;
static const char *baseline;

static const struct opt opts[] = {
	{ .name = "run", .kind = OPT_INT, .dst = &run_id, .arg = "ID",
		.help = "the run to start with (default: the newest)", .min = 1, .max = 9e18 },
	{ .name = "baseline", .kind = OPT_TEXT, .dst = &baseline, .arg = "RUN",
		.help = "compare with this run (key b): its number, another DB (its newest run), or "
		"DB:ID" },
	{ .name = "no-mouse", .kind = OPT_FLAG, .dst = &no_mouse,
		.help = "leave the mouse to the terminal" },
	{ .name = "palette", .kind = OPT_ENUM, .dst = &palette, .arg = "default|safe",
		.help = "safe: colours that people who see no red or no green tell apart (key c)" },
	{ .name = "light", .kind = OPT_FLAG, .dst = &light, .help = "colours for a light background" },
	{ .name = "wait", .kind = OPT_FLAG, .dst = &wait, .help = "wait for the file to appear" },
	{ .name = "once", .kind = OPT_FLAG, .dst = &once, .help = "print once and exit" },
	{ .name = "text", .kind = OPT_FLAG, .dst = &text,
		.help = "with --once: the overview as plain text (default)" },
	{ .name = "json", .kind = OPT_FLAG, .dst = &json,
		.help = "with --once: everything as one JSON object" },
	{ .name = "width", .kind = OPT_INT, .dst = &width, .arg = "N", .min = 20, .max = 1000,
		.help = "columns of --once --text (default 80)" },
	{ .name = "height", .kind = OPT_INT, .dst = &height, .arg = "N", .min = 6, .max = 500,
		.help = "lines of --once --text (default 24)" },
	{ 0 },
};

/* After the terminal is restored: end as the signal would have ended the program. */
static int end_by(int sig)
{
	if (sig == SIGINT)
		return 130;
	signal(sig, SIG_DFL);
	raise(sig);
	return 128 + sig;
}

/* "3", "other.db", "other.db:3". A file whose name looks like the last is taken as it is. */
static int parse_baseline(const char *s, struct tui_opt *o, struct moe_err *e)
{
	static char file[4096];
	const char *colon = strrchr(s, ':'), *digits = colon ? colon + 1 : s;
	struct stat st;
	char *end;
	long long id;

	errno = 0;
	id = strtoll(digits, &end, 10);
	if (!*digits || *end || id < 1 || errno || !isdigit((unsigned char)*digits) ||
	    (colon && !stat(s, &st)))
		digits = NULL;
	o->want.base = digits ? id : TUI_NEWEST;
	if (digits == s)
		return 0;
	if ((size_t)snprintf(file, sizeof file, "%.*s", digits ? (int)(colon - s) : (int)strlen(s),
	    s) >= sizeof file)
		return err_set(e, MOE_ERR_USAGE, "--baseline: a name longer than %zu bytes",
			sizeof file - 1);
	if (stat(file, &st))
		return err_set(e, MOE_ERR_INPUT, "--baseline %s: neither a run's number nor a database: %s",
			s, strerror(errno));
	o->base_path = file;
	return 0;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct tui_opt o = { .want = { .run = run_id, .domain = -1 }, .wait = wait,
		.no_mouse = no_mouse, .light = light, .palette = palette };
	struct stat st;
	int rc;

	if (argc != 1)
		return err_set(e, MOE_ERR_USAGE, "name one database");
	if (baseline && parse_baseline(baseline, &o, e))
		return -1;
	if (!once && (text || json))
		return err_set(e, MOE_ERR_USAGE, "--text and --json go with --once");
	if (text && json)
		return err_set(e, MOE_ERR_USAGE, "--text or --json, not both");
	if (!wait && stat(argv[0], &st)) {
		err_errno(e, "%s", argv[0]);
		e->code = MOE_ERR_INPUT;
		return -1;
	}
	setlocale(LC_CTYPE, "");
	if (json)
		return tui_once_json(argv[0], &o, stdout, e);
	if (once)
		return tui_once_text(argv[0], &o, (int)width, (int)height, stdout, e);
	rc = tui_run(argv[0], &o, e);
	return rc > 0 ? end_by(rc) : rc;
}

extern const struct cmd cmd_top;
const struct cmd cmd_top = {
	.name = "top",
	.args = "DB",
	.summary = "The dashboard, on a live or a finished database",
	.text = "Screens: 1 overview, 2 heat map, 3 layer, 4 expert, 5 domains, 6 stream, 7 what-if,\n"
		"8 alarms. Press ? for the keys.\n"
		"Blue is below an expert's fair share, red above, grey means no data. NO_COLOR is\n"
		"respected; characters then carry the values. Without a terminal use --once.\n",
	.opts = opts,
	.run = run,
};
