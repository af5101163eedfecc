/* export.c - `moescope export DB`: a run in another program's form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/show.h"
#include "exchange/exchange.h"

static const char *format = "csv", *out_path, *domain;
static long long run_id;
static int phase = -1;

static const struct opt opts[] = {
	{ "format", 0, OPT_TEXT, &format, "NAME", "counts-csv, csv, jsonl or npz; default csv", 0, 0 },
	{ "output", 'o', OPT_TEXT, &out_path, "FILE", "where to write it; default standard output",
		0, 0 },
	{ "run", 0, OPT_INT, &run_id, "N", "which run; default the newest", 1, 9e15 },
	{ "domain", 0, OPT_TEXT, &domain, "NAME", "only sequences of this domain", 0, 0 },
	{ "phase", 0, OPT_ENUM, &phase, "prefill|decode", "only tokens read in, or generated", 0, 0 },
	{ 0 }
};

static int find_domain(struct reader *r, int64_t run, int64_t *id, struct moe_err *e)
{
	struct domain_info *d = NULL;
	size_t n = 0;

	*id = -1;
	if (!domain)
		return 0;
	if (reader_domains(r, run, &d, &n, e))
		return -1;
	for (size_t i = 0; i < n; i++)
		if (d[i].id && !strcmp(d[i].name, domain))
			*id = d[i].id;
	free(d);
	return *id < 0 ? err_set(e, MOE_ERR_USAGE, "no domain '%s' in run %lld", domain,
		(long long)run) : 0;
}

/* Written beside the name and put in place when it is whole: what was there stays until then. */
static int to_file(const struct exchange_format *f, struct exchange_out *out, struct moe_err *e)
{
	char *part = malloc(strlen(out_path) + 32);
	struct stat st;
	int bad = -1;

	if (!part)
		return err_nomem(e, strlen(out_path), "a file name");
	sprintf(part, "%s.%ld.part", out_path, (long)getpid());
	if (!stat(out_path, &st) && !S_ISREG(st.st_mode)) {
		err_set(e, MOE_ERR_INPUT, "%s: not a regular file", out_path);
		goto out;
	}
	out->to = fopen(part, "wb");
	if (!out->to) {
		err_errno(e, "%s", part);
		goto out;
	}
	bad = f->export(out, e);
	if ((fclose(out->to) && !bad) || (!bad && rename(part, out_path)))
		bad = err_errno(e, "%s: writing", out_path);
	if (bad)
		unlink(part);
out:
	free(part);
	return bad;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	const struct exchange_format *f = exchange_find(format);
	struct exchange_out out = { .to = stdout, .f = { .run = run_id, .phase = phase } };
	struct run_info *u = malloc(sizeof *u);
	int bad = -1;

	if (!u) {
		err_nomem(e, sizeof *u, "a run");
		goto out;
	}
	if (argc != 1) {
		err_set(e, MOE_ERR_USAGE, "one database is needed, %d were named", argc);
		goto out;
	}
	if (!f || !f->export) {
		err_set(e, MOE_ERR_USAGE, "no format '%s' to export; there are counts-csv, csv, jsonl, npz",
			format);
		goto out;
	}
	if (f->seeks && (!out_path || !strcmp(out_path, "-"))) {
		err_set(e, MOE_ERR_USAGE, "%s needs --output FILE: it cannot go to standard output",
			format);
		goto out;
	}
	out.r = reader_open(argv[0], e);
	if (!out.r || reader_run(out.r, run_id, u, e))
		goto out;
	out.f.run = u->id;
	if (find_domain(out.r, u->id, &out.f.domain, e))
		goto out;
	if (!strcmp(u->detail, "counts") && strcmp(format, "counts-csv") && strcmp(format, "npz")) {
		err_set(e, MOE_ERR_INPUT, "%s: run %lld has counts only, no decisions; --format counts-csv "
			"or npz", argv[0], (long long)u->id);
		goto out;
	}
	bad = out_path && strcmp(out_path, "-") ? to_file(f, &out, e) : f->export(&out, e);
out:
	reader_close(out.r);
	free(u);
	return bad;
}

const struct cmd cmd_export = {
	.name = "export",
	.args = "DB",
	.summary = "Write a run as CSV, JSON lines or NumPy arrays",
	.text =
		"Formats: counts-csv (layer_id,expert_id,count), csv and jsonl (a decision a line, which\n"
		"`moescope import` reads back), npz (arrays for NumPy; needs --output). docs/TRACE.md has\n"
		"the forms.\n",
	.opts = opts,
	.run = run,
};
