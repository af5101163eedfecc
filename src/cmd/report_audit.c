/*
 * report_audit.c - what `report --audit` says about the log: asked of src/audit, handed to the
 * report as plain data. Nothing is written, also no record of this reading: a report opens the
 * database read-only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/verify.h"
#include "base/err.h"
#include "cmd/audit.h"
#include "cmd/report.h"
#include "reports/report.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void found(void *ctx, enum finding f, const char *text)
{
	struct report_audit *a = ctx;

	if (a->n_finding == COUNT(a->finding)) {
		a->more_findings++;
		return;
	}
	snprintf(a->finding[a->n_finding].kind, sizeof a->finding->kind, "%s", finding_name(f));
	snprintf(a->finding[a->n_finding++].text, sizeof a->finding->text, "%s", text);
}

/* Kinds whose records say that a model, the configuration or the log itself changed. */
static int is_change(unsigned kind)
{
	switch (kind) {
	case LEAF_INIT: case LEAF_MODEL: case LEAF_SESSION_START: case LEAF_SESSION_END: case LEAF_GAP:
	case LEAF_CLOCK: case LEAF_RECOVERY: case LEAF_ROTATION: case LEAF_REDACTION: case LEAF_PRUNE:
	case LEAF_HOLD: case LEAF_EXPORT: case LEAF_ACCESS: case LEAF_OPERATOR:
		return 1;
	default:
		return 0;
	}
}

/* A record's lines as "key value; key value", as far as they fit. */
static void say_record(const struct log_row *row, char *out, size_t size)
{
	struct record_line line;
	size_t at = 0, n = 0;

	out[0] = 0;
	while (row->payload && record_next((const char *)row->payload, row->n_payload, &at, &line) ==
	    1) {
		int k = snprintf(out + n, size - n, "%s%.*s %.*s", n ? "; " : "", (int)line.n_key, line.key,
			(int)(line.n_value < 100 ? line.n_value : 100), line.value);

		if (k < 0 || (size_t)k >= size - n)
			break;
		n += (size_t)k;
	}
	if (!row->has_payload)
		snprintf(out, size, "the payload is gone (redacted or past its time)");
}

static int read_events(sqlite3 *db, struct report_audit *a, struct moe_err *e)
{
	uint64_t count[LEAF_KINDS] = { 0 };

	for (uint64_t i = 0; i < a->leaves; i++) {
		struct log_row row;
		unsigned k;

		if (log_read(db, i, &row, e))
			return -1;
		k = row.leaf.kind;
		if (k < LEAF_KINDS)
			count[k]++;
		if (is_change(k) && a->n_event < COUNT(a->event)) {
			const char *name = leaf_kind_name(k);

			a->event[a->n_event].wall = (int64_t)row.leaf.wall;
			snprintf(a->event[a->n_event].kind, sizeof a->event->kind, "%s", name ? name : "?");
			say_record(&row, a->event[a->n_event].text, sizeof a->event->text);
			a->n_event++;
		} else
			a->more_events += is_change(k) != 0;
		log_row_free(&row);
	}
	for (unsigned k = 1; k < LEAF_KINDS && a->n_kind < COUNT(a->kind); k++)
		if (count[k] && leaf_kind_name(k)) {
			snprintf(a->kind[a->n_kind].name, sizeof a->kind->name, "%s", leaf_kind_name(k));
			a->kind[a->n_kind++].n = count[k];
		}
	return 0;
}

static int verify(struct reader *r, const char *pubkey, const char *anchor_file,
	struct report_audit *a, struct moe_err *e)
{
	struct verify_opt o = { .n_key = 1, .deep = 1, .found = found, .ctx = a };
	struct verify_result v;
	struct note_key key;
	char *anchor = NULL;
	int bad;

	if (note_key_load(&key, pubkey, e) ||
	    (anchor_file && !(anchor = audit_read_file(anchor_file, &o.n_anchor, e))))
		return -1;
	o.keys = &key;
	o.anchor = anchor;
	bad = verify_log(r, &o, &v, e);
	free(anchor);
	if (bad) {
		snprintf(a->why, sizeof a->why, "%.250s", e->msg);
		return 0;
	}
	a->verified = 1;
	a->anchored = v.anchored, a->deep = v.deep;
	a->signed_size = v.signed_size, a->anchored_size = v.anchored_size;
	a->redacted = v.redacted, a->pruned = v.pruned, a->gaps = v.gaps,
		a->checkpoints = v.checkpoints;
	snprintf(a->verdict, sizeof a->verdict, "%s", verify_verdict(&v));
	for (size_t i = 0; i < SHA_BYTES; i++)
		snprintf(a->root + 2 * i, 3, "%02x", v.root[i]);
	for (size_t i = 0; i + 1 < COUNT(a->blind) && verify_blind(i, v.anchored); i++)
		a->blind[i] = verify_blind(i, v.anchored);
	free(v.fork);
	return 0;
}

int report_ask_audit(struct reader *r, const char *pubkey, const char *anchor,
	struct report_audit *a, struct moe_err *e)
{
	static const char *const detail[] = { "sums", "routes", "full" };
	char vkey[NOTE_KEY_TEXT];
	struct log_policy p;
	uint64_t epoch;

	memset(a, 0, sizeof *a);
	a->pubkey = pubkey, a->anchor = anchor;
	a->exists = log_exists(reader_db(r), e);
	if (a->exists <= 0)
		return a->exists;
	if (log_policy_read(reader_db(r), &p, vkey, &epoch, e) ||
	    log_size(reader_db(r), &a->leaves, e) || read_events(reader_db(r), a, e))
		return -1;
	snprintf(a->origin, sizeof a->origin, "%.255s", p.origin);
	snprintf(a->detail, sizeof a->detail, "%s", p.detail >= 0 &&
		p.detail < 3 ? detail[p.detail] : "?");
	snprintf(a->loss, sizeof a->loss, "%s",
		p.loss == LOG_STRICT ? "no token is shown" : "a gap is logged");
	a->retain_days = p.retain_days, a->heartbeat_s = p.heartbeat_s,
		a->checkpoint_s = p.checkpoint_s;
	a->sealed = p.sealed;
	snprintf(a->why, sizeof a->why, "no public key was given");
	return pubkey ? verify(r, pubkey, anchor, a, e) : 0;
}
