/*
 * sql.c - `moescope sql`: questions that no other command answers, in SQL.
 *
 * Read-only throughout. Columns of a table are as wide as the first ROWS_WIDTH rows need; later
 * rows stream by, so a result of any length takes little memory. What comes out of the database may
 * be hostile: it is escaped for where it goes.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/text.h"
#include "cmd/cmd.h"
#include "trace/reader.h"

#define ROWS_WIDTH 1000
#define SQL_MAX ((size_t)1 << 20)
#define CELL_MAX ((size_t)64 << 20)
#define BLOB_SHOWN 16 /* bytes of a blob in a table */

static int json, csv, on_terminal;
static const struct opt opts[] = {
	{ "json", 0, OPT_FLAG, &json, NULL, "an array of objects, one per row", 0, 0 },
	{ "csv", 0, OPT_FLAG, &csv, NULL, "comma-separated values with a head line (RFC 4180)", 0, 0 },
	{ 0 }
};

/* ---- one value ---- */

static void add_hex(struct buf *b, sqlite3_stmt *st, int col, int max)
{
	const unsigned char *p = sqlite3_column_blob(st, col);
	int n = sqlite3_column_bytes(st, col);

	for (int i = 0; i < n && i < max; i++)
		buf_printf(b, "%02x", p[i]);
	if (n > max)
		buf_printf(b, "... (%d bytes)", n);
}

/* digits: 6 for people, 17 (every bit) for programs. */
static void add_real(struct buf *b, double x, int digits)
{
	buf_printf(b, "%.*g", digits, x);
	if (isfinite(x) && !strpbrk(b->data, ".e"))
		buf_str(b, ".0");
}

static void pretty_cell(struct buf *b, sqlite3_stmt *st, int col)
{
	switch (sqlite3_column_type(st, col)) {
	case SQLITE_NULL: break;
	case SQLITE_BLOB: add_hex(b, st, col, BLOB_SHOWN); break;
	case SQLITE_FLOAT: add_real(b, sqlite3_column_double(st, col), 6); break;
	default:
		text_escape(b, (const char *)sqlite3_column_text(st, col),
			(size_t)sqlite3_column_bytes(st, col), TEXT_TERMINAL);
	}
}

static void csv_text(struct buf *b, const char *s, size_t n)
{
	int quote = 0;

	for (size_t i = 0; i < n; i++)
		quote |= strchr(",\"\r\n", s[i]) != NULL;
	if (quote)
		buf_char(b, '"');
	if (n && memchr("=+-@\t\r", s[0], 6)) /* a spreadsheet would run it as a formula */
		buf_char(b, '\'');
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '"')
			buf_char(b, '"');
		buf_char(b, s[i]);
	}
	if (quote)
		buf_char(b, '"');
}

static void csv_cell(struct buf *b, sqlite3_stmt *st, int col)
{
	switch (sqlite3_column_type(st, col)) {
	case SQLITE_NULL: break;
	case SQLITE_INTEGER: buf_printf(b, "%lld", sqlite3_column_int64(st, col)); break;
	case SQLITE_FLOAT: buf_printf(b, "%.17g", sqlite3_column_double(st, col)); break;
	case SQLITE_BLOB: add_hex(b, st, col, INT32_MAX); break;
	default:
		if (on_terminal) {
			struct buf safe;

			buf_init(&safe, CELL_MAX);
			text_escape(&safe, (const char *)sqlite3_column_text(st, col),
				(size_t)sqlite3_column_bytes(st, col), TEXT_TERMINAL);
			csv_text(b, safe.data ? safe.data : "", safe.len);
			buf_free(&safe);
		} else {
			csv_text(b, (const char *)sqlite3_column_text(st, col),
				(size_t)sqlite3_column_bytes(st, col));
		}
	}
}

static void json_text(struct buf *b, const char *s, size_t n)
{
	buf_char(b, '"');
	text_escape(b, s, n, TEXT_JSON);
	buf_char(b, '"');
}

static void json_cell(struct buf *b, sqlite3_stmt *st, int col)
{
	double x;

	switch (sqlite3_column_type(st, col)) {
	case SQLITE_NULL: buf_str(b, "null"); break;
	case SQLITE_INTEGER: buf_printf(b, "%lld", sqlite3_column_int64(st, col)); break;
	case SQLITE_FLOAT:
		x = sqlite3_column_double(st, col);
		if (isfinite(x))
			buf_printf(b, "%.17g", x);
		else
			buf_str(b, "null");
		break;
	case SQLITE_BLOB:
		buf_char(b, '"');
		add_hex(b, st, col, INT32_MAX);
		buf_char(b, '"');
		break;
	default:
		json_text(b, (const char *)sqlite3_column_text(st, col),
			(size_t)sqlite3_column_bytes(st, col));
	}
}

