/* table.h - filling in a struct view_table; for the views only. Printing is in table.c too. */
#ifndef VIEW_TABLE_H
#define VIEW_TABLE_H

#include "view/view.h"

/* Columns that every table begins with; people see the run in the head line instead. */
#define VIEW_HEAD \
	{ "run", NULL, VIEW_INT, 0 }, { "domain", NULL, VIEW_TEXT, 0 }, \
	{ "phase", NULL, VIEW_TEXT, 0 }
enum { VIEW_N_HEAD = 3 };

/* An empty table with these columns; cols must outlive it. */
void view_table_init(struct view_table *t, const struct view_col *cols, size_t n_col);

/* A new row of unset cells, valid until the next call; NULL if there is no memory. */
struct view_cell *view_table_row(struct view_table *t, struct moe_err *e);

void view_set_int(struct view_cell *c, int64_t v);
void view_set_real(struct view_cell *c, double v); /* NaN and infinities leave the cell unset */
int view_set_text(struct view_cell *c, const char *s, struct moe_err *e); /* NULL: unset */

/* Fill in run, domain (NULL = all) and phase (-1 = both) of a row that starts with VIEW_HEAD. */
int view_table_head(struct view_cell *row, int64_t run, const char *domain, int phase,
	struct moe_err *e);

/* The name of the domain that a filter selects, into buf; NULL if it selects all. */
const char *view_domain_name(struct reader *r, const struct load_filter *f, char *buf, size_t size);

#endif
