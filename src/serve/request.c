/* request.c - see request.h. The bounds of sampling are those of `moescope run`. */
#include "serve/request.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/utf8.h"
#include "serve/logprobs.h"

int refuse(struct refusal *r, int status, const char *code, const char *param, const char *fmt, ...)
{
	struct moe_err e = { 0 };
	char text[sizeof e.msg];
	va_list ap;

	r->status = status;
	snprintf(r->code, sizeof r->code, "%s", code ? code : "");
	snprintf(r->param, sizeof r->param, "%s", param ? param : "");
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	err_set(&e, MOE_ERR_INPUT, "%s", text); /* makes it one printable line */
	snprintf(r->msg, sizeof r->msg, "%s", e.msg);
	return -1;
}

/* ---- the bytes ---- */

static int check_bytes(const char *s, size_t n, struct refusal *why)
{
	for (size_t i = 0, len; i < n; i += len) {
		uint32_t cp;

		len = utf8_decode(s + i, n - i, &cp);
		if (!len)
			return refuse(
				why, 400, "invalid_utf8", NULL, "the body is not valid UTF-8 at byte %zu", i);
		if (!cp)
			return refuse(why, 400, "invalid_json", NULL, "the body has a NUL at byte %zu", i);
		if (cp != '\\' || i + 1 >= n)
			continue;
		if (n - i >= 6 && !memcmp(s + i, "\\u0000", 6))
			return refuse(why, 400, "invalid_value", NULL,
				"a text has a NUL character (\\u0000 at byte %zu)", i);
		len = (unsigned char)s[i + 1] < 0x80 ? 2 : 1; /* what a backslash escapes escapes nothing */
	}
	return 0;
}

/* ---- fields ---- */

struct field;
typedef int read_fn(struct request *r, const struct field *f, const cJSON *j, struct refusal *why);

enum { CHAT = 1 << REQUEST_CHAT, TEXT = 1 << REQUEST_TEXT, BOTH = CHAT | TEXT };
struct field {
	const char *name;
	unsigned where;      /* elsewhere it is unknown: ignored */
	read_fn *read;
	size_t at;           /* in struct request */
	double min, max;     /* of numbers; must_be: min */
};

static const char *kind_of(const cJSON *j)
{
	static const struct { int type; const char *name; } kinds[] = { { cJSON_NULL, "null" },
		{ cJSON_True | cJSON_False, "a boolean" }, { cJSON_Number, "a number" },
		{ cJSON_String, "a string" }, { cJSON_Array, "an array" }, { cJSON_Object, "an object" } };

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (j->type & kinds[i].type)
			return kinds[i].name;
	return "nothing";
}

static int wrong_kind(const char *param, const char *wanted, const cJSON *j, struct refusal *why)
{
	return refuse(
		why, 400, "invalid_type", param, "%s is to be %s, not %s", param, wanted, kind_of(j));
}

static int number(const struct field *f, const cJSON *j, double *out, struct refusal *why)
{
	if (!cJSON_IsNumber(j))
		return wrong_kind(f->name, "a number", j, why);
	if (!(j->valuedouble >= f->min && j->valuedouble <= f->max))
		return refuse(why, 400, "invalid_value", f->name, "%s is %g, expected %g to %g", f->name,
			j->valuedouble, f->min, f->max);
	*out = j->valuedouble;
	return 0;
}

static int whole(const struct field *f, const cJSON *j, double *out, struct refusal *why)
{
	if (number(f, j, out, why))
		return -1;
	if (*out != floor(*out))
		return refuse(
			why, 400, "invalid_value", f->name, "%s is %g, expected a whole number", f->name, *out);
	return 0;
}

static int read_real(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	return number(f, j, (double *)(void *)((char *)r + f->at), why);
}

static int read_u32(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	double v;

	if (whole(f, j, &v, why))
		return -1;
	*(uint32_t *)(void *)((char *)r + f->at) = (uint32_t)v;
	return 0;
}

