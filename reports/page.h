/*
 * page.h - what the sections of the page share: numbers, texts, links, tables, figures.
 *
 * Everything that a database holds enters the page through report_text (or view tables in a data
 * link); everything else here is our own literals and numbers.
 */
#ifndef REPORTS_PAGE_H
#define REPORTS_PAGE_H

#include "reports/report.h"

struct report_page {
	struct buf *b;
	const struct report_data *d;
	struct report_plotter *plotter;
	int said_why;     /* why there are no pictures was said */
	size_t n_figure;
};

/* ---- numbers: one way to write each kind ---- */

enum report_unit {
	REPORT_COUNT,    /* 184,220 */
	REPORT_TIMES,    /* 1.31× */
	REPORT_PERCENT,  /* of a fraction: 12.5 % */
	REPORT_SHARE,    /* a figure between 0 and 1: 0.993 */
	REPORT_BITS,     /* 0.412 */
	REPORT_TENTH,    /* 14.2 */
	REPORT_SPEED,    /* tokens per second: 8,412 */
	REPORT_CHANCE,   /* a probability: 0.04, 3e-12 */
	REPORT_SIZE,     /* bytes: 1.3 GB */
	REPORT_AMOUNT,   /* 1.3 billion */
	REPORT_DURATION, /* seconds: 2 min 31 s */
	REPORT_DATE      /* ns since 1970: 2026-01-31 13:05:09 UTC */
};
struct report_str { char s[64]; };
/* NAN gives a dash. Use the text within the full expression: report_num(u, v).s */
struct report_str report_num(enum report_unit u, double v);
struct report_str report_interval(enum report_unit u, double lo, double hi); /* 3.80–4.40× */
struct report_str report_date(int64_t ns);
struct report_str report_nth(uint64_t n); /* 3rd, 11th */

/* ---- texts ---- */

void report_text(struct buf *b, const char *untrusted);
/* The same, or the words of ours if it is empty. */
void report_text_or(struct buf *b, const char *untrusted, const char *if_empty);
void report_domain(struct buf *b, const struct domain_info *d);
/* <a href="#def-KEY">words</a>; KEY is a row of the definitions in notes.c. */
void report_term(struct buf *b, const char *key, const char *words);
const char *report_plural(size_t n); /* "" or "s" */

/* ---- tables ---- */

struct report_col { const char *title, *term; int number; }; /* term: a definition or NULL */
void report_table_open(struct report_page *p, const struct report_col *cols, size_t n,
	const char *caption);
void report_table_close(struct report_page *p);
void report_row_open(struct report_page *p, int pale);
void report_row_close(struct report_page *p);
void report_cell(struct report_page *p, enum report_unit u, double v);
void report_cell_text(struct report_page *p, const char *untrusted);
void report_cell_head(struct report_page *p, unsigned id); /* layer, expert: a row's name */

/* ---- figures ---- */

struct report_figure {
	const char *id;  /* also the name of its files */
	const char *alt; /* what kind of picture of what, in words */
	enum report_script script;
	/* Fill in size, variables, tics and data; narrow: for a telephone. */
	void (*draw)(const struct report_data *d, size_t arg, int narrow, struct report_plot *plot);
	void (*table)(struct report_page *p, size_t arg); /* the same data as a table */
	size_t arg;
};
/* The finding (the title) and the caption are HTML of ours with texts already made safe. */
void report_figure(struct report_page *p, const struct report_figure *f, const struct buf *finding,
	const struct buf *caption);
/* Names of layers along x: never more than fit. */
void report_layer_tics(struct report_plot *plot, const char *axis, const struct view_layers *l,
	size_t most);
/* Every how many experts along x a name fits: a power of two. */
unsigned report_column_step(unsigned columns, int narrow);
/* A link that saves a view's table as CSV. */
void report_csv_link(struct report_page *p, const char *file, const struct view_table *t);

/* ---- findings that more than one section needs ---- */

/* Index of the layer with the highest max/mean, or n if there is none with data. */
size_t report_worst_layer(const struct view_layers *l);
unsigned report_max_experts(const struct view_layers *l);
/* Load of an expert on all text, NAN if unknown: beside its load on a domain. */
double report_overall(const struct report_data *d, unsigned layer, unsigned expert);
/* Index of the layer whose MI is furthest above its null, or n. */
size_t report_best_spec(const struct view_spec *s);

/* ---- sections (page.c has the table) ---- */

void report_first_page(struct report_page *p);  /* first.c */
void report_load_map(struct report_page *p);    /* load.c */
void report_balance(struct report_page *p);     /* load.c */
void report_sorted(struct report_page *p);      /* load.c */
void report_compare(struct report_page *p);     /* compare.c */
int report_has_base(const struct report_data *d);
void report_audit_pages(struct report_page *p); /* audit.c */
int report_has_audit(const struct report_data *d);
void report_beside(struct report_page *p, const char *section); /* beside.c */
void report_lorenz(struct report_page *p);      /* even.c */
void report_course(struct report_page *p);      /* even.c */
void report_capacity(struct report_page *p);    /* whatif.c */
void report_prune(struct report_page *p);       /* whatif.c */
void report_caches(struct report_page *p);      /* whatif.c */
void report_aware(struct report_page *p);       /* whatif.c */
void report_places(struct report_page *p);      /* whatif.c */
void report_locality(struct report_page *p);    /* paths.c */
void report_coactivation(struct report_page *p); /* paths.c */
void report_cross(struct report_page *p);       /* paths.c */
void report_words(struct report_page *p);       /* paths.c */
void report_margins(struct report_page *p);     /* paths.c */
void report_pace(struct report_page *p);        /* run.c */
void report_energy(struct report_page *p);      /* run.c */
void report_run(struct report_page *p);         /* run.c */
void report_domains(struct report_page *p);     /* domain.c */
void report_router(struct report_page *p);      /* router.c */
void report_quality(struct report_page *p);     /* router.c */
void report_speed(struct report_page *p);       /* router.c */
void report_definitions(struct report_page *p); /* notes.c */
void report_limits(struct report_page *p);      /* notes.c */
void report_origin(struct report_page *p);      /* notes.c */
int report_has_load(const struct report_data *d);
int report_has_scores(const struct report_data *d);
int report_has_text(const struct report_data *d);

#endif
