/*
 * audit_replay.c - `moescope audit replay`: run recorded sequences again and compare.
 *
 * What is compared are the digests of logits that the log holds and the stored choices of the
 * routers. The engine gives the same bits for any number of threads, batch size and instruction
 * set, so those may differ from the recorded run; the model may not, nor what else decides the
 * bits: adapters, activations, the cache's type.
 *
 * A sequence is fed as it was: its phases are part of every decision, and the record of its end
 * names the positions whose logits were looked at, so that turns of a conversation are told apart.
 *
 *	BIT_EXACT        logits have the recorded digest, and every choice, weight and margin is the
 *	                 recorded one as far as it was kept (weights and margins: only where exact)
 *	ROUTE_EXACT      every choice is; the log has no digest, or another one, or other weights
 *	ROUTE_EXPLAINED  choices differ only where the recorded margin is below --epsilon
 *	DIVERGED         first position, layer and expert that differ otherwise
 *	NOT_COMPARABLE   names what stands in the way
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/payload.h"
#include "audit/recorder.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/audit.h"
#include "cmd/audit_recorded.h"
#include "cmd/engine.h"
#include "cmd/record.h"
#include "cmd/show.h"

enum verdict { BIT_EXACT, ROUTE_EXACT, ROUTE_EXPLAINED, DIVERGED, NOT_COMPARABLE, N_VERDICT };
static const char *const verdict_name[] = { "BIT_EXACT", "ROUTE_EXACT", "ROUTE_EXPLAINED",
	"DIVERGED", "NOT_COMPARABLE" };

struct replay {
	struct reader *r;
	struct run_info info;
	struct loaded l;
	struct session *s;
	struct moe_hook hook;
	char logits[16];     /* which rows were digested */
	int exact;           /* weights and margins are as they were computed */
	struct recorded rec; /* of the sequence being run */
	struct logit_digest digest;
	unsigned char digest_key[LOGIT_KEY];
	uint64_t explained, differ, weights_differ;
	struct { uint32_t pos; int layer; uint16_t was, is; float margin; } first;
	uint64_t count[N_VERDICT];
	char *desc;          /* the run's descriptor, a record */
	size_t n_desc;
	unsigned char seal[SEAL_KEY]; /* with --seal */
	struct buf note;     /* what is not as it was recorded */
	int n_printed;
};

/* ---- running it again ---- */

static int compare(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct replay *p = ctx;
	size_t li = 0;

	(void)e;
	while (li < p->info.n_moe_layer && p->info.layers[li].layer != v->layer)
		li++;
	for (uint32_t t = 0; t < v->n_tok && li < p->info.n_moe_layer; t++) {
		size_t pos = v->pos[t];
		const uint16_t *was = p->rec.experts + pos * p->rec.k_row + p->rec.k_at[li];
		const uint16_t *is = v->experts + (size_t)t * v->k;
		const float *weights = p->rec.weights + pos * p->rec.k_row + p->rec.k_at[li];
		float margin = p->rec.margins[pos * p->info.n_moe_layer + li];
		int k = 0;

		while (k < v->k && was[k] == is[k])
			k++;
		if (k == v->k) {
			/* the bits: NaNs are equal too */
			p->weights_differ += p->exact && (memcmp(weights, v->weights + (size_t)t * v->k,
				v->k * sizeof *weights) || memcmp(&margin, &v->margin[t], sizeof margin));
			continue;
		}
		if (margin < (float)audit_o.epsilon) {
			p->explained++;
		} else if (!p->differ++) {
			p->first.pos = (uint32_t)pos;
			p->first.layer = v->layer;
			p->first.was = was[k];
			p->first.is = is[k];
			p->first.margin = margin;
		}
	}
	return 0;
}

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct replay *p = ctx;

	(void)e;
	logit_digest_add(&p->digest, pos, row, model_info(p->l.model)->n_vocab);
	return 0;
}