static int read_most(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	double v;

	if (whole(f, j, &v, why))
		return -1;
	if (r->most >= 0 && r->most != (int64_t)v)
		return refuse(
			why, 400, "invalid_value", f->name, "max_tokens and max_completion_tokens differ");
	r->most = (int64_t)v;
	return 0;
}

static int read_seed(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	double v;

	if (whole(f, j, &v, why))
		return -1;
	r->sampler.seed = (uint64_t)(int64_t)v;
	r->has_seed = 1;
	return 0;
}

static int read_bool(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	if (!cJSON_IsBool(j))
		return wrong_kind(f->name, "a boolean", j, why);
	*(int *)(void *)((char *)r + f->at) = cJSON_IsTrue(j);
	return 0;
}

/* Of a completion: how many alternatives. Of a chat: whether at all; how many is another field. */
static int read_logprobs(
	struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	double v;

	if (cJSON_IsBool(j)) {
		if (cJSON_IsTrue(j) && r->logprobs < 0)
			r->logprobs = 0;
		r->has_logprobs = cJSON_IsTrue(j);
		return 0;
	}
	if (r->kind == REQUEST_CHAT)
		return wrong_kind(f->name, "a boolean", j, why);
	if (whole(f, j, &v, why))
		return -1;
	r->logprobs = (int)v;
	r->has_logprobs = 1;
	return 0;
}

static int read_top(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	double v;

	if (whole(f, j, &v, why))
		return -1;
	r->logprobs = (int)v;
	return 0;
}

static int read_text(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	if (!cJSON_IsString(j))
		return wrong_kind(f->name, "a string", j, why);
	*(const char **)(void *)((char *)r + f->at) = j->valuestring;
	return 0;
}

/* A number that may only be what it is without the field. */
static int must_be(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	(void)r;
	if (!cJSON_IsNumber(j))
		return wrong_kind(f->name, "a number", j, why);
	return j->valuedouble == f->min ? 0 : refuse(why, 400, "unsupported_value", f->name,
		"%s is %g; this server does only %g", f->name, j->valuedouble, f->min);
}

/* false, 0, [] and {} ask for nothing. */
static int must_be_off(
	struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	(void)r;
	if (cJSON_IsFalse(j) || (cJSON_IsNumber(j) && j->valuedouble == 0) ||
	    ((cJSON_IsArray(j) || cJSON_IsObject(j)) && !j->child))
		return 0;
	return refuse(
		why, 400, "unsupported_parameter", f->name, "%s is not supported by this server", f->name);
}

static int must_be_none(
	struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	if (cJSON_IsString(j) && (!strcmp(j->valuestring, "none") || !strcmp(j->valuestring, "auto")))
		return 0;
	return must_be_off(r, f, j, why);
}

static int read_format(
	struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	const cJSON *type = cJSON_GetObjectItemCaseSensitive(j, "type");

	(void)r;
	if (!cJSON_IsString(type))
		return wrong_kind(f->name, "an object with a type", j, why);
	return !strcmp(type->valuestring, "text") ? 0 : refuse(why, 400, "unsupported_value", f->name,
		"%s.type is '%.40s'; this server does only text", f->name, type->valuestring);
}

static int read_stream_options(
	struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	const cJSON *x = cJSON_GetObjectItemCaseSensitive(j, "include_usage");

	if (!cJSON_IsObject(j))
		return wrong_kind(f->name, "an object", j, why);
	if (x && !cJSON_IsNull(x) && !cJSON_IsBool(x))
		return wrong_kind("stream_options.include_usage", "a boolean", x, why);
	r->want_usage = cJSON_IsTrue(x);
	return 0;
}

static int read_metadata(
	struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	const cJSON *x = cJSON_GetObjectItemCaseSensitive(j, "domain");

	if (!cJSON_IsObject(j))
		return wrong_kind(f->name, "an object", j, why);
	if (!x || cJSON_IsNull(x))
		return 0;
	if (!cJSON_IsString(x))
		return wrong_kind("metadata.domain", "a string", x, why);
	r->domain = x->valuestring;
	return 0;
}

