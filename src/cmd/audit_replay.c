/*
 * audit_replay.c - `moescope audit replay`: run recorded sequences again and compare.
 *
 * What is compared are the digests of logits that the log holds and the stored choices of the routers.
 * The engine gives the same bits for any number of threads, batch size and instruction set, so those
 * may differ from the recorded run; the model may not.
 *
 *	BIT_EXACT        logits have the recorded digest, and every choice is the recorded one
 *	ROUTE_EXACT      every choice is; the log has no digest, or another one
 *	ROUTE_EXPLAINED  choices differ only where the recorded margin is below --epsilon
 *	DIVERGED         first position, layer and expert that differ otherwise
 *	NOT_COMPARABLE   names what stands in the way
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/payload.h"
#include "audit/recorder.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/audit.h"
#include "cmd/engine.h"
#include "cmd/record.h"
#include "cmd/show.h"

enum verdict { BIT_EXACT, ROUTE_EXACT, ROUTE_EXPLAINED, DIVERGED, NOT_COMPARABLE, N_VERDICT };
static const char *const verdict_name[] = { "BIT_EXACT", "ROUTE_EXACT", "ROUTE_EXPLAINED", "DIVERGED",
	"NOT_COMPARABLE" };

/* What is stored of one sequence. */
struct recorded {
	uint64_t seq;
	int64_t sequence;    /* sequence.id */
	size_t n, cap, n_prompt;
	int32_t *tokens;     /* [n] */
	uint16_t *experts;   /* [n][k_row] */
	float *margins;      /* [n][n_layer] */
	uint8_t *seen;       /* [n] */
};

struct replay {
	struct reader *r;
	struct run_info info;
	size_t k_row, k_at[MOE_MAX_LAYER];
	struct loaded l;
	struct session *s;
	struct moe_hook hook;
	char logits[16];     /* which rows were digested */
	struct recorded rec; /* of the sequence being run */
	struct logit_digest digest;
	unsigned char digest_key[LOGIT_KEY];
	uint64_t explained, differ;
	struct { uint32_t pos; int layer; uint16_t was, is; float margin; } first;
	uint64_t count[N_VERDICT];
	char model_note[200], arithmetic[100], note[300];
	int n_printed;
};

/* ---- what is stored ---- */

static void recorded_free(struct recorded *c)
{
	free(c->tokens);
	free(c->experts);
	free(c->margins);
	free(c->seen);
	memset(c, 0, sizeof *c);
}

static int room(struct replay *p, size_t n, struct moe_err *e)
{
	struct recorded *c = &p->rec;
	size_t cap = c->cap ? c->cap : 256;
	void *q[4];

	if (n <= c->cap)
		return 0;
	while (cap < n)
		cap *= 2;
	q[0] = realloc(c->tokens, cap * sizeof *c->tokens);
	c->tokens = q[0] ? q[0] : c->tokens;
	q[1] = realloc(c->experts, cap * p->k_row * sizeof *c->experts);
	c->experts = q[1] ? q[1] : c->experts;
	q[2] = realloc(c->margins, cap * p->info.n_moe_layer * sizeof *c->margins);
	c->margins = q[2] ? q[2] : c->margins;
	q[3] = realloc(c->seen, cap);
	c->seen = q[3] ? q[3] : c->seen;
	if (!q[0] || !q[1] || !q[2] || !q[3])
		return err_nomem(e, cap * p->k_row * 2, "a recorded sequence");
	memset(c->seen + c->cap, 0, cap - c->cap);
	c->cap = cap;
	return 0;
}

