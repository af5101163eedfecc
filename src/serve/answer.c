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

void answer_whole(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now)
{
	head(b, m, j, now, 0);
	buf_str(b, ", \"choices\": [{\"index\": 0, ");
	buf_str(b, is_chat(j) ? "\"message\": {\"role\": \"assistant\", \"content\": " : "\"text\": ");
	quoted(b, j->text.data ? j->text.data : "", j->text.len);
	buf_printf(
		b, "%s, \"logprobs\": null, \"finish_reason\": \"%s\"}]", is_chat(j) ? "}" : "", j->finish);
	usage(b, j);
	record(b, m, j);
	buf_char(b, '}');
}

/* ---- streams ---- */

/* An event with one choice; finish NULL = it goes on. delta: what stands in the braces or
 * quotes. */
static void event(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now,
	int first, const char *s, size_t n, const char *finish)
{
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
	buf_str(b, ", \"logprobs\": null, \"finish_reason\": ");
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
	event(b, m, j, now, 1, "", 0, NULL);
}

void answer_piece(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now,
	const char *s, size_t n)
{
	event(b, m, j, now, 0, s, n, NULL);
}

void answer_last(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now)
{
	event(b, m, j, now, 0, "", 0, j->finish);
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