static int add_stop(struct request *r, const cJSON *j, struct refusal *why)
{
	size_t n;

	if (!cJSON_IsString(j))
		return wrong_kind("stop", "a string or an array of strings", j, why);
	n = strlen(j->valuestring);
	if (!n || n > STOP_BYTES)
		return refuse(why, 400, "invalid_value", "stop",
			"a text of stop has %zu bytes, expected 1 to %d", n, STOP_BYTES);
	if (r->stop.n == STOP_MOST)
		return refuse(why, 400, "invalid_value", "stop", "stop has more than %d texts", STOP_MOST);
	r->stop.text[r->stop.n++] = j->valuestring;
	return 0;
}

static int read_stop(struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	const cJSON *x;

	(void)f;
	if (!cJSON_IsArray(j))
		return add_stop(r, j, why);
	cJSON_ArrayForEach(x, j)
		if (add_stop(r, x, why))
			return -1;
	return 0;
}

/* ---- messages, prompts ---- */

/* To add a role, do this: a row. */
static const struct { const char *name; enum chat_role role; } roles[] = {
	{ "system", CHAT_SYSTEM },
	{ "developer", CHAT_SYSTEM },
	{ "user", CHAT_USER },
	{ "assistant", CHAT_ASSISTANT },
};

static int read_role(const cJSON *j, size_t i, enum chat_role *out, struct refusal *why)
{
	char param[40];

	snprintf(param, sizeof param, "messages[%zu].role", i);
	if (!cJSON_IsString(j))
		return refuse(why, 400, "invalid_type", param, "%s is missing or not a string", param);
	for (size_t k = 0; k < sizeof roles / sizeof *roles; k++)
		if (!strcmp(roles[k].name, j->valuestring)) {
			*out = roles[k].role;
			return 0;
		}
	return refuse(why, 400, "invalid_value", param,
		"%s is '%.40s', expected system, developer, user or assistant", param, j->valuestring);
}

/* Parts of text, one behind the other, as one string that replaces them. */
static int join_parts(cJSON *content, const char *param, struct refusal *why)
{
	const cJSON *part;
	size_t n = 0;
	char *all;

	cJSON_ArrayForEach(part, content) {
		const cJSON *type = cJSON_GetObjectItemCaseSensitive(part, "type");
		const cJSON *text = cJSON_GetObjectItemCaseSensitive(part, "text");

		if (!cJSON_IsString(type) || strcmp(type->valuestring, "text"))
			return refuse(why, 400, "unsupported_value", param,
				"%s has a part of type '%.40s'; this server reads only text",
				param, cJSON_IsString(type) ? type->valuestring : "");
		if (!cJSON_IsString(text))
			return refuse(why, 400, "invalid_type", param, "%s has a part without a text", param);
		n += strlen(text->valuestring);
	}
	all = cJSON_malloc(n + 1);
	if (!all)
		return refuse(
			why, 500, "out_of_memory", param, "out of memory (%zu bytes for a message)", n);
	n = 0;
	cJSON_ArrayForEach(part, content) {
		const char *s = cJSON_GetObjectItemCaseSensitive(part, "text")->valuestring;

		memcpy(all + n, s, strlen(s));
		n += strlen(s);
	}
	all[n] = 0;
	cJSON_Delete(content->child);
	content->child = NULL;
	content->type = cJSON_String;
	content->valuestring = all;
	return 0;
}

static int read_message(struct chat_message *m, const cJSON *j, size_t i, struct refusal *why)
{
	cJSON *content = cJSON_GetObjectItemCaseSensitive(j, "content");
	char param[40];

	snprintf(param, sizeof param, "messages[%zu]", i);
	if (!cJSON_IsObject(j))
		return wrong_kind(param, "an object", j, why);
	if (read_role(cJSON_GetObjectItemCaseSensitive(j, "role"), i, &m->role, why))
		return -1;
	snprintf(param, sizeof param, "messages[%zu].content", i);
	if (!content || cJSON_IsNull(content))
		return refuse(why, 400, "invalid_type", param, "%s is missing", param);
	if (cJSON_IsArray(content) && join_parts(content, param, why))
		return -1;
	if (!cJSON_IsString(content))
		return wrong_kind(param, "a string or an array of parts", content, why);
	m->s = content->valuestring;
	m->n = strlen(m->s);
	return 0;
}

