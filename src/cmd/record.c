/* record.c - see record.h. The descriptor holds all that decides the bits of a run. */
#include "cmd/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* The files that the run is made from, as they are now, before their bytes are hashed: parts of the
 * model, adapters. A model that is compiled in has none. */
static int watch(const struct loaded *l, struct recorder_what *w, struct recorder_file **out,
	struct moe_err *e)
{
	size_t n = gguf_n_parts(l->gguf), most = n + l->n_adapter;
	struct recorder_file *f = calloc(most, sizeof *f);
	struct sha s;

	if (!f)
		return err_nomem(e, most * sizeof *f, "a model's files");
	sha_init(&s);
	for (size_t i = 0; i < most; i++) {
		struct gguf_part p = i < n ? gguf_part_at(l->gguf, i) :
			gguf_part_at(l->adapter[i - n].gguf, 0);

		f[w->n_file].path = i < n ? p.path : l->adapter[i - n].path;
		if (stat(f[w->n_file].path, &f[w->n_file].st))
			continue;
		sha_add(&s, p.data, p.bytes);
		w->n_file++;
	}
	sha_end(&s, w->files_sha);
	w->file = *out = f;
	return 0;
}

int record_start(struct record *rec, const char *db, const struct record_about *a,
	struct moe_trace_opt *o, struct moe_run_desc *d, struct moe_err *e)
{
	static const enum moe_detail kept[] = { MOE_DETAIL_COUNTS, MOE_DETAIL_ROUTES, MOE_DETAIL_FULL };
	unsigned char sha[SHA_BYTES], root[SHA_BYTES];
	struct recorder_what what = { .warn = warn };
	struct recorder_file *files = NULL;
	char vkey[NOTE_KEY_TEXT];
	struct log_policy p;
	struct buf desc, model;
	int have;

	memset(rec, 0, sizeof *rec);
	have = find_policy(db, &p, vkey, e);
	if (have <= 0)
		return have;
	if (watch(a->l, &what, &files, e))
		return -1;
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
	rec->r = desc.failed || model.failed ? NULL : recorder_new(&p, vkey, &what, e);
	buf_free(&desc);
	buf_free(&model);
	free(files);
	if (!rec->r)
		return err_wrap(e, "%s", db);
	rec->strict = p.loss == LOG_STRICT;
	o->sink = recorder_sink(rec->r);
	o->detail = sums_only(&p) ? MOE_DETAIL_COUNTS : kept[p.detail];
	if (rec->strict)
		o->drop = 0;
	return 0;
}

int record_import(struct record *rec, const char *who, struct exchange_in *in, const char *format,
	struct moe_err *e)
{
	struct recorder_file file = { .path = in->path };
	struct recorder_what what = { .warn = warn, .file = &file, .n_file = 1 };
	struct sha sha;
	char vkey[NOTE_KEY_TEXT], source[256]; /* as the run's row has it */
	struct log_policy p;
	struct buf desc;
	uint64_t bytes = 0;
	int have;

	memset(rec, 0, sizeof *rec);
	have = find_policy(in->db, &p, vkey, e);
	if (have <= 0)
		return have;
	if (stat(in->path, &file.st))
		return err_errno(e, "%s", in->path);
	sha_init(&sha);
	if (sha_file(&sha, in->path, &bytes, NULL, NULL, e))
		return -1;
	sha_end(&sha, what.files_sha);
	buf_init(&desc, 1 << 20);
	begin(&desc, "import", &p, who);
	snprintf(source, sizeof source, "%s: %s", format, in->path);
	record_text(&desc, "source", source);
	record_text(&desc, "witnessed",
		"no: these are another program's decisions or counts, read from a "
		"file; not recorded here, never to be replayed");
	record_text(&desc, "imported", in->path);
	record_hex(&desc, "imported_sha256", what.files_sha, SHA_BYTES);
	record_int(&desc, "imported_bytes", (int64_t)bytes);
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
