/*
 * audit_prove.c - `moescope audit prove` and `anchor`: what leaves the house.
 *
 * Time stamps by RFC 3161 are asked for and checked by the openssl program: this one writes the
 * request's data and calls it, with arguments of its own making and no shell.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit/payload.h"
#include "audit/proof.h"
#include "base/err.h"
#include "cmd/audit.h"
#include "cmd/audit_say.h"
#include "cmd/show.h"

/* ---- prove ---- */

/* A proof is JSON itself; what is said of it only where it goes into a file. */
static int put_proof(const char *kind, const struct buf *proof, struct moe_err *e)
{
	const struct say f[] = { { "kind", kind, 0 }, { "file", audit_o.out, 0 },
		{ "bytes", NULL, (int64_t)proof->len } };

	if (audit_write_file(audit_o.out ? audit_o.out : "-", proof->data, proof->len, e))
		return -1;
	if (audit_o.json && audit_o.out && strcmp(audit_o.out, "-"))
		audit_say("prove", f, 3);
	return 0;
}

static int prove_token(const char *db, const char *seq_text, const char *pos_text,
	struct moe_err *e)
{
	struct reader *r;
	struct run_info *info = malloc(sizeof *info);
	struct buf payload, out;
	struct log_row row = { 0 };
	uint64_t seq, pos, index;
	int bad;

	if (!info)
		return err_nomem(e, sizeof *info, "a run");
	buf_init(&payload, PAYLOAD_MAX);
	buf_init(&out, PAYLOAD_MAX);
	r = NULL;
	bad = audit_number("SEQ", seq_text, &seq, e) || audit_number("TOKEN", pos_text, &pos, e) ||
		!(r = reader_open(db, e)) || log_exists(reader_db(r), e) != 1;
	if (r && bad && !e->msg[0])
		err_set(e, MOE_ERR_INPUT, "%s: it has no audit log", db);
	bad = bad || reader_run(r, audit_o.run, info, e);
	reader_close(r);
	/* The access comes first, and its checkpoint: the proof is under the newest one. */
	bad = bad || audit_access(db, LEAF_ACCESS, "prove", info->id, (int64_t)seq, (int64_t)pos, e);
	r = bad ? NULL : reader_open(db, e);
	bad = !r || payload_find(r, info->id, seq, pos, &index, e) ||
		log_read(reader_db(r), index, &row, e) ||
		(!audit_o.sealed && payload_of(r, &row, &payload, e)) ||
		proof_inclusion(reader_db(r), index, (int64_t)pos, !audit_o.sealed, payload.data,
			payload.len, &out, e);
	if (!bad)
		bad = put_proof("inclusion", &out, e);
	log_row_free(&row);
	reader_close(r);
	buf_free(&payload);
	buf_free(&out);
	free(info);
	return bad ? -1 : 0;
}

int audit_prove(int argc, char **argv, struct moe_err *e)
{
	struct reader *r;
	struct buf out;
	int bad;

	if (argc == 3 && audit_o.from < 0)
		return prove_token(argv[0], argv[1], argv[2], e);
	if (argc != 1 || audit_o.from < 1 || audit_o.to < audit_o.from)
		return err_set(e, MOE_ERR_USAGE,
			"prove: DB SEQ TOKEN, or DB with --from SIZE --to SIZE of two "
			"checkpoints");
	r = reader_open(argv[0], e);
	if (!r)
		return -1;
	buf_init(&out, 1 << 20);
	bad = audit_access(argv[0], LEAF_ACCESS, "prove consistency", 0, -1, -1, e) ||
		proof_consistency(reader_db(r), (uint64_t)audit_o.from, (uint64_t)audit_o.to, &out, e) ||
		put_proof("consistency", &out, e);
	buf_free(&out);
	reader_close(r);
	return bad ? -1 : 0;
}

/* ---- anchor ---- */

static int append_anchor(const char *path, const char *note, size_t n, struct moe_err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), bad;

	if (fd < 0)
		return err_errno(e, "%s", path);
	bad = write(fd, note, n) != (ssize_t)n || fsync(fd);
	if (bad)
		err_errno(e, "writing %s", path);
	if (close(fd) && !bad)
		bad = err_errno(e, "writing %s", path);
	return bad ? -1 : 0;
}

/* Run openssl with these arguments; its output goes to /dev/null but for errors. */
static int openssl(char *const argv[], struct moe_err *e)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return err_errno(e, "starting openssl");
	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(argv[0], argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_errno(e, "waiting for openssl");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(e, MOE_ERR_SYS, "the openssl program is not installed");
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : err_set(e, MOE_ERR_INPUT,
		"openssl %s %s refuses: try the command of docs/AUDIT.md by hand", argv[1], argv[2]);
}

/* The checkpoint in a file of its own, for openssl. */
static int note_file(char *path, const char *note, size_t n, struct moe_err *e)
{
	int fd = mkstemp(path);

	if (fd < 0)
		return err_errno(e, "creating %s", path);
	if (write(fd, note, n) != (ssize_t)n) {
		close(fd);
		return err_errno(e, "writing %s", path);
	}
	return close(fd) ? err_errno(e, "writing %s", path) : 0;
}