static int run_again(struct replay *p, struct moe_err *e)
{
	struct recorded *c = &p->rec;
	int all = !strcmp(p->logits, "all");
	struct session_want want = { all, on_logits, p };
	struct moe_seq_info info = { .seq = c->seq, .n_prompt = (uint32_t)c->n_prompt };
	struct moe_seq_result res = { .seq = c->seq };
	const struct session_want *w = strcmp(p->logits, "none") ? &want : NULL;

	logit_digest_init(&p->digest, p->digest_key);
	p->explained = p->differ = p->weights_differ = 0;
	if (session_begin(p->s, &info, e))
		return -1;
	for (size_t i = 0, n; i < c->n; i += n) {
		for (n = 1; c->phase[i] == MOE_PREFILL && i + n < c->n && c->phase[i + n] == MOE_PREFILL &&
			(all || !c->looked[i + n - 1]); n++)
			;
		if (session_eval(p->s, c->tokens + i, n, (enum moe_phase)c->phase[i], w, e))
			return -1;
	}
	return session_end(p->s, &res, e);
}

/* "0-11,15,17-30": the positions whose logits were looked at. */
static void take_looked(struct recorded *c, const char *list)
{
	char *end = (char *)(uintptr_t)list;

	while (*end) {
		unsigned long long from = strtoull(end, &end, 10), to = from;

		if (*end == '-')
			to = strtoull(end + 1, &end, 10);
		for (; from <= to && from < c->n; from++)
			c->looked[from] = 1;
		if (*end++ != ',')
			return;
	}
}

/* The digest in the sequence's last leaf: 1, 0 = none. */
static int logged_digest(struct replay *p, uint64_t seq, unsigned char out[SHA_BYTES],
	struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	char hex[2 * SHA_BYTES + 1] = "", key[2 * LOGIT_KEY + 1] = "";
	size_t n = 0, len, n_key = 0;
	char *list = NULL;

	if (sqlite3_prepare_v2(reader_db(p->r),
			"SELECT payload FROM audit_leaf WHERE run = ? AND seq = ? AND "
			"seq <> 0 AND kind = 7",
			-1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(p->r)));
	sqlite3_bind_int64(st, 1, p->info.id);
	sqlite3_bind_int64(st, 2, (int64_t)seq);
	if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_blob(st, 0)) {
		const char *rec = sqlite3_column_blob(st, 0);

		n = (size_t)sqlite3_column_bytes(st, 0);
		record_get(rec, n, "logits", hex, sizeof hex);
		record_get(rec, n, "logit_key", key, sizeof key);
		list = malloc(n + 1);
		if (list && !record_get(rec, n, "logit_at", list, n + 1))
			take_looked(&p->rec, list);
	}
	sqlite3_finalize(st);
	if (n && !list)
		return err_nomem(e, n, "positions of logits");
	free(list);
	memset(p->digest_key, 0, sizeof p->digest_key);
	return *hex &&
		!sodium_hex2bin(p->digest_key, LOGIT_KEY, key, strlen(key), NULL, &n_key, NULL) &&
		n_key == LOGIT_KEY && !sodium_hex2bin(out, SHA_BYTES, hex, strlen(hex), NULL, &len, NULL) &&
		len == SHA_BYTES;
}

static void tell(struct replay *p, enum verdict v, const char *text)
{
	struct buf b;

	p->count[v]++;
	buf_init(&b, 8192);
	if (audit_o.json) {
		text_escape(&b, text, strlen(text), TEXT_JSON);
		printf("%s\n {\"sequence\": %" PRIu64
				", \"tokens\": %zu, \"verdict\": \"%s\", \"text\": \"%s\"",
			p->n_printed++ ? "," : "[", p->rec.seq, p->rec.n, verdict_name[v],
			b.data ? b.data : "");
		buf_clear(&b);
		text_escape(&b, p->note.data ? p->note.data : "", p->note.len, TEXT_JSON);
		printf(", \"not_as_recorded\": \"%s\"}", b.data ? b.data : "");
	} else {
		printf("sequence %-6" PRIu64 " %6zu tokens  %s%s%s\n", p->rec.seq, p->rec.n,
			verdict_name[v], *text ? ": " : "", show(text).s);
	}
	buf_free(&b);
}

