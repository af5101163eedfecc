/* rotate.c - see rotate.h. */
#include "audit/rotate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

void rotation_statement(struct buf *out, const char *origin, uint64_t epoch, const char *old,
	const char *new)
{
	buf_printf(out, "moescope-rotation/1\n%s\n%" PRIu64 "\n%s\n%s\n", origin, epoch, old, new);
}

static int store(struct log *g, const char *path, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(
			g->db, "UPDATE audit_log SET vkey = ?, epoch = ?, key_path = ?", -1, &st, NULL))
		return err_set(e, MOE_ERR_SYS, "the log: %s", sqlite3_errmsg(g->db));
	sqlite3_bind_text(st, 1, g->vkey, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, (int64_t)g->epoch);
	sqlite3_bind_text(st, 3, path, -1, SQLITE_STATIC);
	sqlite3_step(st);
	return sqlite3_finalize(st) ? err_set(e, MOE_ERR_SYS, "the log: storing the key: %s",
		sqlite3_errmsg(g->db)) : 0;
}

int log_rotate(struct log *g, const struct note_secret *old, const struct note_secret *new,
	const char *new_path, const char *who, struct moe_err *e)
{
	char before[NOTE_KEY_TEXT], after[NOTE_KEY_TEXT];
	unsigned char sig[2][crypto_sign_BYTES];
	struct buf st, rec;
	int bad;

	if (log_key_fits(g, old, e))
		return -1;
	if (g->epoch + 1 >= LOG_KEYS_MAX)
		return err_set(e, MOE_ERR_USAGE, "a log may have %d keys", LOG_KEYS_MAX);
	note_key_text(&old->key, before);
	note_key_text(&new->key, after);
	buf_init(&st, 4096);
	buf_init(&rec, 8192);
	rotation_statement(&st, g->policy.origin, g->epoch + 1, before, after);
	crypto_sign_detached(sig[0], NULL, (void *)st.data, st.len, old->secret);
	crypto_sign_detached(sig[1], NULL, (void *)st.data, st.len, new->secret);
	record_begin(&rec, "rotation");
	record_int(&rec, "epoch", (int64_t)g->epoch + 1);
	record_text(&rec, "old", before);
	record_text(&rec, "new", after);
	record_hex(&rec, "old_signature", sig[0], sizeof sig[0]);
	record_hex(&rec, "new_signature", sig[1], sizeof sig[1]);
	record_text(&rec, "who", who);
	bad = st.failed ? err_nomem(e, 4096, "a rotation")
					: log_record(g, LEAF_ROTATION, 0, 0, NULL, &rec, e);
	buf_free(&st);
	buf_free(&rec);
	if (bad)
		return -1;
	g->epoch++;
	memcpy(g->vkey, after, sizeof g->vkey);
	return store(g, new_path, e) || log_checkpoint(g, new, e) ? -1 : 0;
}
