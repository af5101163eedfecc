/*
 * opt.h - command-line options from a table: parsing, help and error texts have one source.
 *
 * `--name VALUE`, `--name=VALUE`, `-x VALUE`, `--flag`; `--` ends the options; options may follow
 * operands. Values are checked against the row's kind and range when they are read.
 */
#ifndef BASE_OPT_H
#define BASE_OPT_H

#include <stddef.h>

#include <moescope/err.h>

enum opt_kind { OPT_FLAG, OPT_INT, OPT_REAL, OPT_TEXT, OPT_ENUM, OPT_LIST };

struct opt {
	const char *name;   /* without dashes; NULL ends the table */
	char letter;        /* 0 = none */
	enum opt_kind kind;
	void *dst;          /* int *, long long *, double *, const char **, int *, struct opt_list * */
	const char *arg;    /* "FILE", "N"; for OPT_ENUM the words: "counts|routes|full" */
	const char *help;
	double min, max;    /* numbers: allowed range when min < max */
};
/* OPT_FLAG sets an int to 1, OPT_INT a long long, OPT_REAL a double, OPT_TEXT a const char *
 * (borrowed from argv), OPT_ENUM an int to the word's index, OPT_LIST appends. */
struct opt_list { const char *item[64]; size_t n; };

/* Reads argv[1..argc-1]; leaves the operands in argv[0..*n-1]. -1 with MOE_ERR_USAGE in e. */
int opt_parse(const struct opt *opts, int argc, char **argv, int *n, struct moe_err *e);

/* Print the options for `help`, aligned, to a FILE. */
void opt_help(const struct opt *opts, void *file);

#endif
