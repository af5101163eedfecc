/* record.c - see record.h. The descriptor holds all that decides the bits of a run. */
#include "cmd/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit/admin.h"
#include "base/err.h"
#include "cmd/show.h"
#include "trace/reader.h"
#include "version.h"

#define PIECE ((size_t)1 << 20)

void record_model_hashes(const struct gguf *g, unsigned char sha[SHA_BYTES],
	unsigned char root[SHA_BYTES])
{
	struct tree t = { 0 };
	struct sha s;

	sha_init(&s);
	for (size_t i = 0; i < gguf_n_parts(g); i++) { /* a piece lies in one part */
		struct gguf_part part = gguf_part_at(g, i);

		for (uint64_t at = 0; at < part.bytes; at += PIECE) {
			uint64_t left = part.bytes - at;
			size_t len = left < PIECE ? (size_t)left : PIECE;
			unsigned char h[SHA_BYTES];

			sha_add(&s, (const unsigned char *)part.data + at, len);
			tree_leaf((const unsigned char *)part.data + at, len, h);
			tree_add(&t, h, NULL, NULL, NULL);
		}
	}
	sha_end(&s, sha);
	tree_root(&t, root);
}

/* The log's policy, if the database exists and has a log: 1, 0, -1. */
static int find_policy(const char *db, struct log_policy *p, char vkey[NOTE_KEY_TEXT],
	struct moe_err *e)
{
	struct reader *r;
	uint64_t epoch;
	int have;

	if (access(db, F_OK))
		return 0;
	r = reader_open(db, e);
	if (!r) /* the writer says it better, or it is an empty file that it will fill */
		return 0;
	have = log_exists(reader_db(r), e);
	if (have == 1 && log_policy_read(reader_db(r), p, vkey, &epoch, e))
		have = err_wrap(e, "%s", db);
	reader_close(r);
	return have;
}

static void cpu_name(char *out, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	char line[256];

	snprintf(out, size, "unknown");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			line[strcspn(line, "\n")] = 0;
			snprintf(out, size, "%s", strchr(line, ':') + 2);
			break;
		}
	if (f)
		fclose(f);
}

static int sums_only(const struct log_policy *p)
{
	return p->sealed || p->detail == LOG_SUMS;
}

/* How a descriptor begins: who does what, and what is kept of it. */
static void begin(struct buf *b, const char *command, const struct log_policy *p, const char *who)
{
	static const char *const detail[] = { "sums", "routes", "full" };
	char login[400];

	admin_who(login, sizeof login, who);
	record_begin(b, "session-start");
	record_text(b, "command", command);
	record_text(b, "who", login);
	record_text(b, "detail", detail[p->detail]);
	record_text(b, "payloads", p->sealed ? "encrypted" : "plain");
}

static void describe(struct buf *b, const struct record_about *a, const struct moe_run_desc *d,
	const struct log_policy *p, enum moe_weights weights, const unsigned char sha[SHA_BYTES],
	const unsigned char root[SHA_BYTES])
{
	static const char *const kept[] = { "exact", "16bit", "8bit", "none" };
	char cpu[200];

	cpu_name(cpu, sizeof cpu);
	begin(b, d->command, p, NULL);
	if (!sums_only(p))
		record_text(b, "weights", kept[weights]);
	record_text(b, "engine", d->engine);
	record_text(b, "compiler", __VERSION__);
	record_text(b, "float", "no fast-math, no contraction; fixed order of sums");
	record_text(b, "isa", d->isa);
	record_text(b, "arithmetic", session_arithmetic(a->s)); /* what decides the bits of a result */
	record_text(b, "cpu", cpu);
	record_int(b, "threads", d->n_threads);
	record_int(b, "batch", d->n_batch);
	record_int(b, "ctx", d->n_ctx);
	record_text(b, "kv", session_kv_name(a->s));
	record_text(b, "kv_start", "empty at the start of a sequence");
	record_text(b, "rope", "as in the model file");
	record_text(b, "composition", "one sequence a batch");
	record_text(b, "hooks",
		a->l->n_aware ? "trace, cache-aware: CHANGES ROUTING" : "trace; none changes routing");
	for (uint32_t i = 0; i < d->n_setting; i++) {
		char key[80];

		record_setting_key(key, sizeof key, d->settings[i].key);
		record_text(b, key, d->settings[i].value);
	}
	record_text(b, "logits", a->logits);
	record_text(b, "model", d->model_name);
	record_text(b, "model_path", d->model_path);
	record_hex(b, "model_sha256", sha, SHA_BYTES);
	record_hex(b, "model_root", root, SHA_BYTES);
	record_int(b, "model_bytes", (int64_t)d->model_bytes);
	record_text(b, "arch", d->arch);
	record_text(b, "quant", d->quant);
	record_text(b, "tokenizer", d->tokenizer); /* its tables are part of the hashed file */
	record_text(b, "router", d->router);
	if (a->more)
		a->more(b, a->ctx);
}