static int one_sequence(struct replay *p, const char *why_not, struct moe_err *e)
{
	unsigned char want[SHA_BYTES], got[SHA_BYTES];
	char text[300] = "";
	enum verdict v;
	int have;

	if (!why_not && p->rec.n > session_ctx(p->s))
		why_not = "the context is too small (--ctx)";
	if (!why_not && !p->rec.n)
		why_not = "its decisions are not here: redacted, pruned, never kept, or encrypted (--seal)";
	if (why_not) {
		tell(p, NOT_COMPARABLE, why_not);
		return 0;
	}
	have = logged_digest(p, p->rec.seq, want, e);
	if (have < 0 || run_again(p, e))
		return -1;
	logit_digest_end(&p->digest, got);
	v = p->differ ? DIVERGED : p->explained ? ROUTE_EXPLAINED :
		have && !memcmp(want, got, SHA_BYTES) && !p->weights_differ ? BIT_EXACT : ROUTE_EXACT;
	if (v == DIVERGED)
		snprintf(text, sizeof text,
			"first at position %u, layer %d: E%d was chosen, now E%d (margin %.3g); "
			"%" PRIu64 " decisions differ",
			p->first.pos, p->first.layer, p->first.was, p->first.is, (double)p->first.margin,
			p->differ + p->explained);
	else if (v == ROUTE_EXPLAINED)
		snprintf(text, sizeof text, "%" PRIu64 " decisions differ, all with a margin below %g",
			p->explained, audit_o.epsilon);
	else if (v == ROUTE_EXACT && p->weights_differ)
		snprintf(text, sizeof text, "but weights or margins of %" PRIu64 " decisions are others%s",
			p->weights_differ, have && memcmp(want, got, SHA_BYTES) ?
			"; the logits have another digest" : "");
	else if (v == ROUTE_EXACT)
		snprintf(text, sizeof text, have ? "but the logits have another digest" :
			"no digest of logits was logged");
	if (have && (v == DIVERGED || v == ROUTE_EXPLAINED) && memcmp(want, got, SHA_BYTES))
		snprintf(
			text + strlen(text), sizeof text - strlen(text), "; the logits have another digest");
	tell(p, v, text);
	return 0;
}

/* ---- the run ---- */

static int load_descriptor(struct replay *p, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int bad = 0;

	if (sqlite3_prepare_v2(reader_db(p->r),
			"SELECT payload FROM audit_leaf WHERE run = ? AND kind = 2 AND" LOG_RARE("kind"),
			-1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(p->r)));
	sqlite3_bind_int64(st, 1, p->info.id);
	if (sqlite3_step(st) != SQLITE_ROW || !sqlite3_column_blob(st, 0)) {
		bad = err_set(e, MOE_ERR_INPUT, "run %" PRId64 " is not in the log", p->info.id);
	} else {
		p->n_desc = (size_t)sqlite3_column_bytes(st, 0);
		p->desc = malloc(p->n_desc);
		if (p->desc)
			memcpy(p->desc, sqlite3_column_blob(st, 0), p->n_desc);
		else
			bad = err_nomem(e, p->n_desc, "a descriptor");
	}
	sqlite3_finalize(st);
	return bad;
}

