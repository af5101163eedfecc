/*
 * main.c - the command table, `help`, and the only place that prints an error and exits.
 *
 * Exit status: 0 success; 1 a check that was asked for found something; 2 wrong usage; 3 bad
 * input (file, database, text); 4 the system refused (memory, disk, permission); 130 interrupted.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/show.h"
#include "version.h"

const char *cmd_program = "moescope";

/* To add a command: a file in src/cmd/, a declaration and a row here. Order is that of `help`. */
extern const struct cmd cmd_inspect, cmd_run, cmd_serve, cmd_profile, cmd_top, cmd_report, cmd_stat, cmd_sql,
	cmd_import, cmd_export, cmd_quantize, cmd_bench, cmd_demo, cmd_whatif, cmd_plan, cmd_diff, cmd_check,
	cmd_audit;
static const struct cmd *const commands[] = {
	&cmd_demo,
	&cmd_run,
	&cmd_serve,
	&cmd_profile,
	&cmd_top,
	&cmd_stat,
	&cmd_check,
	&cmd_diff,
	&cmd_whatif,
	&cmd_plan,
	&cmd_sql,
	&cmd_report,
	&cmd_import,
	&cmd_export,
	&cmd_inspect,
	&cmd_quantize,
	&cmd_bench,
	&cmd_audit,
	NULL,
};

static const struct cmd *find(const char *name)
{
	for (size_t i = 0; commands[i]; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static void help_all(FILE *f)
{
	fputs("moescope: routing analytics and expert-utilisation profiler for Mixture-of-Experts "
	      "models\n\nusage: moescope COMMAND [OPTIONS] ...\n\n", f);
	for (size_t i = 0; commands[i]; i++)
		fprintf(f, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\n`moescope help COMMAND` or `COMMAND --help` tells more; so does `man moescope`.\n", f);
}

static void help_one(FILE *f, const struct cmd *c)
{
	fprintf(f, "usage: moescope %s [OPTIONS] %s\n\n%s.\n", c->name, c->args, c->summary);
	if (c->text)
		fprintf(f, "\n%s", c->text);
	if (c->opts && c->opts->name) {
		fputs("\nOptions:\n", f);
		opt_help(c->opts, f);
	}
}

/* Output errors (a full disk, a closed pipe) show when the buffer is flushed. */
static int finish(const char *name, int status)
{
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "moescope %s: writing to standard output failed\n", name);
		return status ? status : MOE_ERR_SYS;
	}
	return status;
}

static int run_command(const struct cmd *c, int argc, char **argv)
{
	static const struct opt none[] = { { 0 } };
	struct moe_err e = { 0 };
	int n, status;

	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help_one(stdout, c);
			return finish(c->name, 0);
		}
	if (opt_parse(c->opts ? c->opts : none, argc, argv, &n, &e)) {
		fprintf(stderr, "moescope %s: %s (see `moescope help %s`)\n", c->name, e.msg, c->name);
		return MOE_ERR_USAGE;
	}
	status = c->run(n, argv, &e);
	if (status < 0) {
		fflush(stdout);
		fprintf(stderr, "moescope %s: %s\n", c->name, e.msg);
		status = e.code ? (int)e.code : MOE_ERR_SYS;
	}
	return finish(c->name, status);
}

int main(int argc, char **argv)
{
	const struct cmd *c;

	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a full disk: an error, not the end */
	if (argc > 0 && argv[0][0])
		cmd_program = argv[0];
	if (argc < 2) {
		help_all(stderr);
		return MOE_ERR_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
		printf("moescope %s (%s)\n", MOESCOPE_VERSION, MOESCOPE_COMMIT);
		return finish("version", 0);
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		c = argc > 2 ? find(argv[2]) : NULL;
		if (argc > 2 && !c) {
			fprintf(stderr, "moescope: no command '%s'; `moescope help` lists them\n",
				show(argv[2]).s);
			return MOE_ERR_USAGE;
		}
		if (c)
			help_one(stdout, c);
		else
			help_all(stdout);
		return finish("help", 0);
	}
	c = find(argv[1]);
	if (!c) {
		fprintf(stderr, "moescope: no command '%s'; `moescope help` lists them\n", show(argv[1]).s);
		return MOE_ERR_USAGE;
	}
	return run_command(c, argc - 1, argv + 1);
}
