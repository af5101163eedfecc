/*
 * verify_notes.c - the signatures of a log that is verified: its keys and their rotations, the
 * checkpoints in the database, the anchors that the caller kept, and what proves a fork.
 */
#include "audit/verify_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "audit/proof.h"
#include "audit/rotate.h"
#include "base/err.h"

/* Notes that the caller kept; who signed them is asked once the log's keys are known. */
int verify_anchors(struct verify *v, struct moe_err *e)
{
	size_t at = 0;

	while (v->o->anchor && at < v->o->n_anchor) {
		size_t text, used;
		struct anchor *a;

		if (note_shape(v->o->anchor + at, v->o->n_anchor - at, &text, &used, e))
			return err_wrap(e, "the anchor, at byte %zu", at);
		a = realloc(v->anchor, (v->n_anchor + 1) * sizeof *a);
		if (!a)
			return err_nomem(e, (v->n_anchor + 1) * sizeof *a, "anchors");
		v->anchor = a;
		a += v->n_anchor++;
		memset(a, 0, sizeof *a);
		a->at = at;
		a->len = used;
		if (checkpoint_read(&a->c, v->o->anchor + at, text, e))
			return err_wrap(e, "the anchor, at byte %zu", at);
		at += used;
	}
	if (v->o->anchor && !v->n_anchor)
		return err_set(e, MOE_ERR_INPUT, "the anchor holds no checkpoint");
	return 0;
}

/* ---- keys ---- */

static int is_pinned(const struct verify *v, const struct note_key *k)
{
	for (size_t i = 0; i < v->o->n_key; i++)
		if (!strcmp(v->o->keys[i].name, k->name) && !memcmp(v->o->keys[i].pub, k->pub, 32))
			return 1;
	return 0;
}

int verify_add_key(struct verify *v, const char *vkey, uint64_t from)
{
	struct moe_err e;
	struct note_key k;

	if (v->n_key == LOG_KEYS_MAX || note_key_read(&k, vkey, strlen(vkey), &e))
		return -1;
	v->key_from[v->n_key] = from;
	v->key[v->n_key++] = k;
	v->pinned |= is_pinned(v, &k);
	return 0;
}

/* A rotation is signed by the key that goes and the key that comes, over the same statement. */
void verify_rotation(struct verify *v, const struct leaf *l, const char *p, size_t n)
{
	char old[NOTE_KEY_TEXT], new[NOTE_KEY_TEXT], now[NOTE_KEY_TEXT], sig[2][200];
	unsigned char raw[2][64];
	struct note_key k;
	struct moe_err e;
	struct buf st;
	size_t len;
	int good;

	buf_init(&st, 4096);
	good = v->n_key && !record_get(p, n, "old", old, sizeof old) &&
		!record_get(p, n, "new", new, sizeof new) &&
		!record_get(p, n, "old_signature", sig[0], sizeof sig[0]) &&
		!record_get(p, n, "new_signature", sig[1], sizeof sig[1]) &&
		!sodium_hex2bin(raw[0], 64, sig[0], strlen(sig[0]), NULL, &len, NULL) && len == 64 &&
		!sodium_hex2bin(raw[1], 64, sig[1], strlen(sig[1]), NULL, &len, NULL) && len == 64 &&
		!note_key_read(&k, new, strlen(new), &e);
	if (good) {
		note_key_text(&v->key[v->n_key - 1], now);
		rotation_statement(&st, v->out->origin, v->n_key, old, new);
		good = !st.failed && !strcmp(now, old) &&
			!crypto_sign_verify_detached(raw[0], (void *)st.data, st.len,
				v->key[v->n_key - 1].pub) &&
			!crypto_sign_verify_detached(raw[1], (void *)st.data, st.len, k.pub);
	}
	buf_free(&st);
	if (!good || verify_add_key(v, new, l->index))
		verify_find(v, FIND_TAMPERED,
			"leaf %" PRIu64 ": a key rotation that the key in force did not sign", l->index);
}

/* ---- checkpoints ---- */

int verify_next_note(struct verify *v, struct moe_err *e)
{
	int rc = sqlite3_step(v->notes);

	v->note_ready = rc == SQLITE_ROW;
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return verify_sql(v, "checkpoints", e);
	if (v->note_ready)
		v->note_size = (uint64_t)sqlite3_column_int64(v->notes, 0);
	return 0;
}

/* The key that signs checkpoints of this size, by the rotations that were met. */
static const struct note_key *key_at(const struct verify *v, uint64_t size, uint64_t *epoch)
{
	size_t i = v->n_key;

	while (i && v->key_from[i - 1] >= size)
		i--;
	*epoch = i ? i - 1 : 0;
	return i ? &v->key[i - 1] : NULL;
}

