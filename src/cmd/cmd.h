/*
 * cmd.h - the subcommands: one const struct each, one table in main.c.
 *
 * To add one: write src/cmd/NAME.c exporting `const struct cmd cmd_NAME`, and add a line to the
 * table in main.c; help, usage errors and the list in `moescope help` follow from it. A command
 * returns 0, or fills in e and returns -1: main.c prints "moescope NAME: message" and exits with
 * the error's code. Data goes to stdout, progress and messages to stderr.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include "base/opt.h"

/* How the user called this program, for the commands that messages suggest. */
extern const char *cmd_program;

struct cmd {
	const char *name;
	const char *args;    /* "MODEL [PROMPT]": what follows the options */
	const char *summary; /* one line, no full stop */
	const char *text;    /* paragraphs for `help NAME`, may be NULL */
	const struct opt *opts; /* ends with an empty row */
	int (*run)(int argc, char **argv, struct moe_err *e); /* argv: operands only, after options */
};

#endif