static void differs(struct replay *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void differs(struct replay *p, const char *fmt, ...)
{
	char text[700];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	buf_printf(&p->note, "%s%s", p->note.len ? "; " : "", text);
}

static void check_model(struct replay *p)
{
	const struct model_info *in = model_info(p->l.model);
	unsigned char sha[SHA_BYTES], root[SHA_BYTES];
	char now[65], then[80], quant[80];

	record_get(p->desc, p->n_desc, "model_sha256", then, sizeof then);
	record_get(p->desc, p->n_desc, "quant", quant, sizeof quant);
	record_get(p->desc, p->n_desc, "logits", p->logits, sizeof p->logits);
	record_model_hashes(p->l.gguf, sha, root);
	sodium_bin2hex(now, sizeof now, sha, sizeof sha);
	if (strcmp(now, then))
		differs(p, "model_sha256: recorded %.16s..., given %.16s...", then, now);
	if (strcmp(quant, in->quant))
		differs(p, "quant: recorded %s, given %s", quant, in->quant);
}

/* Scale and SHA-256, the first two words, of adapter i: 1 and "SCALE of HASH...", 0 = there is
 * none. */
static int adapter_words(const char *value, char *key, size_t size, char out[64])
{
	const char *hash = value ? strchr(value, ' ') : NULL;
	const char *path = hash ? strchr(hash + 1, ' ') : NULL;

	strcpy(out, "none");
	if (!path)
		return 0;
	snprintf(key, size, "%.*s", (int)(path - value), value);
	snprintf(
		out, 64, "%.*s of %.16s...", (int)(hash - value < 30 ? hash - value : 30), value, hash + 1);
	return 1;
}

/* Adapters count in their order. */
static void check_adapters(struct replay *p, const struct moe_run_desc *d)
{
	for (int i = 1;; i++) {
		char name[40], value[1300], a[160] = "", b[160] = "", then[64], now[64];
		const char *set = NULL;
		int had, has;

		snprintf(name, sizeof name, "setting_adapter_%d", i);
		had = !record_get(p->desc, p->n_desc, name, value, sizeof value) &&
			adapter_words(value, a, sizeof a, then);
		snprintf(name, sizeof name, "adapter %d", i);
		for (uint32_t k = 0; k < d->n_setting; k++)
			if (!strcmp(d->settings[k].key, name))
				set = d->settings[k].value;
		has = adapter_words(set, b, sizeof b, now);
		if (!had)
			strcpy(then, "none");
		if (!had && !has)
			return;
		if (strcmp(a, b))
			differs(p, "adapter %d: recorded %s, now %s (--lora)", i, then, now);
	}
}

/* Activations and the cache's type decide the bits. The first word is the instruction set, which
 * does not. Nor does the expert cache, unless routing heeds it. */
static void check_arithmetic(struct replay *p)
{
	const char *now = session_arithmetic(p->s), *a = strchr(now, ' '), *b;
	char then[100], aware[100];

	record_get(p->desc, p->n_desc, "arithmetic", then, sizeof then);
	b = strchr(then, ' ');
	if (strcmp(a ? a : "", b ? b : ""))
		differs(p, "arithmetic: recorded '%s', now '%s' (--activations, --kv-type)", then, now);
	if (!record_get(p->desc, p->n_desc, "setting_cache-aware_routing", aware, sizeof aware))
		differs(p, "cache-aware routing: choices depended on what the expert cache held");
	else if (audit_o.load.aware)
		differs(p, "cache-aware routing: recorded off, now on (--cache-aware)");
}

/* Why no sequence of the run can be compared, NULL if they can: without a model. */
static const char *never(const struct replay *p)
{
	char file[16];

	return record_get(p->desc, p->n_desc, "imported", file, sizeof file) ? NULL :
		"the run was imported from a file of another program, it was not recorded here";
}

/* The same with the model; with --anyway only what makes it impossible. */
static int against_model(struct replay *p, const char **why_not, struct moe_err *e)
{
	const struct model_info *in;
	struct moe_run_desc d;
	int same;

	if (load_model(audit_o.model, &audit_o.load, &p->l, e))
		return -1;
	in = model_info(p->l.model);
	same = in->n_moe_layer == p->info.n_moe_layer;
	p->exact = !strcmp(p->info.weights, "exact");
	for (uint32_t i = 0; i < p->info.n_moe_layer && same; i++)
		same = !memcmp(&in->layers[i], &p->info.layers[i], sizeof in->layers[i]);
	check_model(p);
	if (!same) {
		differs(p, "routers: other layers, experts or picks than run %" PRId64 " has", p->info.id);
		*why_not = p->note.data;
		return 0;
	}
	p->s = engine_session(&p->l, &audit_o.load, e);
	if (!p->s || session_add_hook(p->s, &p->hook, e))
		return -1;
	engine_describe(&p->l, p->s, &audit_o.load, "replay", &d);
	check_adapters(p, &d);
	check_arithmetic(p);
	if (p->note.failed)
		return err_nomem(e, p->note.len, "what differs");
	*why_not = p->note.len && !audit_o.anyway ? p->note.data : NULL;
	return 0;
}

/* All sequences of the run, those without decisions too. */
static int all_sequences(struct replay *p, const char *why_not, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int bad = 0;

	if (sqlite3_prepare_v2(reader_db(p->r),
			"SELECT id, seq FROM sequence WHERE run = ?1 AND (?2 < 0 OR seq = ?2) ORDER BY seq", -1,
			&st, NULL))
		return err_set(e, MOE_ERR_INPUT, "%s", sqlite3_errmsg(reader_db(p->r)));
	sqlite3_bind_int64(st, 1, p->info.id);
	sqlite3_bind_int64(st, 2, audit_o.sequence);
	while (!bad && !load_interrupted() && sqlite3_step(st) == SQLITE_ROW) {
		const char *why = why_not;
		int got = 0;

		p->rec.seq = (uint64_t)sqlite3_column_int64(st, 1);
		recorded_clear(&p->rec);
		if (!why && audit_o.seal)
			got = recorded_sealed(&p->rec, p->r, p->seal, e);
		else if (!why)
			got = recorded_rows(&p->rec, p->r, sqlite3_column_int64(st, 0), e);
		if (got > 0)
			why = "decisions are missing: part of it was redacted or dropped";
		bad = got < 0 || one_sequence(p, why, e);
	}
	sqlite3_finalize(st);
	return bad ? -1 : 0;
}

int audit_replay(int argc, char **argv, struct moe_err *e)
{
	struct replay *p;
	const char *why_not = NULL;
	uint64_t run = 0, total = 0;
	int bad, status = 0;

	if (argc < 1 || argc > 2 || !audit_o.model)
		return err_set(e, MOE_ERR_USAGE, "replay: DB [RUN] and --model FILE are expected");
	if (argc == 2 && audit_number("RUN", argv[1], &run, e))
		return -1;
	p = calloc(1, sizeof *p);
	if (!p)
		return err_nomem(e, sizeof *p, "a replay");
	load_catch_interrupt();
	p->hook = (struct moe_hook){ .name = "replay", .ctx = p, .route = compare };
	buf_init(&p->note, 65536);
	p->r = reader_open(argv[0], e);
	bad = !p->r ||
		(audit_o.seal && (sodium_init() < 0 || seal_key_load(p->seal, audit_o.seal, e))) ||
		reader_run(p->r, (int64_t)run, &p->info, e) || load_descriptor(p, e);
	if (!bad)
		recorded_init(&p->rec, &p->info);
	if (!bad)
		why_not = never(p);
	bad = bad || (!why_not && against_model(p, &why_not, e)) ||
		audit_access(argv[0], LEAF_ACCESS, "replay", p->info.id, -1, -1, e) ||
		all_sequences(p, why_not, e);
	if (!bad) {
		for (int i = 0; i < N_VERDICT; i++)
			total += p->count[i];
		if (audit_o.json)
			puts(p->n_printed ? "\n]" : "[]");
		else {
			if (p->note.len)
				printf("not as recorded: %s\n", show(p->note.data).s);
			printf("run %" PRId64 ": %" PRIu64 " sequences", p->info.id, total);
			for (int i = 0; i < N_VERDICT; i++)
				if (p->count[i])
					printf(", %" PRIu64 " %s", p->count[i], verdict_name[i]);
			putchar('\n');
		}
		status = p->count[DIVERGED] ? 1 : p->count[NOT_COMPARABLE] ? 2 : 0;
	}
	recorded_free(&p->rec);
	sodium_memzero(p->seal, sizeof p->seal);
	free(p->desc);
	buf_free(&p->note);
	session_free(p->s);
	load_free(&p->l);
	reader_close(p->r);
	free(p);
	return bad ? -1 : load_interrupted() ? 130 : status;
}