/* An anchor that the log's own signed note `own` contradicts, as evidence: 1, 0 = it does not. */
static int prove_fork(struct verify *v, const struct anchor *a, const char *own, size_t n_own)
{
	const char *note = v->o->anchor + a->at;
	unsigned char path[TREE_CONSISTENCY_MAX][SHA_BYTES], root[SHA_BYTES];
	struct log_nodes nodes;
	struct tree_source src;
	struct buf json, what;
	struct checkpoint c;
	struct moe_err e;
	size_t text, used;
	int n = -1, proven;

	if (v->out->fork || note_shape(own, n_own, &text, &used, &e) ||
		checkpoint_read(&c, own, text, &e))
		return 0;
	if (c.size > a->c.size && !log_nodes_open(&nodes, v->db, &e)) {
		src = log_source(&nodes);
		if (!tree_root_at(&src, a->c.size, root, &e))
			n = tree_consistency(&src, a->c.size, c.size, path, &e);
		log_nodes_close(&nodes);
	}
	buf_init(&json, 4 * NOTE_MAX);
	buf_init(&what, 4 * NOTE_MAX);
	proof_fork(note, a->len, own, n_own, root, (const void *)path, n, &json);
	proven = !json.failed && proof_check(json.data, json.len, v->key, v->n_key, &what, &e) == 1;
	if (proven) {
		v->out->fork = strndup(json.data, json.len);
		verify_find(v, FIND_TAMPERED,
			"FORK: the key signed two different logs of %" PRIu64 " leaves",
			a->c.size);
	}
	buf_free(&json);
	buf_free(&what);
	return proven;
}

/* Is the note one of this log at its size, which the tree has just now? 1, 0 (told). */
static int check_note(struct verify *v, const char *what, const char *p, size_t n,
	struct checkpoint *c)
{
	const struct note_key *k;
	unsigned char root[SHA_BYTES];
	uint64_t epoch;
	size_t text, used;
	struct moe_err e;

	if (note_shape(p, n, &text, &used, &e) || checkpoint_read(c, p, text, &e)) {
		verify_find(v, FIND_TAMPERED, "%s: %s", what, e.msg);
		return 0;
	}
	if (strcmp(c->origin, v->out->origin)) {
		verify_find(v, FIND_TAMPERED, "%s: it is of another log", what);
		return 0;
	}
	k = key_at(v, c->size, &epoch);
	if (!k || note_open(p, n, k, 1, &text, &used, &e) < 0) {
		verify_find(v, FIND_TAMPERED, "%s of %" PRIu64 " leaves: %s", what, c->size,
			k ? e.msg : "the log names no key");
		return 0;
	}
	if (c->epoch != epoch) {
		verify_find(v, FIND_TAMPERED,
			"%s of %" PRIu64 " leaves: signed for epoch %" PRIu64 ", that is %"
			PRIu64, what, c->size, c->epoch, epoch);
		return 0;
	}
	tree_root(&v->tree, root);
	if (c->size != v->tree.n || memcmp(root, c->root, SHA_BYTES)) {
		verify_find(v, FIND_TAMPERED,
			"%s of %" PRIu64 " leaves: the leaves that are here have another root", what, c->size);
		return 0;
	}
	return 1;
}

/* All notes and anchors of the size that the tree has now. */
int verify_at_size(struct verify *v, struct moe_err *e)
{
	struct checkpoint c;

	while (v->note_ready && v->note_size <= v->tree.n) {
		const char *p = (const char *)sqlite3_column_text(v->notes, 1);
		size_t n = (size_t)sqlite3_column_bytes(v->notes, 1);

		if (p && check_note(v, "checkpoint", p, n, &c)) {
			v->out->checkpoints++;
			v->out->signed_size = c.size;
		}
		if (verify_next_note(v, e))
			return -1;
	}
	for (size_t i = 0; i < v->n_anchor; i++) {
		struct anchor *a = &v->anchor[i];

		if (a->done || a->c.size != v->tree.n)
			continue;
		a->done = 1;
		if (check_note(v, "anchor", v->o->anchor + a->at, a->len, &c)) {
			v->out->anchored = 1;
			v->out->anchored_size = c.size;
		} else {
			a->done = 2;
		}
	}
	return 0;
}

/* An anchor that this log contradicts, and the log's own signed note of the same size: a fork. */
int verify_forks(struct verify *v, struct moe_err *e)
{
	for (size_t i = 0; i < v->n_anchor; i++) {
		const struct anchor *a = &v->anchor[i];
		size_t n;
		char *own;

		if (!a->done && !v->aborted)
			verify_find(v, FIND_TAMPERED, "anchor of %" PRIu64 " leaves: the log has %" PRIu64
				": its end was cut off", a->c.size, v->tree.n);
		if (a->done == 1)
			continue;
		if (!a->done)
			continue;
		if (log_note(v->db, UINT64_MAX, &own, &n, e)) /* the newest shows it, if any does */
			return -1;
		if (own)
			prove_fork(v, a, own, n);
		free(own);
	}
	return 0;
}
