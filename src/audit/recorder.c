/*
 * recorder.c - see recorder.h.
 *
 * Everything but the table of logit digests belongs to the thread that the sink is called on; that
 * table is shared with the engine's thread and has a lock. A transaction that failed is undone by
 * log_rollback() when the next one begins; what it said is then said again by the writer.
 */
#include "audit/recorder.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "audit/payload.h"
#include "base/clock.h"
#include "base/err.h"

#define AT_MAX ((size_t)16 << 20) /* bytes of a list of positions */

struct digest_row {
	uint64_t seq;
	struct logit_digest d;
	struct buf at;            /* closed ranges of positions: "0-11,15," */
	uint32_t from, to;        /* the open one */
	int said;                 /* in the transaction that is open */
	struct digest_row *next;
};

/* ended: in the transaction that is open; forgotten when it is committed. */
struct name_row { uint64_t seq; char *name; int ended; struct name_row *next; };

struct recorder {
	struct moe_trace_sink sink;
	struct log_policy policy;
	char vkey[NOTE_KEY_TEXT];
	struct note_secret key;
	int have_key, is_open;
	unsigned char seal[SEAL_KEY];
	struct log_clock clock;
	struct buf descriptor, model, payload, sealed;
	unsigned char descriptor_hash[SHA_BYTES];
	struct stat model_stat;
	char *model_path;
	struct log log;
	uint64_t run;
	struct name_row *names;   /* of open sequences, for sealing */
	pthread_mutex_t lock;     /* digests */
	struct digest_row *digests;
};

/* ---- digests of logits ---- */

void logit_digest_init(struct logit_digest *d, const unsigned char key[LOGIT_KEY])
{
	sha_init(&d->sha);
	memcpy(d->key, key, LOGIT_KEY);
	d->rows = 0;
}

void logit_digest_add(struct logit_digest *d, uint32_t pos, const float *row, size_t n)
{
	unsigned char be[4] = { (unsigned char)(pos >> 24), (unsigned char)(pos >> 16),
		(unsigned char)(pos >> 8), (unsigned char)pos }, tag[crypto_onetimeauth_BYTES];

	crypto_onetimeauth(tag, (const unsigned char *)row, n * sizeof *row, d->key);
	sha_add(&d->sha, be, 4);
	sha_add(&d->sha, tag, sizeof tag);
	d->rows++;
}

void logit_digest_end(struct logit_digest *d, unsigned char out[SHA_BYTES])
{
	sha_end(&d->sha, out);
}

static void free_digest(struct digest_row *d)
{
	buf_free(&d->at);
	free(d);
}

static void add_range(struct buf *b, uint32_t from, uint32_t to)
{
	if (from == to)
		buf_printf(b, "%" PRIu32 ",", from);
	else
		buf_printf(b, "%" PRIu32 "-%" PRIu32 ",", from, to);
}

int recorder_logits(struct recorder *r, uint64_t seq, uint32_t pos, const float *row, size_t n,
	struct moe_err *e)
{
	struct digest_row *d;

	pthread_mutex_lock(&r->lock);
	for (d = r->digests; d && d->seq != seq; d = d->next)
		;
	if (!d && (d = calloc(1, sizeof *d))) {
		unsigned char key[LOGIT_KEY];

		randombytes_buf(key, sizeof key);
		d->seq = seq;
		buf_init(&d->at, AT_MAX);
		d->from = d->to = pos;
		logit_digest_init(&d->d, key);
		d->next = r->digests;
		r->digests = d;
	}
	pthread_mutex_unlock(&r->lock);
	if (!d)
		return err_nomem(e, sizeof *d, "a digest");
	/* only this thread, until the sequence ends */
	if (pos > d->to + 1) {
		add_range(&d->at, d->from, d->to);
		d->from = pos;
	}
	d->to = pos;
	logit_digest_add(&d->d, pos, row, n);
	return d->at.failed ? err_nomem(e, d->at.len, "positions of logits") : 0;
}