/* Take a chunk of the sequence in. Positions must follow one another. */
static int add_chunk(struct replay *p, const struct cursor_chunk *ch, struct moe_err *e)
{
	struct recorded *c = &p->rec;

	if (ch->pos != c->n)
		return 1; /* a hole: not comparable */
	if (room(p, c->n + ch->n, e))
		return -1;
	memcpy(c->tokens + c->n, ch->tokens, ch->n * sizeof *c->tokens);
	memcpy(c->experts + c->n * p->k_row, ch->experts, ch->n * p->k_row * sizeof *c->experts);
	memcpy(c->margins + c->n * ch->n_layer, ch->margins, ch->n * ch->n_layer * sizeof *c->margins);
	c->n += ch->n;
	if (ch->phase == MOE_PREFILL)
		c->n_prompt = c->n;
	return 0;
}

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
		const uint16_t *was = p->rec.experts + pos * p->k_row + p->k_at[li];
		const uint16_t *is = v->experts + (size_t)t * v->k;
		float margin = p->rec.margins[pos * p->info.n_moe_layer + li];
		int k = 0;

		while (k < v->k && was[k] == is[k])
			k++;
		if (k == v->k)
			continue;
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
	struct session_want want = { !strcmp(p->logits, "all"), on_logits, p };
	struct moe_seq_info info = { .seq = c->seq, .n_prompt = (uint32_t)c->n_prompt };
	struct moe_seq_result res = { .seq = c->seq };
	const struct session_want *w = strcmp(p->logits, "none") ? &want : NULL;

	logit_digest_init(&p->digest, p->digest_key);
	p->explained = p->differ = 0;
	if (session_begin(p->s, &info, e) ||
		(c->n_prompt && session_eval(p->s, c->tokens, c->n_prompt, MOE_PREFILL, w, e)))
		return -1;
	for (size_t i = c->n_prompt; i < c->n; i++)
		if (session_eval(p->s, c->tokens + i, 1, MOE_DECODE, w, e))
			return -1;
	return session_end(p->s, &res, e);
}

/* The digest in the sequence's last leaf: 1, 0 = none. */
static int logged_digest(struct replay *p, uint64_t seq, unsigned char out[SHA_BYTES], struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	char hex[2 * SHA_BYTES + 1] = "", key[2 * LOGIT_KEY + 1] = "";
	size_t len, n_key = 0;

	if (sqlite3_prepare_v2(reader_db(p->r), "SELECT payload FROM audit_leaf WHERE run = ? AND seq = ? AND "
		"seq <> 0 AND kind = 7", -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(p->r)));
	sqlite3_bind_int64(st, 1, p->info.id);
	sqlite3_bind_int64(st, 2, (int64_t)seq);
	if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_blob(st, 0)) {
		const char *rec = sqlite3_column_blob(st, 0);
		size_t n = (size_t)sqlite3_column_bytes(st, 0);

		record_get(rec, n, "logits", hex, sizeof hex);
		record_get(rec, n, "logit_key", key, sizeof key);
	}
	sqlite3_finalize(st);
	memset(p->digest_key, 0, sizeof p->digest_key);
	return *hex && !sodium_hex2bin(p->digest_key, LOGIT_KEY, key, strlen(key), NULL, &n_key, NULL) &&
		n_key == LOGIT_KEY && !sodium_hex2bin(out, SHA_BYTES, hex, strlen(hex), NULL, &len, NULL) && len == SHA_BYTES;
}

