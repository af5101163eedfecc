/* answer.c - see answer.h. */
#include "serve/answer.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"

static void quoted(struct buf *b, const char *s, size_t n)
{
	buf_char(b, '"');
	text_escape(b, s, n, TEXT_JSON);
	buf_char(b, '"');
}

static void text(struct buf *b, const char *s)
{
	quoted(b, s, strlen(s));
}

static void text_or_null(struct buf *b, const char *s)
{
	if (*s)
		text(b, s);
	else
		buf_str(b, "null");
}

/* ---- errors ---- */

static const char *type_of(int status)
{
	if (status == 401 || status == 403)
		return "authentication_error";
	if (status == 429)
		return "rate_limit_error";
	return status >= 500 ? "server_error" : "invalid_request_error";
}

void answer_error(struct buf *b, const struct refusal *why)
{
	buf_str(b, "{\"error\": {\"message\": ");
	text(b, why->msg);
	buf_printf(b, ", \"type\": \"%s\", \"param\": ", type_of(why->status));
	text_or_null(b, why->param);
	buf_str(b, ", \"code\": ");
	text_or_null(b, why->code);
	buf_str(b, "}}");
}

/* ---- models ---- */

void answer_model(struct buf *b, const struct answer_model *m)
{
	buf_str(b, "{\"id\": ");
	text(b, m->id);
	buf_printf(b, ", \"object\": \"model\", \"created\": %" PRId64 ", \"owned_by\": \"moescope\"}",
		m->created);
}

void answer_models(struct buf *b, const struct answer_model *m)
{
	buf_str(b, "{\"object\": \"list\", \"data\": [");
	answer_model(b, m);
	buf_str(b, "]}");
}

/* ---- answers ---- */

static int is_chat(const struct job *j)
{
	return j->req.kind == REQUEST_CHAT;
}

/* Up to the choices. */
static void head(
	struct buf *b, const struct answer_model *m, const struct job *j, int64_t now, int piece)
{
	const char *whole = is_chat(j) ? "chat.completion" : "text_completion";

	buf_printf(b, "{\"id\": \"%s-%" PRId64 "-%" PRIu64 "\", ", is_chat(j) ? "chatcmpl" : "cmpl",
		m->run, j->seq);
	buf_printf(b, "\"object\": \"%s%s\", \"created\": %" PRId64 ", \"model\": ", whole,
		piece && is_chat(j) ? ".chunk" : "", now);
	text(b, m->id);
}

static void record(struct buf *b, const struct answer_model *m, const struct job *j)
{
	buf_printf(b,
		", \"moescope\": {\"run\": %" PRId64 ", \"seq\": %" PRIu64 ", \"domain\": ", m->run,
		j->seq);
	text_or_null(b, j->domain_name);
	buf_printf(b, ", \"seed\": %" PRIu64, j->seed);
	if (j->domain_full)
		buf_str(b,
			", \"note\": \"this run has no room for another domain: counted under the default\"");
	buf_char(b, '}');
}

static void usage(struct buf *b, const struct job *j)
{
	buf_printf(b,
		", \"usage\": {\"prompt_tokens\": %zu, \"completion_tokens\": %" PRIu32
		", \"total_tokens\": %zu}",
		j->n_ids, j->n_generated, j->n_ids + j->n_generated);
}

static void token_text(struct buf *b, const struct answer_model *m, int32_t id)
{
	size_t n = 0;
	const char *s = tok_bytes(m->tok, id, &n);

	quoted(b, s ? s : "", s ? n : 0);
}

/* "token", "logprob" and "bytes" of one. */
static void token(struct buf *b, const struct answer_model *m, const struct logprob *p)
{
	size_t n = 0;
	const char *s = tok_bytes(m->tok, p->id, &n);

	buf_str(b, "\"token\": ");
	token_text(b, m, p->id);
	buf_printf(b, ", \"logprob\": %.9g, \"bytes\": [", (double)p->v);
	for (size_t i = 0; s && i < n; i++)
		buf_printf(b, "%s%u", i ? ", " : "", (unsigned char)s[i]);
	buf_char(b, ']');
}

typedef void each_token(struct buf *b, const struct answer_model *m, const struct job_token *t);

static void chat_token(struct buf *b, const struct answer_model *m, const struct job_token *t)
{
	buf_char(b, '{');
	token(b, m, &t->p.chosen);
	buf_str(b, ", \"top_logprobs\": [");
	for (unsigned i = 0; i < t->p.n; i++) {
		buf_str(b, i ? ", {" : "{");
		token(b, m, &t->p.top[i]);
		buf_char(b, '}');
	}
	buf_str(b, "]}");
}

static void just_text(struct buf *b, const struct answer_model *m, const struct job_token *t)
{
	token_text(b, m, t->p.chosen.id);
}