static int read_messages(
	struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	size_t n = (size_t)cJSON_GetArraySize(j);
	const cJSON *x;

	if (!cJSON_IsArray(j))
		return wrong_kind(f->name, "an array", j, why);
	if (!n)
		return refuse(why, 400, "invalid_value", f->name, "messages is empty");
	r->message = calloc(n, sizeof *r->message);
	if (!r->message)
		return refuse(why, 500, "out_of_memory", f->name, "out of memory (%zu messages)", n);
	cJSON_ArrayForEach(x, j) {
		if (read_message(&r->message[r->n_message], x, r->n_message, why))
			return -1;
		r->n_message++;
	}
	return 0;
}

/* A string, an array of one string, or token ids. */
static int read_prompt(
	struct request *r, const struct field *f, const cJSON *j, struct refusal *why)
{
	size_t n = cJSON_IsArray(j) ? (size_t)cJSON_GetArraySize(j) : 0;
	const cJSON *x = n ? j->child : j;

	if (cJSON_IsString(x)) {
		if (n > 1)
			return refuse(why, 400, "unsupported_value", f->name,
				"prompt has %zu texts; this server answers one a request",
				n);
		r->text = x->valuestring;
		return 0;
	}
	if (!n || !cJSON_IsNumber(x))
		return wrong_kind(f->name, "a string or an array of token ids", x, why);
	r->ids = malloc(n * sizeof *r->ids);
	if (!r->ids)
		return refuse(why, 500, "out_of_memory", f->name, "out of memory (%zu tokens)", n);
	for (; x; x = x->next) {
		if (!cJSON_IsNumber(x))
			return wrong_kind("prompt[]", "a token id", x, why);
		if (!(x->valuedouble >= 0 && x->valuedouble <= INT32_MAX) ||
			x->valuedouble != floor(x->valuedouble))
			return refuse(why, 400, "invalid_value", f->name,
				"prompt[%zu] is %g, expected a token id", r->n_ids, x->valuedouble);
		r->ids[r->n_ids++] = (int32_t)x->valuedouble;
	}
	return 0;
}

/* ---- the table ---- */

#define AT(m) offsetof(struct request, m)
/* What a request may say. To add one, do this: a row; docs/SERVE.md. */
static const struct field fields[] = {
	{ "messages", CHAT, read_messages, 0, 0, 0 },
	{ "prompt", TEXT, read_prompt, 0, 0, 0 },
	{ "max_tokens", BOTH, read_most, 0, 0, 0x1p53 },
	{ "max_completion_tokens", CHAT, read_most, 0, 0, 0x1p53 },
	{ "temperature", BOTH, read_real, AT(sampler.temperature), 0, 100 },
	{ "top_p", BOTH, read_real, AT(sampler.top_p), 0, 1 },
	{ "top_k", BOTH, read_u32, AT(sampler.top_k), 0, 1 << 24 },
	{ "min_p", BOTH, read_real, AT(sampler.min_p), 0, 1 },
	{ "repeat_penalty", BOTH, read_real, AT(sampler.repeat_penalty), 0.1, 10 },
	{ "seed", BOTH, read_seed, 0, -0x1p53, 0x1p53 },
	{ "stop", BOTH, read_stop, 0, 0, 0 },
	{ "ignore_eos", BOTH, read_bool, AT(ignore_end), 0, 0 },
	{ "stream", BOTH, read_bool, AT(stream), 0, 0 },
	{ "stream_options", BOTH, read_stream_options, 0, 0, 0 },
	{ "metadata", BOTH, read_metadata, 0, 0, 0 },
	{ "moescope_domain", BOTH, read_text, AT(domain), 0, 0 },
	{ "user", BOTH, read_text, AT(user), 0, 0 },
	{ "n", BOTH, must_be, 0, 1, 0 },
	{ "best_of", TEXT, must_be, 0, 1, 0 },
	{ "presence_penalty", BOTH, must_be, 0, 0, 0 },
	{ "frequency_penalty", BOTH, must_be, 0, 0, 0 },
	{ "logprobs", BOTH, read_logprobs, 0, 0, LOGPROBS_MOST },
	{ "top_logprobs", CHAT, read_top, 0, 0, LOGPROBS_MOST },
	{ "logit_bias", BOTH, must_be_off, 0, 0, 0 },
	{ "echo", TEXT, must_be_off, 0, 0, 0 },
	{ "suffix", TEXT, must_be_off, 0, 0, 0 },
	{ "tools", CHAT, must_be_off, 0, 0, 0 },
	{ "tool_choice", CHAT, must_be_none, 0, 0, 0 },
	{ "functions", CHAT, must_be_off, 0, 0, 0 },
	{ "function_call", CHAT, must_be_none, 0, 0, 0 },
	{ "audio", CHAT, must_be_off, 0, 0, 0 },
	{ "response_format", BOTH, read_format, 0, 0, 0 },
};
#define N_FIELDS (sizeof fields / sizeof *fields)