static void tell(struct replay *p, enum verdict v, const char *text)
{
	struct buf b;

	p->count[v]++;
	buf_init(&b, 8192);
	if (audit_o.json) {
		text_escape(&b, text, strlen(text), TEXT_JSON);
		printf("%s\n {\"sequence\": %" PRIu64 ", \"tokens\": %zu, \"verdict\": \"%s\", \"text\": \"%s\"}",
			p->n_printed++ ? "," : "[", p->rec.seq, p->rec.n, verdict_name[v], b.data ? b.data : "");
	} else {
		printf("sequence %-6" PRIu64 " %6zu tokens  %s%s%s\n", p->rec.seq, p->rec.n, verdict_name[v],
			*text ? ": " : "", show(text).s);
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
		why_not = "its decisions are not here: redacted, pruned, encrypted or never kept";
	if (why_not) {
		tell(p, NOT_COMPARABLE, why_not);
		return 0;
	}
	have = logged_digest(p, p->rec.seq, want, e);
	if (have < 0 || run_again(p, e))
		return -1;
	logit_digest_end(&p->digest, got);
	v = p->differ ? DIVERGED : p->explained ? ROUTE_EXPLAINED :
		have && !memcmp(want, got, SHA_BYTES) ? BIT_EXACT : ROUTE_EXACT;
	if (v == DIVERGED)
		snprintf(text, sizeof text, "first at position %u, layer %d: E%d was chosen, now E%d (margin %.3g); "
			"%" PRIu64 " decisions differ", p->first.pos, p->first.layer, p->first.was, p->first.is,
			(double)p->first.margin, p->differ + p->explained);
	else if (v == ROUTE_EXPLAINED)
		snprintf(text, sizeof text, "%" PRIu64 " decisions differ, all with a margin below %g",
			p->explained, audit_o.epsilon);
	else if (v == ROUTE_EXACT)
		snprintf(text, sizeof text, have ? "but the logits have another digest" :
			"no digest of logits was logged");
	if (have && (v == DIVERGED || v == ROUTE_EXPLAINED) && memcmp(want, got, SHA_BYTES))
		snprintf(text + strlen(text), sizeof text - strlen(text), "; the logits have another digest");
	tell(p, v, text);
	return 0;
}

/* ---- the run ---- */

/* The descriptor's record, and whether the model is the recorded one. */
static int check_model(struct replay *p, const char **why_not, struct moe_err *e)
{
	unsigned char sha[SHA_BYTES], root[SHA_BYTES];
	char now[65], then[80] = "";
	sqlite3_stmt *st = NULL;
	int found = 0;

	if (sqlite3_prepare_v2(reader_db(p->r), "SELECT payload FROM audit_leaf WHERE run = ? AND kind = 2 AND "
		"kind NOT IN (5, 6, 7, 11)", -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(p->r)));
	sqlite3_bind_int64(st, 1, p->info.id);
	if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_blob(st, 0)) {
		const char *rec = sqlite3_column_blob(st, 0);
		size_t n = (size_t)sqlite3_column_bytes(st, 0);

		found = 1;
		record_get(rec, n, "model_sha256", then, sizeof then);
		record_get(rec, n, "logits", p->logits, sizeof p->logits);
		record_get(rec, n, "arithmetic", p->arithmetic, sizeof p->arithmetic);
	}
	sqlite3_finalize(st);
	if (!found)
		return err_set(e, MOE_ERR_INPUT, "run %" PRId64 " is not in the log", p->info.id);
	record_model_hashes(p->l.gguf, sha, root);
	sodium_bin2hex(now, sizeof now, sha, sizeof sha);
	*why_not = NULL;
	if (!strcmp(now, then))
		return 0;
	snprintf(p->model_note, sizeof p->model_note, "model_sha256: recorded %.16s..., given %.16s...", then, now);
	if (!audit_o.anyway)
		*why_not = p->model_note;
	return 0;
}

/* Activations and the cache's type decide the bits: where they differ, only --anyway compares. The
 * first word is the instruction set, which does not. */
static int check_arithmetic(struct replay *p, const char **why_not)
{
	const char *now = session_arithmetic(p->s), *a = strchr(now, ' '), *b = strchr(p->arithmetic, ' ');

	if (*why_not || audit_o.anyway || !strcmp(a ? a : "", b ? b : ""))
		return 0;
	snprintf(p->note, sizeof p->note, "arithmetic: recorded '%s', now '%s' (--activations, --kv-type)",
		p->arithmetic, now);
	*why_not = p->note;
	return 0;
}

