/* payload.c - see payload.h. */
#include "audit/payload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "event/event.h"

/* Decision (token t, layer i) of a chunk. */
static void event_of(const struct cursor_chunk *c, size_t t, size_t i, struct moe_event *ev)
{
	size_t pick = t * c->k_row + c->k_at[i];

	*ev = (struct moe_event){ .seq = c->seq, .pos = c->pos + (uint32_t)t, .token = c->tokens[t],
		.layer = c->layers[i].layer, .n_expert = c->layers[i].n_expert, .k = c->layers[i].k,
		.phase = c->phase, .flags = c->flags ? c->flags[t * c->n_layer + i] : 0,
		.margin = c->margins[t * c->n_layer + i], .experts = c->experts + pick,
		.weights = c->weights + pick,
		.logits = c->logits ? c->logits + t * c->e_row + c->e_at[i] : NULL };
	if (c->before && (ev->flags & MOE_EV_EDITED))
		ev->before = c->before + pick;
}

int payload_events(const struct cursor_chunk *c, struct buf *out, struct moe_err *e)
{
	unsigned char one[EVENT_MAX_BYTES];

	buf_clear(out);
	for (size_t t = 0; t < c->n; t++)
		for (size_t i = 0; i < c->n_layer; i++) {
			struct moe_event ev;
			size_t n;

			event_of(c, t, i, &ev);
			n = event_encode(&ev, one, sizeof one, e);
			if (!n)
				return -1;
			buf_add(out, one, n);
		}
	return out->failed ? err_nomem(e, out->len, "a payload") : 0;
}

void payload_sums(const struct cursor_chunk *c, struct buf *out)
{
	uint32_t count[MOE_MAX_EXPERT];

	buf_clear(out);
	record_begin(out, "sums");
	record_int(out, "tokens", c->n);
	record_int(out, "phase", c->phase);
	for (size_t i = 0; i < c->n_layer; i++) {
		const struct moe_layer_desc *l = &c->layers[i];

		memset(count, 0, l->n_expert * sizeof *count);
		for (size_t t = 0; t < c->n; t++)
			for (size_t k = 0; k < l->k; k++)
				count[c->experts[t * c->k_row + c->k_at[i] + k]]++;
		buf_printf(out, "layer %d", l->layer);
		for (size_t x = 0; x < l->n_expert; x++)
			buf_printf(out, " %u", count[x]);
		buf_char(out, '\n');
	}
}

void payload_counts(uint64_t tokens, const struct moe_layer_desc *layers, size_t n,
	const uint64_t *const *counts, struct buf *out)
{
	buf_clear(out);
	record_begin(out, "sums");
	record_int(out, "tokens", (int64_t)tokens);
	record_int(out, "phase", MOE_PREFILL);
	for (size_t i = 0; i < n; i++) {
		buf_printf(out, "layer %d", layers[i].layer);
		for (size_t x = 0; x < layers[i].n_expert; x++)
			buf_printf(out, " %llu", (unsigned long long)counts[i][x]);
		buf_char(out, '\n');
	}
}

int payload_of(struct reader *r, const struct log_row *row, struct buf *out, struct moe_err *e)
{
	struct load_filter f = { .run = (int64_t)row->leaf.run, .domain = -1, .phase = -1 };
	struct cursor_chunk c;
	struct cursor *cur;
	int rc;

	buf_clear(out);
	if (row->has_payload) {
		buf_add(out, row->payload, row->n_payload);
		return out->failed ? err_nomem(e, row->n_payload, "a payload") : 0;
	}
	if (!row->has_salt || row->leaf.kind != LEAF_BATCH || !row->chunk)
		return err_set(e, MOE_ERR_INPUT, "leaf %llu: its payload was redacted or pruned",
			(unsigned long long)row->leaf.index);
	cur = cursor_open(r, &f, e);
	if (!cur)
		return -1;
	rc = cursor_seek(cur, row->chunk, e);
	if (rc == 1)
		rc = cursor_next(cur, &c, e);
	if (rc == 0)
		err_set(e, MOE_ERR_INPUT, "leaf %llu: its decisions (chunk %lld) are gone",
			(unsigned long long)row->leaf.index, (long long)row->chunk);
	rc = rc == 1 ? payload_events(&c, out, e) : -1;
	cursor_close(cur);
	return rc;
}

int payload_find(struct reader *r, int64_t run, uint64_t seq, uint64_t pos, uint64_t *index,
	struct moe_err *e)
{
	/* Only sequences of other programs are called 0; the index does without. */
	static const char some[] =
		"SELECT header FROM audit_leaf WHERE run = ? AND seq = ? AND seq <> 0 "
		"AND kind = 6 ORDER BY idx";
	static const char zero[] =
		"SELECT header FROM audit_leaf WHERE run = ? AND seq = ? AND kind = 6 "
		"ORDER BY idx";
	sqlite3 *db = reader_db(r);
	sqlite3_stmt *st = NULL;
	int rc, found = 0;
	struct leaf l;

