/*
 * main.c - moescope-verify: checks a log or an exported proof, and can do nothing else.
 *
 * A program of its own for those who check and do not run models: it links SQLite and libsodium
 * only, opens databases read-only and writes no file. The public key comes from whoever calls it,
 * never from the database. Exit status: 0 valid, 1 tampered (or a proof that does not hold), 2
 * incomplete or leaves under no anchor, 3 error.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit/proof.h"
#include "audit/verify.h"
#include "base/err.h"
#include "base/opt.h"
#include "version.h"

static const char *anchor, *proof;
static struct opt_list pubkeys;
static int deep, json, headers;

static const struct opt opts[] = {
	{ "pubkey", 'p', OPT_LIST, &pubkeys, "FILE", "a public key that you trust; may be given again",
		0, 0 },
	{ "anchor", 0, OPT_TEXT, &anchor, "FILE", "checkpoints that were kept elsewhere", 0, 0 },
	{ "proof", 0, OPT_TEXT, &proof, "FILE",
		"check a proof instead of a database; - is standard input", 0, 0 },
	{ "deep", 0, OPT_FLAG, &deep, NULL, "compare every row with what was logged", 0, 0 },
	{ "headers", 0, OPT_FLAG, &headers, NULL, "only the tree, signatures and order", 0, 0 },
	{ "json", 0, OPT_FLAG, &json, NULL, "print JSON", 0, 0 },
	{ 0 },
};

enum { ERROR = 3, LARGEST = 1 << 30 };

/* Records are ASCII by their format and other texts are escaped; this is for what is left. */
static void put(const char *s, size_t n, FILE *f)
{
	for (size_t i = 0; i < n; i++)
		fputc((unsigned char)s[i] >= 0x20 && s[i] != 0x7f && (unsigned char)s[i] < 0x80 ? s[i] :
			s[i] == '\n' ? '\n' : '?', f);
}

static int complain(const struct moe_err *e)
{
	if (json) {
		struct buf why;

		buf_init(&why, LARGEST);
		proof_string(&why, e->msg, strlen(e->msg));
		printf("{\"verdict\": \"ERROR\", \"status\": 3, \"error\": %s}\n",
			why.data ? why.data : "\"\"");
		buf_free(&why);
	}
	fputs("moescope-verify: ", stderr);
	put(e->msg, strlen(e->msg), stderr);
	fputc('\n', stderr);
	return ERROR;
}

static char *read_all(const char *path, size_t *n, struct moe_err *e)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
	struct buf b;
	char part[65536];
	size_t got;

	if (!f) {
		err_errno(e, "%s", path);
		return NULL;
	}
	buf_init(&b, LARGEST);
	while (!b.failed && (got = fread(part, 1, sizeof part, f)) > 0)
		buf_add(&b, part, got);
	if (ferror(f) || b.failed || !b.len) {
		err_set(e, MOE_ERR_INPUT, "%s: %s", path,
			b.failed ? "larger than 1 GiB" : "nothing can be read");
		buf_free(&b);
	}
	if (f != stdin)
		fclose(f);
	*n = b.len;
	return b.data;
}

static void say(void *ctx, enum finding f, const char *text)
{
	(void)ctx;
	printf("%s: ", finding_name(f));
	put(text, strlen(text), stdout);
	putchar('\n');
}

static void collect(void *ctx, enum finding f, const char *text)
{
	struct buf *b = ctx;

	buf_printf(b, "%s{\"kind\": \"%s\", \"text\": ", b->len ? ", " : "", finding_name(f));
	proof_string(b, text, strlen(text));
	buf_char(b, '}');
}

static int check_proof(const struct note_key *keys, size_t n_key, struct moe_err *e)
{
	struct buf what;
	size_t n;
	char *text = read_all(proof, &n, e);
	int rc;

	if (!text)
		return complain(e);
	buf_init(&what, LARGEST);
	rc = proof_check(text, n, keys, n_key, &what, e);
	if (rc < 0) {
		complain(e);
	} else if (json) {
		printf("{\"holds\": %s, \"text\": ", rc ? "true" : "false");
		if (!rc) {
			buf_clear(&what);
			buf_str(&what, e->msg);
		}
		n = what.len;
		buf_char(&what, 0);
		struct buf s;
		buf_init(&s, LARGEST);
		proof_string(&s, what.data, n);
		printf("%s}\n", s.data);
		buf_free(&s);
	} else if (rc) {
		puts("VALID");
		put(what.data, what.len, stdout);
	} else {
		fputs("NOT VALID: ", stdout);
		put(e->msg, strlen(e->msg), stdout);
		putchar('\n');
	}
	buf_free(&what);
	free(text);
	return rc < 0 ? ERROR : !rc;
}

static int check_log(const char *path, const struct note_key *keys, size_t n_key, struct moe_err *e)
{
	struct verify_opt o = { .keys = keys, .n_key = n_key, .deep = deep, .headers_only = headers,
		.map = 1 };
	struct verify_result v;
	struct reader *r;
	struct buf found;
	char *notes = NULL;
	int status = ERROR;

	if (anchor && !(notes = read_all(anchor, &o.n_anchor, e)))
		return complain(e);
	r = reader_open(path, e);
	buf_init(&found, LARGEST);
	o.anchor = notes;
	o.found = json ? collect : say;
	o.ctx = &found;
	if (!r || verify_log(r, &o, &v, e)) {
		complain(e);
	} else {
		if (json)
			verify_print_json(&v, found.data ? found.data : "", stdout);
		else
			verify_print(&v, stdout);
		if (v.fork && !json)
			puts("the two notes that prove the fork are part of what --json prints");
		status = verify_status(&v);
		free(v.fork);
	}
	reader_close(r);
	buf_free(&found);
	free(notes);
	return status;
}

/* A database that is cut while it is read is an error, not a crash. */
static void on_bus(int sig)
{
	static const char text[] =
		"moescope-verify: the file was cut, or its disk failed, while it was read\n";

	(void)sig;
	if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
		_exit(ERROR);
	_exit(ERROR);
}

int main(int argc, char **argv)
{
	struct note_key keys[64];
	struct moe_err e = { 0 };
	int n, status;

	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			puts("usage: moescope-verify --pubkey FILE [OPTIONS] DB\n"
					"       moescope-verify --pubkey FILE --proof FILE\n");
			opt_help(opts, stdout);
			puts("\nExit status: 0 valid, 1 tampered, 2 incomplete, or leaves under no "
				"anchor, 3 error.");
			return 0;
		} else if (!strcmp(argv[i], "--version")) {
			printf("moescope-verify %s (%s)\n", MOESCOPE_VERSION, MOESCOPE_COMMIT);
			return 0;
		}
	signal(SIGBUS, on_bus);
	if (opt_parse(opts, argc, argv, &n, &e))
		return complain(&e);
	if (sodium_init() < 0 || n != (proof ? 0 : 1) || !pubkeys.n) {
		err_set(&e, MOE_ERR_USAGE,
			"expected: --pubkey FILE and a database, or --proof FILE (see --help)");
		return complain(&e);
	}
	for (size_t i = 0; i < pubkeys.n; i++)
		if (note_key_load(&keys[i], pubkeys.item[i], &e))
			return complain(&e);
	status = proof ? check_proof(keys, pubkeys.n, &e) : check_log(argv[0], keys, pubkeys.n, &e);
	if (fflush(stdout) || ferror(stdout)) {
		fputs("moescope-verify: writing to standard output failed\n", stderr);
		return ERROR;
	}
	return status;
}
