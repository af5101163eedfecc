/* exchange.c - see exchange.h: the table of formats. */
#include "exchange/exchange.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"

/* To add a format: its functions in a file of its own, declared in exchange.h, and a row here; a
 * line in docs/TRACE.md and in the manual. Detection asks from top to bottom. */
static const struct exchange_format formats[] = {
	{ "counts-csv", "layer_id,expert_id,count: picks by expert", ".csv", 0, counts_csv_detect,
		counts_csv_import, counts_csv_export },
	{ "csv", "a decision a line: run,sequence,position,token,layer,experts,weights", ".csv", 0,
		decisions_csv_detect, decisions_csv_import, decisions_csv_export },
	{ "jsonl", "a decision a line, as a JSON object with the same keys", ".jsonl", 0,
		decisions_jsonl_detect, decisions_jsonl_import, decisions_jsonl_export },
	{ "npz", "NumPy arrays: counts, and choices, weights, margins by token", ".npz", 1, NULL, NULL,
		npz_export },
};
enum { N_FORMAT = sizeof formats / sizeof *formats };

const struct exchange_format *exchange_at(size_t i)
{
	return i < N_FORMAT ? &formats[i] : NULL;
}

const struct exchange_format *exchange_find(const char *name)
{
	for (size_t i = 0; i < N_FORMAT; i++)
		if (!strcmp(formats[i].name, name))
			return &formats[i];
	return NULL;
}

const struct exchange_format *exchange_detect(const char *path, struct moe_err *e)
{
	char head[4096], *p = head;
	struct stat st;
	FILE *f;
	size_t n;

	if (stat(path, &st)) {
		err_errno(e, "%s", path);
		if (errno == ENOENT)
			e->code = MOE_ERR_INPUT;
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		err_set(e, MOE_ERR_INPUT, "%s: not a regular file; a file is read twice", path);
		return NULL;
	}
	f = fopen(path, "rb");
	if (!f) {
		err_errno(e, "%s", path);
		return NULL;
	}
	n = fread(head, 1, sizeof head, f);
	fclose(f);
	if (n >= 3 && !memcmp(head, "\xef\xbb\xbf", 3))
		p += 3, n -= 3;
	for (size_t i = 0; i < N_FORMAT; i++)
		if (formats[i].detect && formats[i].detect(p, n))
			return &formats[i];
	err_set(e, MOE_ERR_INPUT, "%s: no format that can be imported begins like this; --format names "
		"one", path);
	return NULL;
}