static int request(const char *out, const char *note, size_t n, struct moe_err *e)
{
	char path[] = "/tmp/moescope-note-XXXXXX";
	char *const argv[] = { "openssl", "ts", "-query", "-data", path, "-sha256", "-cert", "-out",
		(char *)(uintptr_t)out, NULL };
	int bad = note_file(path, note, n, e) || openssl(argv, e);

	unlink(path);
	return bad ? -1 : 0;
}

/* A response for one of the checkpoints of the log is kept beside it, once openssl has verified
 * it; *size: how many leaves that one has. */
static int response(struct admin *a, const char *file, const char *ca, int64_t *size,
	struct moe_err *e)
{
	char path[] = "/tmp/moescope-note-XXXXXX";
	char *const argv[] = { "openssl", "ts", "-verify", "-data", path, "-in",
		(char *)(uintptr_t)file, "-CAfile", (char *)(uintptr_t)ca, NULL };
	sqlite3_stmt *st = NULL, *add = NULL;
	size_t n;
	char *der = audit_read_file(file, &n, e);
	int bad = der ? 0 : -1, found = 0;

	if (!bad &&
		(sqlite3_prepare_v2(a->db,
			 "SELECT size, note FROM audit_checkpoint ORDER BY id DESC "
			 "LIMIT 100",
			 -1, &st, NULL) ||
			sqlite3_prepare_v2(a->db,
				"INSERT INTO audit_stamp(size, note, "
				"response) VALUES(?, ?, ?)",
				-1, &add, NULL)))
		bad = err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(a->db));
	while (!bad && !found && sqlite3_step(st) == SQLITE_ROW) {
		const char *note = (const char *)sqlite3_column_text(st, 1);
		size_t len = (size_t)sqlite3_column_bytes(st, 1);
		struct moe_err why;

		snprintf(path, sizeof path, "/tmp/moescope-note-XXXXXX");
		bad = note_file(path, note, len, e);
		found = !bad && !openssl(argv, &why);
		unlink(path);
		if (!found)
			continue;
		sqlite3_bind_int64(add, 1, sqlite3_column_int64(st, 0));
		sqlite3_bind_text(add, 2, note, (int)len, SQLITE_STATIC);
		sqlite3_bind_blob(add, 3, der, (int)n, SQLITE_STATIC);
		if (sqlite3_step(add) != SQLITE_DONE)
			bad = err_set(e, MOE_ERR_SYS, "storing the time stamp: %s", sqlite3_errmsg(a->db));
		*size = sqlite3_column_int64(st, 0);
	}
	if (!bad && !found)
		bad = err_set(
			e, MOE_ERR_INPUT, "%s: openssl verifies it for none of the last 100 checkpoints", file);
	sqlite3_finalize(st);
	sqlite3_finalize(add);
	free(der);
	return bad;
}

/* note NULL: a time stamp was kept, nothing else. */
static int say_anchored(const char *note, size_t n, int64_t stamped, struct moe_err *e)
{
	const struct say put[] = { { "file", audit_o.out, SAY_NULL },
		{ "request", audit_o.request, SAY_NULL } };
	const struct say kept[] = { { "leaves", NULL, stamped }, { "stamp", audit_o.stamp, 0 } };

	if (note)
		return audit_say_note("anchor", note, n, put, 2, e);
	audit_say("stamp", kept, 2);
	return 0;
}

int audit_anchor(int argc, char **argv, struct moe_err *e)
{
	struct admin a;
	char *note = NULL;
	int64_t stamped = 0;
	size_t n = 0;
	int bad, to_stdout;

	if (argc != 1 || !(audit_o.out || audit_o.request || audit_o.stamp))
		return err_set(e, MOE_ERR_USAGE,
			"anchor: a database and --out FILE, --request FILE or --stamp FILE "
			"are expected");
	if (audit_o.stamp && !audit_o.stamp_ca)
		return err_set(
			e, MOE_ERR_USAGE, "anchor: --stamp needs --ca FILE, the certificates that you trust");
	if (admin_open(&a, argv[0], audit_o.key, audit_o.stamp != NULL, e))
		return -1;
	bad = audit_action(&a, audit_o.stamp ? "keep a time stamp" : "anchor", e);
	if (!bad)
		bad = audit_o.stamp ? response(&a, audit_o.stamp, audit_o.stamp_ca, &stamped, e) :
			log_checkpoint(&a.log, &a.key, e) || log_note(a.db, UINT64_MAX, &note, &n, e);
	bad = admin_close(&a, bad, e) || bad;
	to_stdout = audit_o.out && !strcmp(audit_o.out, "-");
	if (!bad && audit_o.out && !to_stdout) /* published only once it is durable */
		bad = append_anchor(audit_o.out, note, n, e);
	if (!bad && audit_o.request)
		bad = request(audit_o.request, note, n, e);
	if (!bad && audit_o.json)
		bad = say_anchored(note, n, stamped, e);
	else if (!bad && note)
		printf("%s%.*s", to_stdout ? "" : "anchored: ", (int)n, note);
	else if (!bad)
		printf("time stamp kept for the checkpoint of %" PRId64 " leaves\n", stamped);
	free(note);
	return bad ? -1 : 0;
}
