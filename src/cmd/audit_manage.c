/*
 * audit_manage.c - `moescope audit redact`, `retain`, `hold`, `unseal`: what a law or a person asks
 * of a log.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/payload.h"
#include "base/clock.h"
#include "base/err.h"
#include "cmd/audit.h"
#include "cmd/audit_recorded.h"
#include "cmd/audit_say.h"
#include "cmd/show.h"
#include "event/event.h"

#define DAY_NS (INT64_C(86400) * 1000000000)

int audit_range(const char *verb, int argc, char **argv, struct admin_range *r, struct moe_err *e)
{
	uint64_t run, seq;

	*r = (struct admin_range){ .seq = -1 };
	if (argc < 2 || argc > 3)
		return err_set(e, MOE_ERR_USAGE, "%s: DB RUN [SEQ] is expected", verb);
	if (audit_number("RUN", argv[1], &run, e) ||
		(argc == 3 && audit_number("SEQ", argv[2], &seq, e)))
		return -1;
	if (!run || run > INT64_MAX || (argc == 3 && seq > INT64_MAX))
		return err_set(e, MOE_ERR_USAGE, "%s: no run %s", verb, argv[1]);
	r->run = (int64_t)run;
	if (argc == 3)
		r->seq = (int64_t)seq;
	return 0;
}

/* sequence null: the whole run. payloads SAY_NULL: the action is not about those. */
static void say_range(const char *action, const struct admin_range *r, int64_t payloads)
{
	const struct say f[] = { { "run", NULL, r->run },
		{ "sequence", NULL, r->seq < 0 ? SAY_NULL : r->seq }, { "basis", audit_o.basis, 0 },
		{ "payloads", NULL, payloads } };

	audit_say(action, f, payloads == SAY_NULL ? 3 : 4);
}

int audit_redact(int argc, char **argv, struct moe_err *e)
{
	struct admin_range r;
	struct admin a;
	uint64_t n;
	int bad;

	if (audit_range("redact", argc, argv, &r, e))
		return -1;
	if (!audit_o.basis)
		return err_set(e, MOE_ERR_USAGE, "redact: --basis TEXT is needed: on what ground");
	if (admin_open(&a, argv[0], audit_o.key, 0, e))
		return -1;
	bad = admin_destroy(&a, LEAF_REDACTION, &r, audit_o.basis, audit_who(), &n, e);
	if (!bad && !n)
		bad = err_set(e, MOE_ERR_USAGE, "redact: the log holds no payload of that");
	bad = admin_close(&a, bad, e) || bad;
	if (!bad && audit_o.json)
		say_range("redact", &r, (int64_t)n);
	else if (!bad)
		printf(
			"REDACTED(%" PRIu64 "): payloads, salts and decisions are destroyed; the leaves stay\n"
			"copies and backups of the database are not touched, nor are the sums in table load\n",
			n);
	return bad ? -1 : 0;
}

int audit_retain(int argc, char **argv, struct moe_err *e)
{
	struct admin_range r = { .seq = -1 };
	int64_t days;
	struct admin a;
	uint64_t n = 0;
	int bad;

	if (argc != 1)
		return err_set(e, MOE_ERR_USAGE, "retain: one database is expected");
	if (admin_open(&a, argv[0], audit_o.key, 0, e))
		return -1;
	days = audit_o.days >= 0 ? audit_o.days : a.log.policy.retain_days;
	bad = days < a.log.policy.retain_days ? err_set(e, MOE_ERR_USAGE,
												"--days %" PRId64 ": this log promised "
												"to keep payloads for %" PRId64 " days",
												days, a.log.policy.retain_days)
										: 0;
	r.before = (uint64_t)(clock_wall() - days * DAY_NS);
	if (!bad)
		bad = admin_destroy(&a, LEAF_PRUNE, &r, "retention", audit_who(), &n, e);
	bad = admin_close(&a, bad, e) || bad;
	if (!bad && audit_o.json) {
		const struct say f[] = { { "payloads", NULL, (int64_t)n }, { "days", NULL, days } };

		audit_say("retain", f, 2);
	} else if (!bad)
		printf("pruned %" PRIu64 " payloads of runs that ended more than %" PRId64 " days ago\n", n,
			days);
	return bad ? -1 : 0;
}

