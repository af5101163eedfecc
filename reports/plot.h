/*
 * plot.h - pictures by gnuplot, run as a child process.
 *
 * The scripts are fixed text (reports/plots/, compiled in). What varies reaches gnuplot only as
 * numbers: variables in front of the script and rows of a data file. Texts from a database are
 * put in afterwards, by svg.c, where the script wrote LABEL000, LABEL001 and so on.
 *
 * Everything happens in one private directory, removed at the end, or in the one that --keep
 * names: NAME.gp (complete, run it with gnuplot), NAME.dat, NAME.svg as gnuplot drew it. What is
 * kept has the real names in it, escaped and in single quotes, where gnuplot substitutes nothing.
 * gnuplot reads no start-up file, has no input, and is killed when it takes too long. After the
 * first failure no further picture is tried: the page says why once and shows its tables.
 */
#ifndef REPORTS_PLOT_H
#define REPORTS_PLOT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* To add a picture: a script in reports/plots/, a name here, a row in plot.c. */
enum report_script {
	REPORT_PLOT_HEAT,   /* rows x columns of relative load */
	REPORT_PLOT_JSD,    /* domain x domain, bits */
	REPORT_PLOT_BARS,   /* max/mean per layer */
	REPORT_PLOT_SORTED, /* relative load by rank, a line per layer */
	REPORT_PLOT_RANGE,  /* value with interval per layer, against a null */
	REPORT_PLOT_DOTS,   /* value with interval per domain, against a null */
	REPORT_PLOT_LEVEL,  /* value per layer and its reference */
	REPORT_PLOT_TEXT,   /* one bar per domain and the overall figure */
	REPORT_PLOT_LINES,  /* lines over a common axis: reports/show.h */
	REPORT_PLOT_SPANS   /* a span with its middle and its end per domain */
};

#define REPORT_MAX_VAR 24
struct report_plot {
	const char *name;         /* file name without ending: a literal of ours */
	enum report_script script;
	unsigned width, height;   /* pixels at 100 % */
	struct { const char *key; double value; } var[REPORT_MAX_VAR];
	size_t n_var;
	struct buf tics;          /* more lines in front of the script; numbers and LABELnnn only */
	struct buf data;          /* rows of numbers */
	const char *const *label; /* [n_label] untrusted texts, or NULL */
	size_t n_label;
	size_t label_columns;
	const char *alt;          /* untrusted: what the picture shows, in words */
	pid_t child;              /* gnuplot at work on it, 0 = none */
	int64_t begun;
};
void report_plot_init(struct report_plot *p, const char *name, enum report_script script);
void report_plot_free(struct report_plot *p);
void report_plot_var(struct report_plot *p, const char *key, double value);

struct report_plotter {
	char dir[512];
	int keep;           /* the directory stays */
	unsigned limit_ms;  /* for one picture */
	unsigned n_drawn;
	int off;            /* no pictures are wanted; not a failure */
	const volatile sig_atomic_t *stop; /* set by a signal: give up; may be NULL */
	int failed;         /* no further attempts */
	struct moe_err why; /* of the failure */
	char version[64];   /* "gnuplot 5.4 patchlevel 4", once a picture is drawn */
};

/* keep: the directory to leave data and scripts in (made if missing), or NULL for a private one.
 * -1 if there is none to be had; the plotter then counts as failed. */
int report_plotter_open(struct report_plotter *p, const char *keep, struct moe_err *e);
void report_plotter_close(struct report_plotter *p);

/* Run a program in dir, its output to the file log there: no input, no open file of ours, a limit
 * of time and of `most` bytes per file. Its exit status (127: there is no such program), or -1 and
 * why. */
int report_child(const char *dir, const char *const *argv, const char *log, unsigned limit_ms,
	size_t most, const volatile sig_atomic_t *stop, struct moe_err *why);

/* Two steps, so that pictures are drawn at the same time: begin all, then end each, which appends
 * its cleaned SVG to out. Every picture that was begun, with success or not, must be ended; begin
 * never fails, end returns -1 where there is no picture, and p->why says why. */
void report_plot_begin(struct report_plotter *p, struct report_plot *plot);
int report_plot_end(struct report_plotter *p, struct report_plot *plot, struct buf *out);

#endif
