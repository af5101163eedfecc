/*
 * audit_export.c - `moescope audit export`: a bundle that a third party can read and check:
 * decisions and records as CSV, proofs, checkpoints, a field dictionary, instructions.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "audit/payload.h"
#include "audit/proof.h"
#include "base/err.h"
#include "cmd/audit.h"
#include "cmd/audit_say.h"
#include "cmd/show.h"
#include "event/event.h"

static const char fields_txt[] =
	"Field dictionary of this bundle\n\n"
	"decisions.csv  one row for every pick of an expert\n"
	"  leaf      place in the log of the leaf that commits to the row\n"
	"  run, seq  the run and the sequence (request) in it\n"
	"  pos       position of the token in its sequence, from 0\n"
	"  token     id of the token in the model's vocabulary\n"
	"  phase     prefill: read in; decode: generated\n"
	"  layer     index of the layer in the model\n"
	"  rank      0 = the expert with the best selection score\n"
	"  expert    id of the expert\n"
	"  weight    gate weight as applied\n"
	"  margin    selection score of the last expert picked minus the best one that was not\n"
	"  flags     1 = NaN among the router's logits, 2 = a hook changed the choice\n"
	"records.csv    one row for every line of a record: leaf, kind, wall clock in ns, key, value\n"
	"  A value that begins with = + - @ tab or CR has a quote before it, so that a spreadsheet "
	"does not\n"
	"  run it; backslash and bytes outside printable ASCII are written \\xHH.\n"
	"  who                who acted: the name given, the login, the machine\n"
	"  command, engine, compiler, isa, cpu, threads, batch, ctx    what ran, on what\n"
	"  arithmetic, kv, kv_start, rope, float, composition, hooks, setting_*    what decides the\n"
	"                     bits of a result; adapters with scale, SHA-256 and path\n"
	"  detail, weights, payloads    what is kept of a decision, how exactly, and if encrypted\n"
	"  model, model_path, model_bytes, model_sha256, model_root, arch, quant, tokenizer, router,\n"
	"  name, path, bytes, sha256, root    the model and its file\n"
	"  temperature_bits, top_p_bits, min_p_bits, repeat_penalty_bits, top_k, repeat_last, seed,\n"
	"  generate, conversation    the sampler; _bits are those of a double, in hexadecimal\n"
	"  witnessed, imported, imported_sha256, imported_bytes, format, source    of a run that was\n"
	"                     made from another program's file\n"
	"  domain, name       of a sequence: what it was called\n"
	"  prompt, generated, scored, nll_bits    its tokens, and the sum of -ln p of those scored\n"
	"  logit_at, logit_rows, logit_key, logits    which rows of logits were digested; the digest\n"
	"  state, model_file  how the run ended, and whether its file was still the same\n"
	"  leaves, basis, subject_keys    of a redaction or pruning: what went, on what ground\n"
	"  action, sequence, reason    of a legal hold\n"
	"  what, run, sequence, token    of an access: what was looked at\n"
	"  kind, layer, value, text    of an event of the run; tokens: of a gap\n"
	"  tokens, phase, layer    of sums: how many tokens, and the picks of each expert in a layer\n"
	"proofs/N.json  leaf N with what opens it, under the newest checkpoint\n"
	"checkpoints.txt  all signed checkpoints, oldest first\n"
	"stamps/SIZE.tsr  time stamps (RFC 3161) of checkpoints, where there are any\n";

static const char verify_txt[] =
	"How to check this bundle\n\n"
	"1. Get the public key from a source that you trust, not from this bundle.\n"
	"2. moescope-verify --pubkey KEY.pub --proof proofs/N.json\n"
	"   says VALID, what leaf N is and what it commits to; exit status 0. For every proof:\n"
	"   for p in proofs/*.json; do moescope-verify --pubkey KEY.pub --proof \"$p\" >/dev/null || "
	"echo \"$p\"; done\n"
	"3. Without that program: docs/AUDIT.md of moescope gives the formats to the byte and does a "
	"check\n"
	"   with sha256sum and openssl.\n"
	"4. A time stamp: openssl ts -verify -data NOTE -in stamps/SIZE.tsr -CAfile CA.pem\n"
	"What a proof shows: that the leaf was in the log when the key signed the checkpoint. It says "
	"what\n"
	"was recorded, not that the record is true, and nothing about cause.\n";

struct bundle {
	const char *dir;
	FILE *decisions, *records;
	struct reader *r;
	uint64_t n;
	struct event_store store;
};

static int path_in(const struct bundle *b, char *out, size_t size, const char *name,
	struct moe_err *e)
{
	int n = snprintf(out, size, "%s/%s", b->dir, name);

	return n < 0 || (size_t)n >= size
		? err_set(e, MOE_ERR_USAGE, "%s: the name is too long", b->dir)
		: 0;
}

/* RFC 4180, and safe for spreadsheets. */
static void csv_text(FILE *f, const char *s, size_t n)
{
	fputc('"', f);
	if (n && strchr("=+-@\t\r", *s))
		fputc('\'', f);
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '"')
			fputc('"', f);
		fputc(s[i], f);
	}
	fputc('"', f);
}