int audit_hold(int argc, char **argv, struct moe_err *e)
{
	struct admin_range r;
	struct admin a;
	int bad;

	if (audit_range("hold", argc, argv, &r, e))
		return -1;
	if (!audit_o.basis)
		return err_set(e, MOE_ERR_USAGE, "hold: --basis TEXT is needed: on what ground");
	if (admin_open(&a, argv[0], audit_o.key, 0, e))
		return -1;
	bad = admin_hold(&a, &r, audit_o.release, audit_o.basis, audit_who(), e);
	bad = admin_close(&a, bad, e) || bad;
	if (!bad && audit_o.json)
		say_range(audit_o.release ? "release" : "hold", &r, SAY_NULL);
	else if (!bad)
		printf("%s\n",
			audit_o.release ? "released" : "held: neither redaction nor retention touches it");
	return bad ? -1 : 0;
}

/* ---- unseal ---- */

static void print_decision(const struct moe_event *ev)
{
	printf("position %u, token %d, layer %d:", ev->pos, ev->token, ev->layer);
	for (int k = 0; k < ev->k; k++)
		printf(" E%d (%.4f)", ev->experts[k], (double)ev->weights[k]);
	printf(", margin %.4g\n", (double)ev->margin);
}

static void print_json_number(const char *key, double v)
{
	if (v - v == 0)
		printf(", \"%s\": %.9g", key, v);
	else
		printf(", \"%s\": null", key);
}

/* One of the layers of a position, the n-th. */
static void print_json_decision(const struct moe_event *ev, int n)
{
	if (!n)
		printf("{\"sequence\": %" PRIu64 ", \"position\": %u, \"token\": %d, \"phase\": \"%s\", "
			"\"layers\": [", ev->seq, ev->pos, ev->token, ev->phase ? "decode" : "prefill");
	printf("%s{\"layer\": %d, \"chosen\": [", n ? ", " : "", ev->layer);
	for (int k = 0; k < ev->k; k++) {
		printf("%s{\"expert\": %d", k ? ", " : "", ev->experts[k]);
		print_json_number("weight", (double)ev->weights[k]);
		putchar('}');
	}
	putchar(']');
	print_json_number("margin", (double)ev->margin);
	putchar('}');
}

static int print_position(const struct buf *plain, uint64_t pos, struct moe_err *e)
{
	struct event_store *store = malloc(sizeof *store);
	struct moe_event ev;
	size_t used;
	int bad = store ? 0 : err_nomem(e, sizeof *store, "decisions"), n = 0;

	for (size_t at = 0; !bad && at < plain->len; at += used) {
		bad = event_decode((unsigned char *)plain->data + at, plain->len - at, store, &ev, &used,
			e);
		if (bad || ev.pos != pos)
			continue;
		if (audit_o.json)
			print_json_decision(&ev, n++);
		else
			print_decision(&ev);
	}
	if (n)
		puts("]}");
	free(store);
	return bad ? -1 : 0;
}

int audit_unseal(int argc, char **argv, struct moe_err *e)
{
	unsigned char master[SEAL_KEY];
	struct run_info *info = malloc(sizeof *info);
	struct log_row row = { 0 };
	struct reader *r = NULL;
	struct buf plain;
	uint64_t seq, pos, index;
	int bad;

	if (!info)
		return err_nomem(e, sizeof *info, "a run");
	buf_init(&plain, PAYLOAD_MAX);
	if (argc != 3 || !audit_o.seal)
		bad = err_set(e, MOE_ERR_USAGE, "unseal: DB SEQ TOKEN and --seal FILE are expected");
	else
		bad = audit_number("SEQ", argv[1], &seq, e) || audit_number("TOKEN", argv[2], &pos, e) ||
			sodium_init() < 0 || seal_key_load(master, audit_o.seal, e) ||
			!(r = reader_open(argv[0], e)) || reader_run(r, audit_o.run, info, e) ||
			payload_find(r, info->id, seq, pos, &index, e) ||
			log_read(reader_db(r), index, &row, e);
	if (!bad && !(row.leaf.flags & LEAF_SEALED))
		bad = err_set(e, MOE_ERR_USAGE, "leaf %" PRIu64 " is not encrypted", index);
	bad = bad || recorded_open(r, master, &row, &plain, e) ||
		audit_access(argv[0], LEAF_ACCESS, "unseal", info->id, (int64_t)seq, (int64_t)pos, e) ||
		print_position(&plain, pos, e);
	sodium_memzero(master, sizeof master);
	if (plain.data)
		sodium_memzero(plain.data, plain.len);
	buf_free(&plain);
	log_row_free(&row);
	reader_close(r);
	free(info);
	return bad ? -1 : 0;
}
