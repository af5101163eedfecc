/*
 * check.c - `moescope check`: the alarm rules as a test. Exit status 1 if one stands whose severity
 * is at least the one asked for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/cmd.h"
#include "cmd/select.h"
#include "cmd/show.h"

#define RULES_MOST (1 << 20) /* bytes of a rules file */

static struct {
	const char *rules, *domain;
	struct opt_list set;
	long long run, scan;
	int fail, phase, list, sql, json, csv;
} o = { .fail = VIEW_ALARM, .phase = -1, .scan = 65536 };

static const struct opt opts[] = {
	{ "rules", 0, OPT_TEXT, &o.rules, "FILE", "thresholds: lines of rule, severity, value or off",
		0, 0 },
	{ "set", 0, OPT_LIST, &o.set, "RULE", "one threshold as \"rule severity value\"; may be "
		"repeated", 0, 0 },
	{ "fail", 0, OPT_ENUM, &o.fail, "note|warning|alarm", "the least severity that fails (default "
		"alarm)", 0, 0 },
	{ "list", 0, OPT_FLAG, &o.list, NULL, "list the rules with their thresholds", 0, 0 },
	{ "sql", 0, OPT_FLAG, &o.sql, NULL, "print the SQL that shows each one's evidence", 0, 0 },
	{ "scan", 0, OPT_INT, &o.scan, "N", "tokens read for rules about decisions (default 65536)",
		512, 1e15 },
	{ "run", 0, OPT_INT, &o.run, "N", "the run to read; default the newest", 1, 1e15 },
	{ "domain", 0, OPT_TEXT, &o.domain, "NAME", "only sequences of this domain", 0, 0 },
	{ "phase", 0, OPT_ENUM, &o.phase, "prefill|decode", "only tokens read in, or generated", 0, 0 },
	{ "json", 0, OPT_FLAG, &o.json, NULL, "print one JSON array of objects", 0, 0 },
	{ "csv", 0, OPT_FLAG, &o.csv, NULL, "print CSV (RFC 4180)", 0, 0 },
	{ NULL, 0, 0, NULL, NULL, NULL, 0, 0 },
};

static int read_rules(const char *path, struct view_limits *out, struct moe_err *e)
{
	FILE *f = fopen(path, "rb");
	char *text = malloc(RULES_MOST + 1);
	size_t n;
	int status = -1;

	if (!f || !text) {
		if (f)
			err_nomem(e, RULES_MOST, "a rules file");
		else
			err_set(e, errno == ENOENT ? MOE_ERR_INPUT : MOE_ERR_SYS, "opening %s: %s",
				show(path).s, strerror(errno));
		goto out;
	}
	n = fread(text, 1, RULES_MOST + 1, f);
	if (n > RULES_MOST) {
		err_set(e, MOE_ERR_INPUT, "%s: longer than %d bytes", show(path).s, RULES_MOST);
		goto out;
	}
	if (ferror(f)) {
		err_errno(e, "reading %s", show(path).s);
		goto out;
	}
	text[n] = 0;
	if (strlen(text) != n) {
		err_set(e, MOE_ERR_INPUT, "%s: not a text, byte %zu is 0", show(path).s, strlen(text));
		goto out;
	}
	status = view_limits_parse(text, show(path).s, out, e);
out:
	if (f)
		fclose(f);
	free(text);
	return status;
}

static int limits(struct view_limits *l, struct moe_err *e)
{
	if (o.rules && read_rules(o.rules, l, e))
		return -1;
	for (size_t i = 0; i < o.set.n; i++)
		if (view_limits_parse(o.set.item[i], "--set", l, e)) {
			e->code = MOE_ERR_USAGE;
			return -1;
		}
	return 0;
}

static int print(struct view_table *t, struct moe_err *e)
{
	return view_table_print(t, o.json ? VIEW_JSON : o.csv ? VIEW_CSV : VIEW_PRETTY, stdout, e);
}

static void put_sql(const struct view_alarms *a)
{
	for (size_t i = 0; i < a->n; i++) {
		struct buf b;

		buf_init(&b, 4096);
		text_escape(&b, a->alarm[i].sql, strlen(a->alarm[i].sql), TEXT_TERMINAL);
		printf("\n-- %s", a->alarm[i].kind);
		if (a->alarm[i].layer >= 0)
			printf(", layer %d", a->alarm[i].layer);
		printf("\n%s;\n", b.data ? b.data : "");
		buf_free(&b);
	}
}

/* 1 if something stands that fails. */
static int judge(struct reader *r, const struct load_filter *f, const struct view_limits *l,
	struct moe_err *e)
{
	struct view_alarms a;
	struct view_table t;
	size_t bad = 0;
	int status;

	if (view_alarms_with(r, f, l, (uint64_t)o.scan, &a, e))
		return -1;
	for (size_t i = 0; i < a.n; i++)
		bad += (int)a.alarm[i].severity >= o.fail;
	status = view_alarms_table(&a, &t, e);
	if (!status) {
		status = a.n || o.json || o.csv ? print(&t, e) : 0;
		view_table_free(&t);
	}
	if (!status && o.sql && !o.json && !o.csv)
		put_sql(&a);
	if (!status)
		fprintf(stderr, "%s: %zu of %zu finding%s fail%s\n", bad ? "FAILED" : "passed", bad, a.n,
			a.n == 1 ? "" : "s", bad == 1 ? "s" : "");
	view_alarms_free(&a);
	return status ? -1 : bad > 0;
}

/* A run without decisions must not pass: there is nothing to judge. */
static int empty(struct reader *r, const struct load_filter *f, struct moe_err *e)
{
	struct view_layers v;
	uint64_t tokens = 0;

	if (view_layers(r, f, &v, e))
		return -1;
	for (size_t i = 0; i < v.n; i++)
		tokens += v.layer[i].tokens;
	view_layers_free(&v);
	return tokens ? 0 : err_set(e, MOE_ERR_INPUT,
		"no decisions in this selection: nothing to check");
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct load_filter f = { .run = o.run, .domain = -1, .phase = o.phase };
	struct view_limits l = { 0 };
	struct view_table t;
	struct reader *r = NULL;
	int status = -1;

	if (o.json && o.csv)
		return err_set(e, MOE_ERR_USAGE, "either --json or --csv");
	if (argc != (o.list ? 0 : 1))
		return err_set(e, MOE_ERR_USAGE, "%s, %d operands were given", o.list ?
			"--list takes no database" : "one database is needed", argc);
	if (limits(&l, e))
		goto out;
	if (o.list) {
		status = view_rules_table(&l, &t, e) ? -1 : print(&t, e);
		view_table_free(&t);
		goto out;
	}
	r = reader_open(argv[0], e);
	if (!r || select_run(r, &f.run, e) || select_domain(r, f.run, o.domain, &f.domain, e) ||
	    empty(r, &f, e))
		goto out;
	status = judge(r, &f, &l, e);
out:
	view_limits_free(&l);
	reader_close(r);
	return status;
}

const struct cmd cmd_check = {
	"check", "DB", "The alarm rules as a test: exit status 1 if one stands",
	"Prints what stands, worst first. A rules file has lines of a rule, a severity (note, warning,\n"
	"alarm) and a threshold or off; # begins a comment.\n",
	opts, run,
};