	if (sqlite3_prepare_v2(db, seq ? some : zero, -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(db));
	sqlite3_bind_int64(st, 1, run);
	sqlite3_bind_int64(st, 2, (int64_t)seq);
	while (!found && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const void *h = sqlite3_column_blob(st, 0);

		if (h && !leaf_get(&l, h, (size_t)sqlite3_column_bytes(st, 0)) && l.first <= pos &&
			pos - l.first < l.n) {
			*index = l.index;
			found = 1;
		}
	}
	sqlite3_finalize(st);
	return found ? 0
				 : err_set(e, MOE_ERR_USAGE,
					"the log has no decision for run %lld, sequence %llu, "
					"position %llu",
					(long long)run, (unsigned long long)seq, (unsigned long long)pos);
}

/* ---- keys ---- */

static const char key_head[] = "moescope-seal-key ";

int seal_key_create(unsigned char key[SEAL_KEY], const char *path, struct moe_err *e)
{
	char hex[2 * SEAL_KEY + 1];
	int fd, bad;

	randombytes_buf(key, SEAL_KEY);
	sodium_bin2hex(hex, sizeof hex, key, SEAL_KEY);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, "creating the sealing key %s", path);
	bad = dprintf(fd, "%s%s\n", key_head, hex) < 0 || fsync(fd);
	if (bad)
		err_errno(e, "writing the sealing key %s", path);
	close(fd);
	sodium_memzero(hex, sizeof hex);
	return bad ? -1 : 0;
}

int seal_key_load(unsigned char key[SEAL_KEY], const char *path, struct moe_err *e)
{
	char text[256] = "";
	size_t n = sizeof key_head - 1, len;
	struct stat st;
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), bad = 0;

	if (fd < 0)
		return err_errno(e, "the sealing key %s", path);
	got = fstat(fd, &st) || !S_ISREG(st.st_mode) ? -1 : read(fd, text, sizeof text - 1);
	close(fd);
	if (got < 0)
		return err_set(e, MOE_ERR_INPUT, "%s: not a sealing key", path);
	if (st.st_mode & 077)
		bad = err_set(e, MOE_ERR_INPUT,
			"%s: a sealing key that others may read (mode %03o); its mode "
			"must be 600",
			path, (unsigned)st.st_mode & 0777);
	else if (memcmp(text, key_head, n) ||
		sodium_hex2bin(key, SEAL_KEY, text + n, 2 * SEAL_KEY, NULL, &len, NULL) || len != SEAL_KEY)
		bad = err_set(e, MOE_ERR_INPUT, "%s: not a sealing key", path);
	sodium_memzero(text, sizeof text);
	return bad;
}

void seal_name(char *out, size_t size, uint64_t run, uint64_t seq, const char *name)
{
	if (name && *name)
		snprintf(out, size, "%s", name);
	else
		snprintf(out, size, "run %llu sequence %llu", (unsigned long long)run,
			(unsigned long long)seq);
}

enum { WRAPPED = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + SEAL_KEY };

static int new_subject(sqlite3 *db, const unsigned char master[SEAL_KEY], const char *name,
	unsigned char key[SEAL_KEY], struct moe_err *e)
{
	unsigned char w[WRAPPED];
	sqlite3_stmt *st = NULL;

	randombytes_buf(key, SEAL_KEY);
	randombytes_buf(w, crypto_secretbox_NONCEBYTES);
	crypto_secretbox_easy(w + crypto_secretbox_NONCEBYTES, key, SEAL_KEY, w, master);
	if (sqlite3_prepare_v2(db, "INSERT INTO audit_subject(name, key) VALUES(?, ?)", -1, &st, NULL))
		return err_set(e, MOE_ERR_SYS, "the log: a subject: %s", sqlite3_errmsg(db));
	sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_blob(st, 2, w, sizeof w, SQLITE_STATIC);
	sqlite3_step(st);
	return sqlite3_finalize(st) ? err_set(e, MOE_ERR_SYS, "the log: adding subject %s: %s", name,
		sqlite3_errmsg(db)) : 0;
}