static void warn(const char *text)
{
	fprintf(stderr, "audit: %s\n", show(text).s);
}

int record_start(struct record *rec, const char *db, const struct record_about *a,
	struct moe_trace_opt *o, struct moe_run_desc *d, struct moe_err *e)
{
	static const enum moe_detail kept[] = { MOE_DETAIL_COUNTS, MOE_DETAIL_ROUTES, MOE_DETAIL_FULL };
	unsigned char sha[SHA_BYTES], root[SHA_BYTES];
	struct recorder_what what = { .warn = warn };
	char vkey[NOTE_KEY_TEXT];
	struct log_policy p;
	struct buf desc, model;
	int have;

	memset(rec, 0, sizeof *rec);
	have = find_policy(db, &p, vkey, e);
	if (have <= 0)
		return have;
	record_model_hashes(a->l->gguf, sha, root);
	sodium_bin2hex(rec->hash, sizeof rec->hash, sha, sizeof sha);
	d->model_hash = rec->hash;
	buf_init(&desc, 1 << 20);
	buf_init(&model, 1 << 20);
	describe(&desc, a, d, &p, o->weights, sha, root);
	record_begin(&model, "model");
	record_text(&model, "name", d->model_name);
	record_text(&model, "path", d->model_path);
	record_int(&model, "bytes", (int64_t)d->model_bytes);
	record_hex(&model, "sha256", sha, sizeof sha);
	record_hex(&model, "root", root, sizeof root);
	what.descriptor = &desc;
	what.model = &model;
	if (!strncmp(d->model_path, "/", 1) || access(d->model_path, F_OK) == 0)
		what.model_path = d->model_path;
	rec->r = desc.failed || model.failed ? NULL : recorder_new(&p, vkey, &what, e);
	buf_free(&desc);
	buf_free(&model);
	if (!rec->r)
		return err_wrap(e, "%s", db);
	rec->strict = p.loss == LOG_STRICT;
	o->sink = recorder_sink(rec->r);
	o->detail = sums_only(&p) ? MOE_DETAIL_COUNTS : kept[p.detail];
	if (rec->strict)
		o->drop = 0;
	return 0;
}

/* SHA-256 and length of a file of any size. */
static int hash_file(const char *path, unsigned char sha[SHA_BYTES], int64_t *bytes,
	struct moe_err *e)
{
	unsigned char piece[65536];
	FILE *f = fopen(path, "rb");
	struct sha s;
	size_t n;
	int bad;

	if (!f)
		return err_errno(e, "%s", path);
	sha_init(&s);
	*bytes = 0;
	while ((n = fread(piece, 1, sizeof piece, f)) > 0) {
		sha_add(&s, piece, n);
		*bytes += (int64_t)n;
	}
	sha_end(&s, sha);
	bad = ferror(f) ? err_errno(e, "reading %s", path) : 0;
	fclose(f);
	return bad;
}

int record_import(struct record *rec, const char *who, struct exchange_in *in, const char *format,
	struct moe_err *e)
{
	struct recorder_what what = { .warn = warn, .model_path = in->path };
	unsigned char sha[SHA_BYTES];
	char vkey[NOTE_KEY_TEXT], source[256]; /* as the run's row has it */
	struct log_policy p;
	struct buf desc;
	int64_t bytes;
	int have;

	memset(rec, 0, sizeof *rec);
	have = find_policy(in->db, &p, vkey, e);
	if (have <= 0)
		return have;
	if (hash_file(in->path, sha, &bytes, e))
		return -1;
	buf_init(&desc, 1 << 20);
	begin(&desc, "import", &p, who);
	snprintf(source, sizeof source, "%s: %s", format, in->path);
	record_text(&desc, "source", source);
	record_text(&desc, "witnessed",
		"no: these are another program's decisions or counts, read from a "
		"file; not recorded here, never to be replayed");
	record_text(&desc, "imported", in->path);
	record_hex(&desc, "imported_sha256", sha, sizeof sha);
	record_int(&desc, "imported_bytes", bytes);
	record_text(&desc, "format", format);
	record_text(&desc, "model", in->model);
	what.descriptor = &desc;
	rec->r = desc.failed ? NULL : recorder_new(&p, vkey, &what, e);
	buf_free(&desc);
	if (!rec->r)
		return err_wrap(e, "%s", in->db);
	in->sink = recorder_sink(rec->r);
	in->sums = sums_only(&p);
	return 0;
}

int record_logits(struct record *rec, uint64_t seq, uint32_t pos, const float *row, size_t n,
	struct moe_err *e)
{
	return rec->r ? recorder_logits(rec->r, seq, pos, row, n, e) : 0;
}

void record_free(struct record *rec)
{
	recorder_free(rec->r);
	rec->r = NULL;
}