static void put_number(FILE *f, double v)
{
	if (v != v || v - v != 0) /* NaN and infinities have no number in CSV: the cell is empty */
		return;
	fprintf(f, "%.9g", v);
}

static int put_events(struct bundle *b, const struct leaf *l, const unsigned char *p, size_t n,
	struct moe_err *e)
{
	struct moe_event ev;
	size_t used;

	for (size_t at = 0; at < n; at += used) {
		if (event_decode(p + at, n - at, &b->store, &ev, &used, e))
			return -1;
		for (int k = 0; k < ev.k; k++) {
			fprintf(b->decisions, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u,%d,%s,%d,%d,%d,",
				l->index, l->run, ev.seq, ev.pos, ev.token, ev.phase ? "decode" : "prefill",
				ev.layer, k, ev.experts[k]);
			put_number(b->decisions, (double)ev.weights[k]);
			fputc(',', b->decisions);
			put_number(b->decisions, (double)ev.margin);
			fprintf(b->decisions, ",%d\r\n", ev.flags);
		}
	}
	return 0;
}

static void put_record(struct bundle *b, const struct leaf *l, const char *p, size_t n)
{
	struct record_line line;
	size_t at = 0;

	while (record_next(p, n, &at, &line) == 1) {
		fprintf(
			b->records, "%" PRIu64 ",%s,%" PRIu64 ",", l->index, leaf_kind_name(l->kind), l->wall);
		csv_text(b->records, line.key, line.n_key);
		fputc(',', b->records);
		csv_text(b->records, line.value, line.n_value);
		fputs("\r\n", b->records);
	}
}

static int put_leaf(struct bundle *b, uint64_t index, struct moe_err *e)
{
	struct log_row row;
	struct buf payload, proof;
	char name[64], path[4096];
	int bad, open;

	if (log_read(reader_db(b->r), index, &row, e))
		return -1;
	buf_init(&payload, PAYLOAD_MAX);
	buf_init(&proof, PAYLOAD_MAX);
	open = row.has_salt;
	bad = (open && payload_of(b->r, &row, &payload, e)) ||
		proof_inclusion(reader_db(b->r), index, -1, open, payload.data ? payload.data : "",
			payload.len, &proof, e);
	snprintf(name, sizeof name, "proofs/%" PRIu64 ".json", index);
	bad = bad || path_in(b, path, sizeof path, name, e) ||
		audit_write_file(path, proof.data, proof.len, e);
	if (!bad && open && row.leaf.kind == LEAF_BATCH &&
		!(row.leaf.flags & (LEAF_SEALED | LEAF_SUMS)))
		bad = put_events(b, &row.leaf, (void *)payload.data, payload.len, e);
	else if (!bad && open && !(row.leaf.flags & LEAF_SEALED))
		put_record(b, &row.leaf, payload.data, payload.len);
	b->n++;
	log_row_free(&row);
	buf_free(&payload);
	buf_free(&proof);
	return bad ? -1 : 0;
}

/* All notes one after the other, and the time stamps. */
static int put_notes(struct bundle *b, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	char path[4096], name[64];
	struct buf all;
	int bad = 0;

	buf_init(&all, PAYLOAD_MAX);
	if (sqlite3_prepare_v2(reader_db(b->r),
			"SELECT note, NULL, size FROM audit_checkpoint UNION ALL "
			"SELECT NULL, response, size FROM audit_stamp ORDER BY 3",
			-1, &st, NULL))
		bad = err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(b->r)));
	while (!bad && sqlite3_step(st) == SQLITE_ROW) {
		if (sqlite3_column_type(st, 0) != SQLITE_NULL) {
			buf_add(&all, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
			continue;
		}
		snprintf(name, sizeof name, "stamps/%lld.tsr", sqlite3_column_int64(st, 2));
		bad = path_in(b, path, sizeof path, name, e) ||
			audit_write_file(path, sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1),
				e);
	}
	sqlite3_finalize(st);
	bad = bad || path_in(b, path, sizeof path, "checkpoints.txt", e) ||
		audit_write_file(path, all.data ? all.data : "", all.len, e);
	buf_free(&all);
	return bad ? -1 : 0;
}

