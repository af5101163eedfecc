/*
 * audit_verify.c - `moescope audit verify` and `checkpoint`.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit/verify.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/audit.h"
#include "cmd/audit_say.h"
#include "cmd/show.h"

static void say(void *ctx, enum finding f, const char *text)
{
	(void)ctx;
	printf("%s: %s\n", finding_name(f), show(text).s);
}

static void collect(void *ctx, enum finding f, const char *text)
{
	struct buf *b = ctx;

	buf_printf(b, "%s{\"kind\": \"%s\", \"text\": \"", b->len ? ", " : "", finding_name(f));
	text_escape(b, text, strlen(text), TEXT_JSON);
	buf_str(b, "\"}");
}

/* An error of this command is 3, whatever it was: 1 and 2 are verdicts. */
static int error3(struct moe_err *e)
{
	struct buf why;

	e->code = MOE_ERR_INPUT;
	if (!audit_o.json)
		return -1;
	buf_init(&why, 65536);
	text_escape(&why, e->msg, strlen(e->msg), TEXT_JSON);
	printf(
		"{\"verdict\": \"ERROR\", \"status\": 3, \"error\": \"%s\"}\n", why.data ? why.data : "");
	buf_free(&why);
	return -1;
}

static void on_bus(int sig)
{
	static const char text[] =
		"moescope audit: the file was cut, or its disk failed, while it was read\n";

	(void)sig;
	if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
		_exit(MOE_ERR_INPUT);
	_exit(MOE_ERR_INPUT);
}

int audit_verify(int argc, char **argv, struct moe_err *e)
{
	struct verify_opt o = { .n_key = 1, .deep = audit_o.deep, .headers_only = audit_o.headers,
		.map = 1 };
	struct verify_result v;
	struct note_key key;
	struct reader *r;
	struct buf found;
	char *anchor = NULL;
	int status;

	if (argc != 1 || !audit_o.pubkey) {
		err_set(e, MOE_ERR_USAGE, "verify: a database and --pubkey FILE are expected");
		return error3(e);
	}
	if (note_key_load(&key, audit_o.pubkey, e) ||
		(audit_o.anchor && !(anchor = audit_read_file(audit_o.anchor, &o.n_anchor, e))))
		return error3(e);
	signal(SIGBUS, on_bus);
	r = reader_open(argv[0], e);
	if (!r) {
		free(anchor);
		return error3(e);
	}
	buf_init(&found, 1 << 20);
	o.keys = &key;
	o.anchor = anchor;
	o.found = audit_o.json ? collect : say;
	o.ctx = &found;
	status = verify_log(r, &o, &v, e);
	if (status)
		error3(e);
	else if (audit_o.json)
		verify_print_json(&v, found.data ? found.data : "", stdout);
	else
		verify_print(&v, stdout);
	if (!status && v.fork) {
		if (audit_o.out)
			status = audit_write_file(audit_o.out, v.fork, strlen(v.fork), e) ? error3(e) : 0;
		else
			fputs("the two notes that prove the fork can be written with --out FILE\n", stderr);
	}
	free(v.fork);
	reader_close(r);
	buf_free(&found);
	free(anchor);
	return status ? -1 : verify_status(&v);
}

int audit_checkpoint(int argc, char **argv, struct moe_err *e)
{
	struct admin a;
	char *note = NULL;
	size_t n;
	int bad;

	if (argc != 1)
		return err_set(e, MOE_ERR_USAGE, "checkpoint: one database is expected");
	if (admin_open(&a, argv[0], audit_o.key, 0, e))
		return -1;
	bad = audit_action(&a, "checkpoint", e) || log_checkpoint(&a.log, &a.key, e) ||
		log_note(a.db, UINT64_MAX, &note, &n, e);
	bad = admin_close(&a, bad, e) || bad; /* shown only once it is durable */
	if (!bad && (audit_o.out || !audit_o.json))
		bad = audit_write_file(audit_o.out ? audit_o.out : "-", note, n, e);
	if (!bad && audit_o.json) {
		const struct say f[] = { { "file", audit_o.out, SAY_NULL } };

		bad = audit_say_note("checkpoint", note, n, f, 1, e);
	}
	free(note);
	return bad ? -1 : 0;
}