static int same_shape(struct replay *p, struct moe_err *e)
{
	const struct model_info *in = model_info(p->l.model);
	int same = in->n_moe_layer == p->info.n_moe_layer;

	for (uint32_t i = 0; i < p->info.n_moe_layer && same; i++) {
		same = !memcmp(&in->layers[i], &p->info.layers[i], sizeof in->layers[i]);
		p->k_at[i] = p->k_row;
		p->k_row += p->info.layers[i].k;
	}
	return same ? 0 : err_set(e, MOE_ERR_INPUT, "the model's routers are not those of run %" PRId64
		": other layers, experts or picks", p->info.id);
}

/* All sequences of the run, those without decisions too. */
static int all_sequences(struct replay *p, const char *why_not, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int rc, bad = 0;

	if (sqlite3_prepare_v2(reader_db(p->r), "SELECT id, seq FROM sequence WHERE run = ?1 AND (?2 < 0 OR "
		"seq = ?2) ORDER BY seq", -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "%s", sqlite3_errmsg(reader_db(p->r)));
	sqlite3_bind_int64(st, 1, p->info.id);
	sqlite3_bind_int64(st, 2, audit_o.sequence);
	while (!bad && !load_interrupted() && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct load_filter f = { .run = p->info.id, .domain = -1, .phase = -1 };
		struct cursor *cur = cursor_open(p->r, &f, e);
		const char *why = why_not;
		struct cursor_chunk ch;
		int64_t id;
		int got = cur ? 0 : -1;

		p->rec.seq = (uint64_t)sqlite3_column_int64(st, 1);
		p->rec.n = p->rec.n_prompt = 0;
		sqlite3_stmt *first = NULL;
		sqlite3_prepare_v2(reader_db(p->r), "SELECT id FROM chunk WHERE sequence = ? ORDER BY pos, id LIMIT 1",
			-1, &first, NULL);
		sqlite3_bind_int64(first, 1, sqlite3_column_int64(st, 0));
		id = first && sqlite3_step(first) == SQLITE_ROW ? sqlite3_column_int64(first, 0) : 0;
		sqlite3_finalize(first);
		if (cur && id && cursor_seek(cur, id, e) == 1)
			while ((got = cursor_next(cur, &ch, e)) == 1 && ch.seq == p->rec.seq)
				if ((got = add_chunk(p, &ch, e)) != 0) {
					why = got > 0 ? "decisions are missing: part of it was redacted or dropped" : why;
					break;
				}
		cursor_close(cur);
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
	p->r = reader_open(argv[0], e);
	bad = !p->r || reader_run(p->r, (int64_t)run, &p->info, e) || load_model(audit_o.model, &audit_o.load, &p->l, e) ||
		check_model(p, &why_not, e) || same_shape(p, e) ||
		audit_access(argv[0], LEAF_ACCESS, "replay", p->info.id, -1, -1, e) ||
		!(p->s = engine_session(&p->l, &audit_o.load, e)) || session_add_hook(p->s, &p->hook, e) ||
		check_arithmetic(p, &why_not) || all_sequences(p, why_not, e);
	if (!bad) {
		for (int i = 0; i < N_VERDICT; i++)
			total += p->count[i];
		if (audit_o.json)
			puts(p->n_printed ? "\n]" : "[]");
		else {
			if (*p->model_note)
				printf("not the recorded model: %s\n", p->model_note);
			printf("run %" PRId64 ": %" PRIu64 " sequences", p->info.id, total);
			for (int i = 0; i < N_VERDICT; i++)
				if (p->count[i])
					printf(", %" PRIu64 " %s", p->count[i], verdict_name[i]);
			putchar('\n');
		}
		status = p->count[DIVERGED] ? 1 : p->count[NOT_COMPARABLE] ? 2 : 0;
	}
	recorded_free(&p->rec);
	session_free(p->s);
	load_free(&p->l);
	reader_close(p->r);
	free(p);
	return bad ? -1 : load_interrupted() ? 130 : status;
}