/* The digest of a sequence that has ended, into its record. It stays until that is committed. */
static void record_digest(struct recorder *r, uint64_t seq, struct buf *rec)
{
	unsigned char digest[SHA_BYTES];
	struct logit_digest copy;
	struct digest_row *d;

	pthread_mutex_lock(&r->lock);
	for (d = r->digests; d && d->seq != seq; d = d->next)
		;
	if (d) {
		d->said = 1;
		copy = d->d;
		buf_str(rec, "logit_at ");
		if (d->at.len)
			buf_add(rec, d->at.data, d->at.len);
		add_range(rec, d->from, d->to);
		if (!rec->failed) /* the last comma */
			rec->data[rec->len - 1] = '\n';
	}
	pthread_mutex_unlock(&r->lock);
	if (!d)
		return;
	logit_digest_end(&copy, digest);
	record_int(rec, "logit_rows", (int64_t)copy.rows);
	record_hex(rec, "logit_key", copy.key, LOGIT_KEY);
	record_hex(rec, "logits", digest, sizeof digest);
}

/* Digests that were said: forgotten once that is committed, to be said again when it failed. */
static void settle_digests(struct recorder *r, int committed, int all)
{
	pthread_mutex_lock(&r->lock);
	for (struct digest_row **p = &r->digests; *p;) {
		struct digest_row *d = *p;

		if (all || (d->said && committed)) {
			*p = d->next;
			free_digest(d);
		} else {
			d->said = 0;
			p = &d->next;
		}
	}
	pthread_mutex_unlock(&r->lock);
}

/* ---- the sink ---- */

static int record(struct recorder *r, enum leaf_kind kind, uint64_t seq, const struct buf *rec,
	struct moe_err *e)
{
	return log_record(&r->log, kind, r->run, seq, r->descriptor_hash, rec, e);
}