/* metadata.domain gives way to moescope_domain, in whatever order they stand. */
static int read_fields(struct request *r, const cJSON *root, struct refusal *why)
{
	unsigned long long seen = 0;
	const char *named = NULL;
	const cJSON *j;

	cJSON_ArrayForEach(j, root)
		for (size_t i = 0; i < N_FIELDS; i++) {
			if (!(fields[i].where & 1u << r->kind) || strcmp(fields[i].name, j->string))
				continue;
			if (seen & 1ull << i)
				return refuse(
					why, 400, "invalid_value", fields[i].name, "%s is given twice", fields[i].name);
			seen |= 1ull << i;
			if (!cJSON_IsNull(j) && fields[i].read(r, &fields[i], j, why))
				return -1;
			if (!strcmp(fields[i].name, "moescope_domain"))
				named = r->domain;
		}
	if (named)
		r->domain = named;
	if (r->logprobs > 0 && !r->has_logprobs)
		return refuse(why, 400, "invalid_value", "top_logprobs",
			"top_logprobs is %d, but logprobs is not true", r->logprobs);
	if (!r->has_logprobs)
		r->logprobs = -1;
	return 0;
}

int request_parse(struct request *r, enum request_kind kind, const char *body, size_t n,
	const struct sampler_opt *defaults, struct refusal *why)
{
	const char *end = body;
	cJSON *root;

	_Static_assert(N_FIELDS <= 64, "seen has a bit for each");
	memset(r, 0, sizeof *r);
	r->kind = kind;
	r->most = -1;
	r->logprobs = -1;
	r->sampler = *defaults;
	if (!n)
		return refuse(why, 400, "invalid_json", NULL, "the body is empty, expected a JSON object");
	if (check_bytes(body, n, why))
		return -1;
	root = cJSON_ParseWithLengthOpts(
		body, n + 1, &end, 1); /* a NUL stands behind a buffer's bytes */
	if (!root)
		return refuse(why, 400, "invalid_json", NULL, "the body is not JSON: error near byte %zu",
			end ? (size_t)(end - body) : 0);
	r->json = root;
	if (!cJSON_IsObject(root))
		return refuse(
			why, 400, "invalid_type", NULL, "the body is %s, expected an object", kind_of(root));
	if (read_fields(r, root, why))
		return -1;
	if (kind == REQUEST_CHAT && !r->n_message)
		return refuse(why, 400, "missing_parameter", "messages", "messages is missing");
	if (kind == REQUEST_TEXT && !r->text && !r->ids)
		return refuse(why, 400, "missing_parameter", "prompt", "prompt is missing");
	return 0;
}

static void forget_prompt(struct request *r)
{
	free(r->message);
	free(r->ids);
	cJSON_Delete(r->json);
	r->message = NULL;
	r->n_message = r->n_ids = 0;
	r->ids = NULL;
	r->text = NULL;
	r->json = NULL;
}