static int make_dir(const struct bundle *b, const char *name, struct moe_err *e)
{
	char path[4096];

	if (path_in(b, path, sizeof path, name, e))
		return -1;
	return mkdir(path, 0700) ? err_errno(e, "%s", path) : 0;
}

static FILE *open_csv(const struct bundle *b, const char *name, const char *head, struct moe_err *e)
{
	char path[4096];
	FILE *f;

	if (path_in(b, path, sizeof path, name, e))
		return NULL;
	f = fopen(path, "wb");
	if (!f)
		err_errno(e, "%s", path);
	else
		fputs(head, f);
	return f;
}

static int close_csv(FILE *f, struct moe_err *e)
{
	int bad;

	if (!f)
		return 0;
	bad = fflush(f) || ferror(f);
	return fclose(f) || bad ? err_errno(e, "writing the bundle") : 0;
}

static int put_leaves(struct bundle *b, const struct admin_range *r, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int rc, bad = 0;

	if (sqlite3_prepare_v2(reader_db(b->r),
			"SELECT idx FROM audit_leaf WHERE run = ?1 AND (?2 < 0 OR "
			"seq = ?2 OR kind IN (2, 3, 4)) AND kind <> 11 ORDER BY idx",
			-1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(b->r)));
	sqlite3_bind_int64(st, 1, r->run);
	sqlite3_bind_int64(st, 2, r->seq);
	while (!bad && (rc = sqlite3_step(st)) == SQLITE_ROW)
		bad = put_leaf(b, (uint64_t)sqlite3_column_int64(st, 0), e);
	if (!bad && rc != SQLITE_DONE)
		bad = err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(b->r)));
	sqlite3_finalize(st);
	if (!bad && !b->n)
		bad = err_set(e, MOE_ERR_USAGE, "the log holds nothing of run %" PRId64, r->run);
	return bad;
}

static int put_texts(const struct bundle *b, struct moe_err *e)
{
	char path[4096];

	return path_in(b, path, sizeof path, "FIELDS.txt", e) ||
		audit_write_file(path, fields_txt, sizeof fields_txt - 1, e) ||
		path_in(b, path, sizeof path, "VERIFY.txt", e) ||
		audit_write_file(path, verify_txt, sizeof verify_txt - 1, e) ? -1 : 0;
}

int audit_export(int argc, char **argv, struct moe_err *e)
{
	struct bundle *b;
	struct admin_range r;
	int bad;

	if (audit_range("export", argc, argv, &r, e))
		return -1;
	if (!audit_o.out)
		return err_set(
			e, MOE_ERR_USAGE, "export: --out DIRECTORY is needed, one that does not exist yet");
	b = calloc(1, sizeof *b);
	if (!b)
		return err_nomem(e, sizeof *b, "a bundle");
	b->dir = audit_o.out;
	/* A leaf for the export first; its checkpoint covers what is exported. */
	bad = make_dir(b, "", e) || make_dir(b, "proofs", e) || make_dir(b, "stamps", e) ||
		audit_access(argv[0], LEAF_EXPORT, "export", r.run, r.seq, -1, e) ||
		!(b->r = reader_open(argv[0], e)) ||
		!(b->decisions = open_csv(b, "decisions.csv",
			"leaf,run,seq,pos,token,phase,layer,rank,expert,weight,margin,flags\r\n", e)) ||
		!(b->records = open_csv(b, "records.csv", "leaf,kind,wall_ns,key,value\r\n", e)) ||
		put_leaves(b, &r, e) || put_notes(b, e) || put_texts(b, e);
	bad = close_csv(b->decisions, bad ? NULL : e) || bad;
	bad = close_csv(b->records, bad ? NULL : e) || bad;
	if (!bad && audit_o.json) {
		const struct say f[] = { { "directory", b->dir, 0 }, { "leaves", NULL, (int64_t)b->n } };

		audit_say("export", f, 2);
	} else if (!bad)
		printf("%" PRIu64
				" leaves in %s; FIELDS.txt says what is what, VERIFY.txt how to check it\n",
			b->n, show(b->dir).s);
	reader_close(b->r);
	free(b);
	return bad ? -1 : 0;
}