int seal_subject(sqlite3 *db, const unsigned char master[SEAL_KEY], const char *name, int make,
	unsigned char key[SEAL_KEY], struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int rc, bad = 0;

	if (sqlite3_prepare_v2(db, "SELECT key FROM audit_subject WHERE name = ?", -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: reading subjects: %s", sqlite3_errmsg(db));
	sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const unsigned char *w = sqlite3_column_blob(st, 0);

		if (!w)
			bad = err_set(e, MOE_ERR_INPUT, "the key of subject '%s' was destroyed", name);
		else if (sqlite3_column_bytes(st, 0) != WRAPPED || crypto_secretbox_open_easy(key,
			w + crypto_secretbox_NONCEBYTES, WRAPPED - crypto_secretbox_NONCEBYTES, w, master))
			bad = err_set(e, MOE_ERR_INPUT, "the sealing key does not open the key of subject '%s'",
				name);
	} else if (rc != SQLITE_DONE) {
		bad = err_set(e, MOE_ERR_INPUT, "the log: reading subjects: %s", sqlite3_errmsg(db));
	}
	sqlite3_finalize(st);
	if (rc == SQLITE_DONE)
		return make ? new_subject(db, master, name, key, e) : err_set(e, MOE_ERR_INPUT,
			"the log has no key for subject '%s'", name);
	return bad;
}

/* ---- sealing ---- */

static const char seal_head[] = "moescope-seal/1\n";
enum { SEAL_AT = 16 + SHA_BYTES, SEAL_BODY = SEAL_AT +
	crypto_secretstream_xchacha20poly1305_HEADERBYTES };

static void key_id(const unsigned char key[SEAL_KEY], unsigned char out[SHA_BYTES])
{
	unsigned char b[16 + SEAL_KEY] = "moescope-skid/1\n";

	memcpy(b + 16, key, SEAL_KEY);
	sha_of(b, sizeof b, out);
	sodium_memzero(b, sizeof b);
}

/* run, seq, first and n, as they stand in a leaf's header. */
static void extra(const struct leaf *l, unsigned char out[28])
{
	unsigned char h[LEAF_BYTES];

	leaf_put(l, h);
	memcpy(out, h + 32, 24);
	memcpy(out + 24, h + 28, 4);
}

int seal_payload(const unsigned char key[SEAL_KEY], const struct leaf *l, const void *plain,
	size_t n, struct buf *out, struct moe_err *e)
{
	crypto_secretstream_xchacha20poly1305_state s;
	unsigned char head[SEAL_BODY], ad[28], *body;
	size_t len = n + crypto_secretstream_xchacha20poly1305_ABYTES;

	buf_clear(out);
	body = malloc(len);
	if (!body)
		return err_nomem(e, len, "a sealed payload");
	memcpy(head, seal_head, 16);
	key_id(key, head + 16);
	extra(l, ad);
	crypto_secretstream_xchacha20poly1305_init_push(&s, head + SEAL_AT, key);
	crypto_secretstream_xchacha20poly1305_push(&s, body, NULL, plain, n, ad, sizeof ad,
		crypto_secretstream_xchacha20poly1305_TAG_FINAL);
	buf_add(out, head, sizeof head);
	buf_add(out, body, len);
	free(body);
	return out->failed ? err_nomem(e, len, "a sealed payload") : 0;
}

int seal_open(const unsigned char key[SEAL_KEY], const struct leaf *l, const void *sealed, size_t n,
	struct buf *out, struct moe_err *e)
{
	crypto_secretstream_xchacha20poly1305_state s;
	const unsigned char *p = sealed;
	unsigned char id[SHA_BYTES], ad[28], tag, *plain;
	size_t len;
	int bad;

	if (n < SEAL_BODY + crypto_secretstream_xchacha20poly1305_ABYTES || memcmp(p, seal_head, 16))
		return err_set(e, MOE_ERR_INPUT, "leaf %llu: its payload is not a sealed one",
			(unsigned long long)l->index);
	key_id(key, id);
	if (memcmp(id, p + 16, sizeof id))
		return err_set(e, MOE_ERR_INPUT, "leaf %llu: its payload is sealed with another key",
			(unsigned long long)l->index);
	len = n - SEAL_BODY - crypto_secretstream_xchacha20poly1305_ABYTES;
	plain = malloc(len + 1);
	if (!plain)
		return err_nomem(e, len, "a payload");
	extra(l, ad);
	bad = crypto_secretstream_xchacha20poly1305_init_pull(&s, p + SEAL_AT, key) ||
		crypto_secretstream_xchacha20poly1305_pull(&s, plain, NULL, &tag, p + SEAL_BODY,
			n - SEAL_BODY, ad, sizeof ad);
	buf_clear(out);
	if (bad)
		err_set(e, MOE_ERR_INPUT, "leaf %llu: its sealed payload does not open: it was changed",
			(unsigned long long)l->index);
	else
		buf_add(out, plain, len);
	sodium_memzero(plain, len);
	free(plain);
	return bad ? -1 : out->failed ? err_nomem(e, len, "a payload") : 0;
}