static void just_value(struct buf *b, const struct answer_model *m, const struct job_token *t)
{
	(void)m;
	buf_printf(b, "%.9g", (double)t->p.chosen.v);
}

static void just_top(struct buf *b, const struct answer_model *m, const struct job_token *t)
{
	buf_char(b, '{');
	for (unsigned i = 0; i < t->p.n; i++) {
		buf_str(b, i ? ", " : "");
		token_text(b, m, t->p.top[i].id);
		buf_printf(b, ": %.9g", (double)t->p.top[i].v);
	}
	buf_char(b, '}');
}

/* A list over the tokens whose text begins in bytes from.. of what is shown. */
static void list(struct buf *b, const struct answer_model *m, const struct job *j, size_t from,
	const char *name, each_token *each)
{
	int n = 0;

	buf_printf(b, "\"%s\": [", name);
	for (size_t i = 0; i < j->n_token; i++)
		if (j->token[i].at >= from && j->token[i].at < j->text.len) {
			buf_str(b, n++ ? ", " : "");
			each(b, m, &j->token[i]);
		}
	buf_char(b, ']');
}

/* Where these tokens begin, in characters. */
static void offsets(struct buf *b, const struct job *j, size_t from)
{
	size_t chars = 0, at = 0;
	int n = 0;

	buf_str(b, ", \"text_offset\": [");
	for (size_t i = 0; i < j->n_token && j->token[i].at < j->text.len; i++) {
		for (; at < j->token[i].at; at++)
			chars += ((unsigned char)j->text.data[at] & 0xc0) != 0x80;
		if (at >= from)
			buf_printf(b, "%s%zu", n++ ? ", " : "", chars);
	}
	buf_char(b, ']');
}

static void logprobs(struct buf *b, const struct answer_model *m, const struct job *j, size_t from)
{
	buf_str(b, ", \"logprobs\": ");
	if (j->req.logprobs < 0 || from >= j->text.len) {
		buf_str(b, "null");
		return;
	}
	buf_char(b, '{');
	if (is_chat(j)) {
		list(b, m, j, from, "content", chat_token);
	} else {
		list(b, m, j, from, "tokens", just_text);
		buf_str(b, ", ");
		list(b, m, j, from, "token_logprobs", just_value);
		buf_str(b, ", ");
		list(b, m, j, from, "top_logprobs", just_top);
		offsets(b, j, from);
	}
	buf_char(b, '}');
}

void answer_whole(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now)
{
	head(b, m, j, now, 0);
	buf_str(b, ", \"choices\": [{\"index\": 0, ");
	buf_str(b, is_chat(j) ? "\"message\": {\"role\": \"assistant\", \"content\": " : "\"text\": ");
	quoted(b, j->text.data ? j->text.data : "", j->text.len);
	buf_str(b, is_chat(j) ? "}" : "");
	logprobs(b, m, j, 0);
	buf_printf(b, ", \"finish_reason\": \"%s\"}]", j->finish);
	usage(b, j);
	record(b, m, j);
	buf_char(b, '}');
}

/* ---- streams ---- */

/* An event with one choice: the text from byte `from` on; finish NULL = it goes on. */
static void event(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now,
	int first, size_t from, const char *finish)
{
	const char *s = j->text.data ? j->text.data + from : "";
	size_t n = j->text.len - from;

	buf_str(b, "data: ");
	head(b, m, j, now, 1);
	buf_str(b, ", \"choices\": [{\"index\": 0, ");
	if (is_chat(j)) {
		buf_str(b, "\"delta\": {");
		if (first)
			buf_str(b, "\"role\": \"assistant\", ");
		if (!finish) {
			buf_str(b, "\"content\": ");
			quoted(b, s, n);
		}
		buf_char(b, '}');
	} else {
		buf_str(b, "\"text\": ");
		quoted(b, s, n);
	}
	logprobs(b, m, j, from);
	buf_str(b, ", \"finish_reason\": ");
	text_or_null(b, finish ? finish : "");
	buf_str(b, "}]");
	if (j->req.want_usage)
		buf_str(b, ", \"usage\": null");
	if (first || finish)
		record(b, m, j);
	buf_str(b, "}\n\n");
}

void answer_first(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now)
{
	event(b, m, j, now, 1, j->text.len, NULL);
}

void answer_piece(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now,
	size_t from)
{
	event(b, m, j, now, 0, from, NULL);
}

void answer_last(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now)
{
	event(b, m, j, now, 0, j->text.len, j->finish);
	if (j->req.want_usage) {
		buf_str(b, "data: ");
		head(b, m, j, now, 1);
		buf_str(b, ", \"choices\": []");
		usage(b, j);
		buf_str(b, "}\n\n");
	}
	buf_str(b, "data: [DONE]\n\n");
}

void answer_broken(struct buf *b, const struct refusal *why)
{
	buf_str(b, "data: ");
	answer_error(b, why);
	buf_str(b, "\n\n");
}