/* ---- rows for programs: printed as they come ---- */

static int flush_row(struct buf *b, struct moe_err *e)
{
	if (b->failed)
		return err_set(e, MOE_ERR_SYS, "a row is larger than %zu bytes, or out of memory",
			CELL_MAX);
	if (fwrite(b->data, 1, b->len, stdout) != b->len)
		return err_errno(e, "writing to standard output");
	buf_clear(b);
	return 0;
}

static const char *column(sqlite3_stmt *st, int i)
{
	const char *s = sqlite3_column_name(st, i);

	return s ? s : "";
}

static int stream(sqlite3_stmt *st, int *rc, struct moe_err *e)
{
	int n = sqlite3_column_count(st), bad = 0;
	long long row = 0;
	struct buf b;

	buf_init(&b, CELL_MAX);
	if (json)
		buf_str(&b, "[");
	for (int i = 0; csv && i < n; i++) {
		buf_str(&b, i ? "," : "");
		csv_text(&b, column(st, i), strlen(column(st, i)));
	}
	buf_str(&b, csv ? "\n" : "");
	while (!bad && (*rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (json)
			buf_str(&b, row++ ? ",\n {" : "\n {");
		for (int i = 0; i < n; i++) {
			buf_str(&b, i ? (json ? ", " : ",") : "");
			if (json) {
				json_text(&b, column(st, i), strlen(column(st, i)));
				buf_str(&b, ": ");
				json_cell(&b, st, i);
			} else {
				csv_cell(&b, st, i);
			}
		}
		buf_str(&b, json ? "}" : "\n");
		bad = flush_row(&b, e);
	}
	if (json)
		buf_str(&b, "\n]\n");
	if (!bad)
		bad = flush_row(&b, e);
	buf_free(&b);
	return bad;
}

/* ---- a table for people ---- */

struct cells {
	char **s;       /* [rows][n], owned */
	char *right;    /* [n]: a column of numbers is aligned to the right */
	size_t *width;  /* [n] */
	size_t n, rows;
};

static void cells_free(struct cells *c)
{
	for (size_t i = 0; i < c->n * c->rows; i++)
		free(c->s[i]);
	free(c->s);
	free(c->right);
	free(c->width);
}

static int cells_init(struct cells *c, size_t n, struct moe_err *e)
{
	memset(c, 0, sizeof *c);
	c->n = n;
	c->s = calloc(n * (ROWS_WIDTH + 1), sizeof *c->s);
	c->right = calloc(n, 1);
	c->width = calloc(n, sizeof *c->width);
	return c->s && c->right && c->width ? 0 : err_nomem(e, n * ROWS_WIDTH * sizeof *c->s,
		"a table");
}

/* Takes over the text in b as cell (row, col). */
static int cells_put(struct cells *c, size_t col, struct buf *b, struct moe_err *e)
{
	char *s = b->failed ? NULL : strdup(b->data ? b->data : "");
	size_t w;

	if (!s)
		return err_set(e, MOE_ERR_SYS, "a cell is larger than %zu bytes, or out of memory",
			CELL_MAX);
	c->s[c->rows * c->n + col] = s;
	w = text_width(s);
	c->width[col] = w > c->width[col] ? w : c->width[col];
	return 0;
}

static void print_cell(const struct cells *c, size_t col, const char *s)
{
	size_t w = text_width(s), pad = w < c->width[col] ? c->width[col] - w : 0;
	int last = col + 1 == c->n;

	if (c->right[col])
		printf("%*s%s%s", (int)pad, "", s, last ? "\n" : "  ");
	else
		printf("%s%*s%s", s, last ? 0 : (int)pad, "", last ? "\n" : "  ");
}

static void print_cells(const struct cells *c)
{
	for (size_t i = 0; i < c->rows * c->n; i++) {
		print_cell(c, i % c->n, c->s[i]);
		if (i == c->n - 1)
			for (size_t k = 0; k < c->n; k++) {
				for (size_t j = 0; j < c->width[k]; j++)
					putchar('-');
				fputs(k + 1 == c->n ? "\n" : "  ", stdout);
			}
	}
}

static int table(sqlite3_stmt *st, int *rc, struct moe_err *e)
{
	size_t n = (size_t)sqlite3_column_count(st), i;
	int bad, printed = 0;
	struct cells c;
	struct buf b;

	buf_init(&b, CELL_MAX);
	bad = cells_init(&c, n, e);
	for (i = 0; !bad && i < n; i++) {
		buf_clear(&b);
		text_escape(&b, column(st, (int)i), strlen(column(st, (int)i)), TEXT_TERMINAL);
		bad = cells_put(&c, i, &b, e);
	}
	c.rows = !bad;
	while (!bad && (*rc = sqlite3_step(st)) == SQLITE_ROW) {
		for (i = 0; !bad && i < n; i++) {
			int type = sqlite3_column_type(st, (int)i);

			buf_clear(&b);
			pretty_cell(&b, st, (int)i);
			if (c.rows == 1)
				c.right[i] = type == SQLITE_INTEGER || type == SQLITE_FLOAT;
			if (printed)
				print_cell(&c, i, b.data ? b.data : "");
			else
				bad = cells_put(&c, i, &b, e);
		}
		c.rows += !printed && !bad;
		if (c.rows == ROWS_WIDTH + 1 && !printed) {
			print_cells(&c);
			printed = 1;
		}
	}
	if (!bad && !printed)
		print_cells(&c);
	buf_free(&b);
	cells_free(&c);
	return bad;
}

/* ---- the command ---- */

static int read_stdin(struct buf *b, struct moe_err *e)
{
	char part[4096];
	size_t n;

	while ((n = fread(part, 1, sizeof part, stdin)) > 0)
		buf_add(b, part, n);
	if (ferror(stdin))
		return err_errno(e, "reading standard input");
	if (b->failed)
		return err_set(e, MOE_ERR_INPUT, "the SQL is longer than %zu bytes", SQL_MAX);
	return 0;
}

static int sql_fail(sqlite3 *db, struct moe_err *e)
{
	int kind = sqlite3_errcode(db) & 0xff;

	return err_set(e, kind == SQLITE_NOMEM || kind == SQLITE_IOERR ||
		kind == SQLITE_BUSY ? MOE_ERR_SYS : MOE_ERR_INPUT, "%s", sqlite3_errmsg(db));
}

static int run_all(struct reader *r, const char *sql, struct moe_err *e)
{
	sqlite3 *db = reader_db(r);
	int bad = 0;

	while (!bad && *sql) {
		sqlite3_stmt *st = NULL;
		int rc = sqlite3_prepare_v2(db, sql, -1, &st, &sql);

		if (rc)
			return sql_fail(db, e);
		if (!st)
			continue;
		if (!sqlite3_stmt_readonly(st))
			bad = err_set(e, MOE_ERR_INPUT, "only statements that read are allowed");
		else if (!sqlite3_column_count(st))
			rc = sqlite3_step(st);
		else
			bad = json || csv ? stream(st, &rc, e) : table(st, &rc, e);
		if (!bad && rc != SQLITE_DONE && rc != SQLITE_ROW)
			bad = sql_fail(db, e);
		sqlite3_finalize(st);
	}
	return bad;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct reader *r = NULL;
	struct buf sql;
	int bad = -1;

	if (argc < 1 || argc > 2)
		return err_set(e, MOE_ERR_USAGE, "expected DB [SQL], got %d operands", argc);
	if (json && csv)
		return err_set(e, MOE_ERR_USAGE, "--json and --csv exclude each other");
	on_terminal = isatty(STDOUT_FILENO);
	buf_init(&sql, SQL_MAX);
	if (argc == 2)
		buf_str(&sql, argv[1]);
	if (argc == 1 && read_stdin(&sql, e))
		goto out;
	r = reader_open(argv[0], e);
	if (r)
		bad = run_all(r, sql.data ? sql.data : "", e);
out:
	reader_close(r);
	buf_free(&sql);
	return bad;
}

const struct cmd cmd_sql = {
	.name = "sql",
	.args = "DB [SQL]",
	.summary = "Run SQL on a database, with the routing table function",
	.text = "Reads SQL from standard input when none is given. The database is opened read-only; "
	"a\n"
		"live run may be read while it is written. The tables are described in docs/TRACE.md; the\n"
		"table function `routing` has one row per pick:\n\n"
		"  routing(run, sequence, seq, pos, token, phase, domain, layer, rank, expert, weight, margin)\n\n"
		"  moescope sql run.db \"SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2\"\n",
	.opts = opts,
	.run = run,
};