int request_settle(struct request *r, struct refusal *why)
{
	const char **text[STOP_MOST + 2] = { &r->domain, &r->user };
	size_t n = 2, bytes = 0;
	char *to;

	for (size_t i = 0; i < r->stop.n; i++)
		text[n++] = &r->stop.text[i];
	for (size_t i = 0; i < n; i++)
		bytes += *text[i] ? strlen(*text[i]) + 1 : 0;
	to = r->own = malloc(bytes + 1);
	if (!to)
		return refuse(why, 500, "out_of_memory", NULL, "out of memory (%zu bytes)", bytes);
	for (size_t i = 0; i < n; i++)
		if (*text[i]) {
			size_t len = strlen(*text[i]) + 1;

			memcpy(to, *text[i], len);
			*text[i] = to;
			to += len;
		}
	forget_prompt(r);
	return 0;
}

void request_free(struct request *r)
{
	forget_prompt(r);
	free(r->own);
	memset(r, 0, sizeof *r);
}

/* ---- tokens ---- */

static int encode_chat(const struct request *r, const struct tok *tok, const struct chat_row *row,
	int32_t **ids, size_t *n, struct moe_err *e)
{
	unsigned flags = TOK_SPECIAL;
	struct chat_text t;
	const char *bos;
	size_t len;
	int rc;

	if (chat_render(row, r->message, r->n_message, 1, &t, e))
		return -1;
	bos = tok_bytes(tok, tok_bos(tok), &len);
	if (!bos || len > t.n || memcmp(t.s, bos, len)) /* some templates write it themselves */
		flags |= TOK_BOS;
	rc = tok_encode_around(tok, t.s, t.n, t.outside, t.n_outside, flags, ids, n, e);
	chat_text_free(&t);
	return rc;
}

static int copy_ids(
	const struct request *r, size_t n_vocab, int32_t **ids, size_t *n, struct refusal *why)
{
	for (size_t i = 0; i < r->n_ids; i++)
		if ((size_t)r->ids[i] >= n_vocab)
			return refuse(why, 400, "invalid_value", "prompt",
				"prompt[%zu] is %d, the vocabulary has %zu tokens", i, r->ids[i], n_vocab);
	*ids = malloc((r->n_ids + 1) * sizeof **ids);
	if (!*ids)
		return refuse(why, 500, "out_of_memory", NULL, "out of memory (%zu tokens)", r->n_ids);
	memcpy(*ids, r->ids, r->n_ids * sizeof **ids);
	*n = r->n_ids;
	return 0;
}

int request_encode(const struct request *r, const struct tok *tok, const struct chat_row *row,
	size_t n_vocab, size_t n_ctx, int32_t **ids, size_t *n, struct refusal *why)
{
	struct moe_err e = { 0 };
	int rc;

	*ids = NULL;
	*n = 0;
	if (r->kind == REQUEST_CHAT && !row)
		return refuse(why, 400, "no_chat_template", "messages",
			"the model's file names no chat template that is "
			"known: the server needs --chat-template, or ask /v1/completions");
	if (r->ids) {
		if (copy_ids(r, n_vocab, ids, n, why))
			return -1;
	} else {
		rc = r->kind == REQUEST_CHAT ? encode_chat(r, tok, row, ids, n, &e) :
			tok_encode(tok, r->text, strlen(r->text), TOK_BOS, ids, n, &e);
		if (rc)
			return refuse(why, 500, "out_of_memory", NULL, "%s", e.msg);
	}
	if (!*n) {
		int32_t start = tok_bos(tok) >= 0 ? tok_bos(tok) : tok_eos(tok);

		if (start < 0)
			return refuse(why, 400, "invalid_value", "prompt",
				"the prompt is empty, and the model names no token "
				"to start with");
		(*ids)[(*n)++] = start; /* there is room for one more */
	}
	if (*n > n_ctx)
		return refuse(why, 400, "context_length_exceeded",
			r->kind == REQUEST_CHAT ? "messages" : "prompt",
			"the prompt has %zu tokens, the context %zu", *n, n_ctx);
	return 0;
}