/* Did the last session end? If not its writer died. */
static int recover(struct recorder *r, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	struct buf rec;
	int bad = 0;

	if (sqlite3_prepare_v2(r->log.db,
			"SELECT s.idx, s.run FROM audit_leaf s WHERE s.kind = 2 AND "
			"s.kind NOT IN (5, 6, 7, 11) AND NOT EXISTS (SELECT 1 FROM audit_leaf t WHERE t.kind "
			"IN (3, 10) "
			"AND t.kind NOT IN (5, 6, 7, 11) AND t.idx > s.idx) ORDER BY s.idx DESC LIMIT 1",
			-1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: looking for an open session: %s",
			sqlite3_errmsg(r->log.db));
	if (sqlite3_step(st) == SQLITE_ROW) {
		buf_init(&rec, 4096);
		record_begin(&rec, "recovery");
		record_int(&rec, "run", sqlite3_column_int64(st, 1));
		record_int(&rec, "session", sqlite3_column_int64(st, 0));
		record_int(&rec, "leaves", (int64_t)r->log.tree.n);
		bad = log_record(&r->log, LEAF_RECOVERY, (uint64_t)sqlite3_column_int64(st, 1), 0, NULL,
			&rec, e);
		buf_free(&rec);
	}
	sqlite3_finalize(st);
	return bad;
}

static int on_start(void *ctx, sqlite3 *db, int64_t run, struct moe_err *e)
{
	struct recorder *r = ctx;

	if (log_open(&r->log, db, &r->clock, e))
		return -1;
	r->is_open = 1;
	r->run = (uint64_t)run;
	if (strcmp(r->log.vkey, r->vkey))
		return err_set(e, MOE_ERR_INPUT, "the log's key changed while this run started");
	if (r->have_key && log_key_fits(&r->log, &r->key, e))
		return -1;
	if (recover(r, e) || record(r, LEAF_SESSION_START, 0, &r->descriptor, e))
		return -1;
	return r->model.len ? record(r, LEAF_MODEL, 0, &r->model, e) : 0;
}

static int on_begin(void *ctx, struct moe_err *e)
{
	struct recorder *r = ctx;

	(void)e;
	log_rollback(&r->log);
	settle_digests(r, 0, 0);
	for (struct name_row *n = r->names; n; n = n->next)
		n->ended = 0;
	return 0;
}

static int keep_name(struct recorder *r, const struct sink_seq *q, struct moe_err *e)
{
	struct name_row *n;

	for (n = r->names; n; n = n->next)
		if (n->seq == q->seq) /* a second try */
			return 0;
	n = calloc(1, sizeof *n);
	if (!n || !(n->name = strdup(q->name ? q->name : ""))) {
		free(n);
		return err_nomem(e, sizeof *n, "a subject's name");
	}
	n->seq = q->seq;
	n->next = r->names;
	r->names = n;
	return 0;
}

static int on_seq_begin(void *ctx, const struct sink_seq *q, struct moe_err *e)
{
	struct recorder *r = ctx;
	struct buf rec;
	int bad;

	if (r->policy.sealed && keep_name(r, q, e))
		return -1;
	buf_init(&rec, 65536);
	record_begin(&rec, "sequence-start");
	record_text(&rec, "domain", q->domain);
	record_text(&rec, "name", q->name);
	bad = record(r, LEAF_SEQ_START, q->seq, &rec, e);
	buf_free(&rec);
	return bad;
}

static int seal(struct recorder *r, struct log_item *it, struct moe_err *e)
{
	unsigned char key[SEAL_KEY];
	char subject[512];
	const char *name = NULL;
	int bad;

	for (struct name_row *n = r->names; n; n = n->next)
		if (n->seq == it->leaf.seq)
			name = n->name;
	seal_name(subject, sizeof subject, r->run, it->leaf.seq, name);
	bad = seal_subject(r->log.db, r->seal, subject, 1, key, e) ||
		seal_payload(key, &it->leaf, r->payload.data, r->payload.len, &r->sealed, e);
	sodium_memzero(key, sizeof key);
	it->payload = r->sealed.data;
	it->n_payload = r->sealed.len;
	it->leaf.flags |= LEAF_SEALED;
	it->keep = 1;
	return bad ? -1 : 0;
}

static int on_chunk(void *ctx, int64_t id, const struct cursor_chunk *c, struct moe_err *e)
{
	struct recorder *r = ctx;
	struct log_item it = { .leaf = { .kind = LEAF_BATCH, .run = r->run, .seq = c->seq,
		.first = c->pos, .n = c->n }, .chunk = id };

	memcpy(it.leaf.descriptor, r->descriptor_hash, SHA_BYTES);
	if (!r->policy.sealed && (!id || r->policy.detail == LOG_SUMS)) {
		payload_sums(c, &r->payload);
		if (r->payload.failed)
			return err_nomem(e, r->payload.len, "a payload");
		it.leaf.flags = LEAF_SUMS;
		it.keep = 1;
	} else {
		if (payload_events(c, &r->payload, e))
			return -1;
		it.leaf.flags = c->logits ? LEAF_LOGITS : 0;
	}
	it.payload = r->payload.data;
	it.n_payload = r->payload.len;
	if (r->policy.sealed && seal(r, &it, e))
		return -1;
	return log_append(&r->log, &it, e);
}

static int on_counts(void *ctx, uint64_t seq, uint64_t tokens, const struct moe_layer_desc *layers,
	size_t n, const uint64_t *const *counts, struct moe_err *e)
{
	struct recorder *r = ctx;
	struct log_item it = { .leaf = { .kind = LEAF_BATCH,
							.flags = LEAF_SUMS,
							.run = r->run,
							.seq = seq,
							.n = tokens > UINT32_MAX ? UINT32_MAX : (uint32_t)tokens },
		.keep = 1 };

	payload_counts(tokens, layers, n, counts, &r->payload);
	if (r->payload.failed)
		return err_nomem(e, r->payload.len, "a payload");
	memcpy(it.leaf.descriptor, r->descriptor_hash, SHA_BYTES);
	it.payload = r->payload.data;
	it.n_payload = r->payload.len;
	if (r->policy.sealed) {
		it.leaf.flags = 0;
		if (seal(r, &it, e))
			return -1;
	}
	return log_append(&r->log, &it, e);
}

static int on_gap(void *ctx, uint64_t seq, uint32_t pos, uint64_t tokens, struct moe_err *e)
{
	struct recorder *r = ctx;
	struct log_item it = { .leaf = { .kind = LEAF_GAP, .run = r->run, .seq = seq, .first = pos,
		.n = tokens > UINT32_MAX ? UINT32_MAX : (uint32_t)tokens }, .keep = 1 };
	struct buf rec;
	int bad;

	buf_init(&rec, 4096);
	record_begin(&rec, "gap");
	record_int(&rec, "tokens", (int64_t)tokens);
	memcpy(it.leaf.descriptor, r->descriptor_hash, SHA_BYTES);
	it.payload = rec.data;
	it.n_payload = rec.len;
	bad = rec.failed ? err_nomem(e, 4096, "a record") : log_append(&r->log, &it, e);
	buf_free(&rec);
	return bad;
}

static int on_note(void *ctx, const char *kind, const char *text, int layer, double value,
	struct moe_err *e)
{
	struct recorder *r = ctx;
	struct buf rec;
	char num[40];
	int bad;

	buf_init(&rec, 65536);
	record_begin(&rec, "note");
	record_text(&rec, "kind", kind);
	if (layer >= 0)
		record_int(&rec, "layer", layer);
	snprintf(num, sizeof num, "%.17g", value);
	record_text(&rec, "value", num);
	record_text(&rec, "text", text);
	bad = record(r, strcmp(kind, "operator") ? LEAF_NOTE : LEAF_OPERATOR, 0, &rec, e);
	buf_free(&rec);
	return bad;
}

static int on_seq_end(void *ctx, const struct sink_seq *q, struct moe_err *e)
{
	struct recorder *r = ctx;
	struct buf rec;
	uint64_t bits;
	int bad;

	buf_init(&rec, 2 * AT_MAX);
	record_begin(&rec, "sequence-end");
	record_int(&rec, "prompt", (int64_t)q->n_prompt);
	record_int(&rec, "generated", q->n_generated);
	record_int(&rec, "scored", q->n_scored);
	memcpy(&bits, &q->nll, 8);
	buf_printf(&rec, "nll_bits %016" PRIx64 "\n", bits);
	record_digest(r, q->seq, &rec);
	bad = record(r, LEAF_SEQ_END, q->seq, &rec, e);
	for (struct name_row *n = r->names; n; n = n->next)
		n->ended |= n->seq == q->seq;
	buf_free(&rec);
	return bad;
}

static int on_tick(void *ctx, struct moe_err *e)
{
	struct recorder *r = ctx;
	int64_t now = r->log.clock.mono();
	struct buf rec;
	int bad = 0;

	if (now - r->log.last_mono >= r->policy.heartbeat_s * INT64_C(1000000000)) {
		buf_init(&rec, 256);
		record_begin(&rec, "heartbeat");
		bad = record(r, LEAF_HEARTBEAT, 0, &rec, e);
		buf_free(&rec);
	}
	if (!bad && r->have_key &&
		now - r->log.last_checkpoint >= r->policy.checkpoint_s * INT64_C(1000000000))
		bad = log_checkpoint(&r->log, &r->key, e);
	return bad;
}

/* Is the model's file the one that was loaded? */
static const char *model_now(const struct recorder *r)
{
	struct stat st;

	if (!r->model_path)
		return "embedded";
	if (stat(r->model_path, &st))
		return "gone";
	return st.st_ino == r->model_stat.st_ino && st.st_dev == r->model_stat.st_dev &&
		st.st_size == r->model_stat.st_size && st.st_mtim.tv_sec == r->model_stat.st_mtim.tv_sec &&
		st.st_mtim.tv_nsec == r->model_stat.st_mtim.tv_nsec ? "same" : "changed";
}

static int on_finish(void *ctx, const char *state, struct moe_err *e)
{
	struct recorder *r = ctx;
	struct buf rec;
	int bad;

	buf_init(&rec, 4096);
	record_begin(&rec, "session-end");
	record_text(&rec, "state", state);
	record_text(&rec, "model_file", model_now(r));
	bad = record(r, LEAF_SESSION_END, 0, &rec, e);
	buf_free(&rec);
	bad = bad || (r->have_key && log_checkpoint(&r->log, &r->key, e));
	log_close(&r->log); /* before the writer closes the database */
	return bad ? -1 : 0;
}

/* A server's sequences come and go: only those that are open are kept. */
static void forget_names(struct recorder *r, int all)
{
	for (struct name_row **p = &r->names; *p;) {
		struct name_row *n = *p;

		if (all || n->ended) {
			*p = n->next;
			free(n->name);
			free(n);
		} else {
			p = &n->next;
		}
	}
}

static void on_settled(void *ctx)
{
	struct recorder *r = ctx;

	forget_names(r, 0);
	log_committed(&r->log);
	settle_digests(r, 1, 0);
}

/* ---- making one ---- */

static int load_keys(struct recorder *r, const struct recorder_what *w, struct moe_err *e)
{
	if (r->policy.sealed && seal_key_load(r->seal, r->policy.seal_path, e))
		return -1;
	if (!note_secret_load(&r->key, r->policy.key_path, e)) {
		r->have_key = 1;
		return 0;
	}
	if (r->policy.loss == LOG_STRICT)
		return err_wrap(e, "this log is strict and its signing key is missing");
	if (w->warn) {
		char text[600];

		snprintf(text, sizeof text, "checkpoints will not be signed: %s", e->msg);
		w->warn(text);
	}
	return 0;
}

struct recorder *recorder_new(const struct log_policy *policy, const char *vkey,
	const struct recorder_what *w, struct moe_err *e)
{
	struct recorder *r = calloc(1, sizeof *r);

	if (!r) {
		err_nomem(e, sizeof *r, "a recorder");
		return NULL;
	}
	pthread_mutex_init(&r->lock, NULL);
	r->policy = *policy;
	snprintf(r->vkey, sizeof r->vkey, "%s", vkey);
	buf_init(&r->descriptor, 1 << 20);
	buf_init(&r->model, 1 << 20);
	buf_init(&r->payload, PAYLOAD_MAX);
	buf_init(&r->sealed, PAYLOAD_MAX);
	buf_add(&r->descriptor, w->descriptor->data, w->descriptor->len);
	if (w->model)
		buf_add(&r->model, w->model->data, w->model->len);
	sha_of(r->descriptor.data, r->descriptor.len, r->descriptor_hash);
	r->clock = w->clock ? *w->clock : (struct log_clock){ clock_wall, clock_mono };
	if (w->model_path && !stat(w->model_path, &r->model_stat))
		r->model_path = strdup(w->model_path);
	r->sink = (struct moe_trace_sink){ .ctx = r,
		.want_logits = policy->sealed && policy->detail == LOG_FULL,
		.start = on_start,
		.begin = on_begin,
		.seq_begin = on_seq_begin,
		.chunk = on_chunk,
		.counts = on_counts,
		.gap = on_gap,
		.note = on_note,
		.seq_end = on_seq_end,
		.tick = on_tick,
		.finish = on_finish,
		.settled = on_settled };
	if (sodium_init() < 0 || r->descriptor.failed || r->model.failed) {
		err_set(e, MOE_ERR_SYS, "starting a recorder failed");
	} else if (!load_keys(r, w, e)) {
		return r;
	}
	recorder_free(r);
	return NULL;
}

void recorder_free(struct recorder *r)
{
	if (!r)
		return;
	if (r->is_open)
		log_close(&r->log);
	note_secret_forget(&r->key);
	sodium_memzero(r->seal, sizeof r->seal);
	settle_digests(r, 1, 1);
	forget_names(r, 1);
	buf_free(&r->descriptor);
	buf_free(&r->model);
	buf_free(&r->payload);
	buf_free(&r->sealed);
	free(r->model_path);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

const struct moe_trace_sink *recorder_sink(struct recorder *r)
{
	return &r->sink;
}
