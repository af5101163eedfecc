/*
 * test_serve.c - what `serve` is made of, without HTTP and without an engine: requests, texts that
 * stop, answers, the queue, domains, keys, figures. Expected values are written here, or counted by
 * hand; answers are read back with the JSON library, which the writer does not use.
 */
#include "test_util.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <unistd.h>

#include "serve/answer.h"
#include "serve/keys.h"
#include "serve/meter.h"

#define VOCAB "tests/data/vocab-4096.gguf"

static const struct sampler_opt defaults = { 0.8, 40, 0.95, 0.05, 1.0, 64, 0 };

/* ---- requests ---- */

#define USER "\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]"

static const struct bad {
	enum request_kind kind;
	const char *body;
	int status;
	const char *code, *param, *words;
} bads[] = {
	{ REQUEST_CHAT, "", 400, "invalid_json", "", "empty" },
	{ REQUEST_CHAT, "{", 400, "invalid_json", "", "byte" },
	{ REQUEST_CHAT, "{" USER "} x", 400, "invalid_json", "", "byte" },
	{ REQUEST_CHAT, "[]", 400, "invalid_type", "", "an array" },
	{ REQUEST_CHAT, "7", 400, "invalid_type", "", "a number" },
	{ REQUEST_CHAT, "{}", 400, "missing_parameter", "messages", "missing" },
	{ REQUEST_TEXT, "{}", 400, "missing_parameter", "prompt", "missing" },
	{ REQUEST_TEXT, "{" USER "}", 400, "missing_parameter", "prompt", "missing" },
	{ REQUEST_CHAT, "{\"messages\": []}", 400, "invalid_value", "messages", "empty" },
	{ REQUEST_CHAT, "{\"messages\": {}}", 400, "invalid_type", "messages", "an object" },
	{ REQUEST_CHAT, "{\"messages\": [7]}", 400, "invalid_type", "messages[0]", "a number" },
	{ REQUEST_CHAT, "{\"messages\": [{\"role\": \"user\"}]}", 400, "invalid_type",
		"messages[0].content", "missing" },
	{ REQUEST_CHAT, "{\"messages\": [{\"content\": \"x\"}]}", 400, "invalid_type",
		"messages[0].role", "missing" },
	{ REQUEST_CHAT,
		"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, "
		"{\"role\": \"wizard\", \"content\": \"x\"}]}",
		400, "invalid_value", "messages[1].role", "'wizard'" },
	{ REQUEST_CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": 7}]}", 400, "invalid_type",
		"messages[0].content", "a number" },
	{ REQUEST_CHAT,
		"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}", 400,
		"unsupported_value", "messages[0].content", "image_url" },
	{ REQUEST_CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]}",
		400, "invalid_type", "messages[0].content", "without a text" },
	{ REQUEST_CHAT, "{" USER ", " USER "}", 400, "invalid_value", "messages", "twice" },
	{ REQUEST_CHAT, "{" USER ", \"temperature\": \"hot\"}", 400, "invalid_type", "temperature",
		"a string" },
	{ REQUEST_CHAT, "{" USER ", \"temperature\": -1}", 400, "invalid_value", "temperature", "-1" },
	{ REQUEST_CHAT, "{" USER ", \"temperature\": 1e999}", 400, "invalid_value", "temperature",
		"inf" },
	{ REQUEST_CHAT, "{" USER ", \"top_p\": 1.5}", 400, "invalid_value", "top_p", "1.5" },
	{ REQUEST_CHAT, "{" USER ", \"top_k\": 2.5}", 400, "invalid_value", "top_k", "whole" },
	{ REQUEST_CHAT, "{" USER ", \"max_tokens\": -1}", 400, "invalid_value", "max_tokens", "-1" },
	{ REQUEST_CHAT, "{" USER ", \"max_tokens\": 1.5}", 400, "invalid_value", "max_tokens", "1.5" },
	{ REQUEST_CHAT, "{" USER ", \"max_tokens\": 5, \"max_completion_tokens\": 6}", 400,
		"invalid_value", "max_completion_tokens", "differ" },
	{ REQUEST_CHAT, "{" USER ", \"n\": 2}", 400, "unsupported_value", "n", "only 1" },
	{ REQUEST_CHAT, "{" USER ", \"n\": \"1\"}", 400, "invalid_type", "n", "a string" },
	{ REQUEST_TEXT, "{\"prompt\": \"x\", \"best_of\": 3}", 400, "unsupported_value", "best_of",
		"only 1" },
	{ REQUEST_TEXT, "{\"prompt\": \"x\", \"echo\": true}", 400, "unsupported_parameter", "echo",
		"not supported" },
	{ REQUEST_TEXT, "{\"prompt\": \"x\", \"logprobs\": 21}", 400, "invalid_value", "logprobs",
		"21, expected 0 to 20" },
	{ REQUEST_CHAT, "{" USER ", \"logprobs\": 5}", 400, "invalid_type", "logprobs", "a number" },
	{ REQUEST_CHAT, "{" USER ", \"logprobs\": true, \"top_logprobs\": 1.5}", 400, "invalid_value",
		"top_logprobs", "whole" },
	{ REQUEST_CHAT, "{" USER ", \"top_logprobs\": 2}", 400, "invalid_value", "top_logprobs",
		"logprobs is not true" },
	{ REQUEST_CHAT, "{" USER ", \"tools\": [{}]}", 400, "unsupported_parameter", "tools",
		"not supported" },
	{ REQUEST_CHAT, "{" USER ", \"response_format\": {\"type\": \"json_object\"}}", 400,
		"unsupported_value", "response_format", "json_object" },
	{ REQUEST_CHAT, "{" USER ", \"stop\": \"\"}", 400, "invalid_value", "stop", "0 bytes" },
	{ REQUEST_CHAT, "{" USER ", \"stop\": [1]}", 400, "invalid_type", "stop", "a number" },
	{ REQUEST_CHAT,
		"{" USER
		", \"stop\": [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\","
		"\"d\",\"e\",\"f\",\"g\",\"h\"]}",
		400, "invalid_value", "stop", "more than 16" },
	{ REQUEST_CHAT, "{" USER ", \"stream\": 1}", 400, "invalid_type", "stream", "a boolean" },
	{ REQUEST_CHAT, "{" USER ", \"stream_options\": {\"include_usage\": 1}}", 400, "invalid_type",
		"stream_options.include_usage", "a number" },
	{ REQUEST_CHAT, "{" USER ", \"metadata\": {\"domain\": 7}}", 400, "invalid_type",
		"metadata.domain", "a number" },
	{ REQUEST_CHAT, "{" USER ", \"user\": {}}", 400, "invalid_type", "user", "an object" },
	{ REQUEST_TEXT, "{\"prompt\": [\"a\", \"b\"]}", 400, "unsupported_value", "prompt", "2 texts" },
	{ REQUEST_TEXT, "{\"prompt\": []}", 400, "invalid_type", "prompt", "an array" },
	{ REQUEST_TEXT, "{\"prompt\": [1, \"b\"]}", 400, "invalid_type", "prompt[]", "a string" },
	{ REQUEST_TEXT, "{\"prompt\": [1, -2]}", 400, "invalid_value", "prompt", "prompt[1] is -2" },
	{ REQUEST_TEXT, "{\"prompt\": [1, 4294967296]}", 400, "invalid_value", "prompt", "prompt[1]" },
	{ REQUEST_TEXT, "{\"prompt\": \"a\\u0000b\"}", 400, "invalid_value", "", "NUL" },
	{ REQUEST_TEXT, "{\"prompt\": \"a\xff\"}", 400, "invalid_utf8", "", "byte 13" },
	{ REQUEST_TEXT, "{\"prompt\": \"a\xc0\x80\"}", 400, "invalid_utf8", "", "byte 13" },
	{ REQUEST_TEXT, "{\"prompt\": \"a\\ud800\"}", 400, "invalid_json", "", "byte" },
	{ REQUEST_TEXT, "{\"prompt\": \"x\", \"user\": \"\x1b[2J\", \"n\": 3}", 400,
		"unsupported_value", "n", "" },
};

static void test_bad_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
		const struct bad *b = &bads[i];
		struct refusal why = { 0 };
		struct request r;

		if (!request_parse(&r, b->kind, b->body, strlen(b->body), &defaults, &why))
			fail_msg("taken: %s", b->body);
		if (why.status != b->status || strcmp(why.code, b->code) || strcmp(why.param, b->param) ||
		    !strstr(why.msg, b->words))
			fail_msg("%s: %d %s '%s' '%s'", b->body, why.status, why.code, why.param, why.msg);
		request_free(&r);
	}
}

static void test_nested(void **state)
{
	struct refusal why = { 0 };
	struct request r;
	size_t n = 200000;
	char *deep = malloc(n + 1);

	(void)state;
	assert_non_null(deep);
	memset(deep, '[', n);
	deep[n] = 0;
	assert_int_equal(request_parse(&r, REQUEST_CHAT, deep, n, &defaults, &why), -1);
	assert_string_equal(why.code, "invalid_json");
	request_free(&r);
	free(deep);
}

static const char full[] =
	"{\"model\": \"any\", \"messages\": [{\"role\": \"developer\", \"content\": \"Be brief.\"}, "
	"{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Hel\"}, "
	"{\"type\": \"text\", \"text\": \"lo \\\\u0000 \\u00e9\"}]}, "
	"{\"role\": \"assistant\", \"content\": \"\"}], "
	"\"max_completion_tokens\": 12, \"temperature\": 0, \"top_p\": 0.5, \"top_k\": 7, "
	"\"min_p\": 0.25, \"repeat_penalty\": 1.5, \"seed\": -3, \"stop\": [\"END\", \"\\n\\n\"], "
	"\"stream\": true, \"stream_options\": {\"include_usage\": true}, \"ignore_eos\": true, "
	"\"metadata\": {\"domain\": \"m\", \"x\": 1}, \"moescope_domain\": \"code\", "
	"\"user\": \"someone\", \"n\": 1, \"tools\": [], \"tool_choice\": \"none\", "
	"\"presence_penalty\": 0, \"logit_bias\": {}, \"logprobs\": false, "
	"\"response_format\": {\"type\": \"text\"}, \"max_tokens\": null, "
	"\"something_new\": [1, {}]}";

static void test_full_request(void **state)
{
	struct refusal why = { 0 };
	struct request r;

	(void)state;
	if (request_parse(&r, REQUEST_CHAT, full, strlen(full), &defaults, &why))
		fail_msg("%s %s: %s", why.code, why.param, why.msg);
	assert_int_equal(r.n_message, 3);
	assert_int_equal(r.message[0].role, CHAT_SYSTEM);
	assert_int_equal(r.message[1].role, CHAT_USER);
	assert_string_equal(r.message[1].s, "Hello \\u0000 \xc3\xa9");
	assert_int_equal(r.message[1].n, 15);
	assert_int_equal(r.message[2].n, 0);
	assert_int_equal(r.most, 12);
	assert_true(r.sampler.temperature == 0 && r.sampler.top_p == 0.5 && r.sampler.min_p == 0.25);
	assert_true(
		r.sampler.repeat_penalty == 1.5 && r.sampler.top_k == 7 && r.sampler.repeat_last == 64);
	assert_true(r.has_seed && r.sampler.seed == UINT64_MAX - 2);
	assert_int_equal(r.stop.n, 2);
	assert_string_equal(r.stop.text[1], "\n\n");
	assert_true(r.stream && r.want_usage && r.ignore_end);
	assert_string_equal(r.domain, "code");
	assert_string_equal(r.user, "someone");
	assert_int_equal(request_settle(&r, &why), 0);
	assert_true(!r.n_message && !r.message && !r.json && r.most == 12 && r.stop.n == 2);
	assert_string_equal(r.stop.text[0], "END");
	assert_string_equal(r.stop.text[1], "\n\n");
	assert_string_equal(r.domain, "code");
	assert_string_equal(r.user, "someone");
	request_free(&r);
}

static void test_defaults(void **state)
{
	static const char body[] = "{\"prompt\": [\"x\"], \"metadata\": {\"domain\": \"m\"}}";
	struct refusal why = { 0 };
	struct request r;

	(void)state;
	assert_int_equal(request_parse(&r, REQUEST_TEXT, body, strlen(body), &defaults, &why), 0);
	assert_string_equal(r.text, "x");
	assert_int_equal(r.most, -1);
	assert_true(r.sampler.temperature == 0.8 && r.sampler.top_k == 40 && !r.has_seed && !r.stream &&
		!r.user);
	assert_int_equal(request_settle(&r, &why), 0);
	assert_string_equal(r.domain, "m");
	assert_null(r.user);
	request_free(&r);
}

/* Every beginning of a body, and every body with one byte changed: refused or taken, never more. */
static void test_cut_and_changed(void **state)
{
	size_t n = strlen(full), taken = 0;

	(void)state;
	for (size_t len = 0; len < n; len++) {
		struct refusal why = { 0 };
		struct request r;
		char *cut = malloc(len + 1); /* so that a look behind it is seen */

		assert_non_null(cut);
		memcpy(cut, full, len);
		cut[len] = 0;
		assert_int_equal(request_parse(&r, REQUEST_CHAT, cut, len, &defaults, &why), -1);
		assert_int_equal(why.status, 400);
		request_free(&r);
		memcpy(cut, full, len);
		free(cut);
	}
	for (size_t i = 0; i < n; i++)
		for (int bit = 0; bit < 8; bit++) {
			struct refusal why = { 0 };
			struct request r;
			char *copy = strdup(full);

			assert_non_null(copy);
			copy[i] = (char)(copy[i] ^ 1 << bit);
			if (!request_parse(&r, REQUEST_CHAT, copy, n, &defaults, &why))
				taken++;
			else
				assert_int_equal(why.status, 400);
			request_free(&r);
			free(copy);
		}
	assert_in_range(taken, 1, 8 * n - 1);
}

/* ---- tokens ---- */

static int encode(const struct tok *tok, enum request_kind kind, const char *body, const char *row,
	size_t ctx, int32_t **ids, size_t *n, struct refusal *why)
{
	struct request r;
	int rc = request_parse(&r, kind, body, strlen(body), &defaults, why);

	*ids = NULL;
	if (!rc)
		rc = request_encode(&r, tok, row ? chat_find(row) : NULL, 4096, ctx, ids, n, why);
	request_free(&r);
	return rc;
}

static void test_encode(void **state)
{
	static const char text[] = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
	struct moe_err e = { 0 };
	struct gguf *g = gguf_open(VOCAB, &e);
	struct tok *tok = g ? tok_load(g, &e) : NULL;
	struct refusal why = { 0 };
	int32_t *ids, *want;
	size_t n, n_want;

	(void)state;
	ok_or_fail(tok != NULL, &e);
	/* chatml as it is documented, encoded as one text: nothing in it is from outside but "Hi" */
	ok_or_fail(!tok_encode(tok, text, strlen(text), TOK_SPECIAL | TOK_BOS, &want, &n_want, &e), &e);
	assert_int_equal(
		encode(tok, REQUEST_CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}",
			"chatml", 4096, &ids, &n, &why),
		0);
	assert_int_equal(n, n_want);
	assert_memory_equal(ids, want, n * sizeof *ids);
	free(ids);
	free(want);
	assert_int_equal(encode(tok, REQUEST_CHAT, "{" USER "}", NULL, 4096, &ids, &n, &why), -1);
	assert_string_equal(why.code, "no_chat_template");
	free(ids);
	assert_int_equal(
		encode(tok, REQUEST_TEXT, "{\"prompt\": [5, 4095]}", NULL, 2, &ids, &n, &why), 0);
	assert_true(n == 2 && ids[0] == 5 && ids[1] == 4095);
	free(ids);
	assert_int_equal(
		encode(tok, REQUEST_TEXT, "{\"prompt\": [5, 4096]}", NULL, 2, &ids, &n, &why), -1);
	assert_non_null(strstr(why.msg, "prompt[1] is 4096, the vocabulary has 4096"));
	free(ids);
	assert_int_equal(
		encode(tok, REQUEST_TEXT, "{\"prompt\": [1, 2, 3]}", NULL, 2, &ids, &n, &why), -1);
	assert_string_equal(why.code, "context_length_exceeded");
	assert_non_null(strstr(why.msg, "3 tokens, the context 2"));
	free(ids);
	assert_int_equal(encode(tok, REQUEST_TEXT, "{\"prompt\": \"\"}", NULL, 2, &ids, &n, &why), 0);
	assert_int_equal(n, 1); /* where documents start */
	free(ids);
	tok_free(tok);
	gguf_close(g);
}

/* ---- texts that stop ---- */

static const struct { const char *stop[3], *text, *shown; int over; } stops[] = {
	{ { "END" }, "to the END of", "to the ", 1 },
	{ { "END" }, "to the EN", "to the EN", 0 },
	{ { "aab" }, "aaaab", "aa", 1 },
	{ { "abab" }, "abaabab", "aba", 1 },
	{ { "bc", "abcd" }, "xabcd", "xa", 1 },     /* the first that is complete */
	{ { "c", "abc" }, "xabc", "x", 1 },         /* of those the longest */
	{ { "\n\n" }, "a\nb\n\nc", "a\nb", 1 },
	{ { "\xc3\xa9" }, "\xc3\xa8\xc3\xa9", "\xc3\xa8", 1 },
	{ { "x" }, "x", "", 1 },
	{ { "never" }, "", "", 0 },
};

/* However it is cut: with all pieces of at most two places of cutting. */
static void test_stop(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
		size_t n = strlen(stops[i].text);

		for (size_t a = 0; a <= n; a++)
			for (size_t b = a; b <= n; b++) {
				size_t at[4] = { 0, a, b, n };
				struct stop s = { .n = 0 };
				struct buf out;
				int over = 0;

				while (s.n < 3 && stops[i].stop[s.n]) {
					s.text[s.n] = stops[i].stop[s.n];
					s.n++;
				}
				buf_init(&out, 1000);
				for (int k = 0; k < 3 && !over; k++)
					over = stop_feed(&s, stops[i].text + at[k], at[k + 1] - at[k], &out);
				if (!over)
					stop_rest(&s, &out);
				assert_int_equal(over, stops[i].over);
				assert_string_equal(out.data ? out.data : "", stops[i].shown);
				buf_free(&out);
			}
	}
}

/* The longest that is allowed, and text that is all but one byte of it again and again. */
static void test_stop_long(void **state)
{
	char text[STOP_BYTES + 1], almost[STOP_BYTES + 1];
	struct stop s = { .n = 1, .text = { text } };
	struct buf out;

	(void)state;
	memset(text, 'a', STOP_BYTES);
	text[STOP_BYTES] = 0;
	memcpy(almost, text, sizeof text);
	almost[STOP_BYTES - 1] = 'b';
	buf_init(&out, 1 << 20);
	for (int i = 0; i < 20; i++)
		assert_int_equal(stop_feed(&s, almost, STOP_BYTES, &out), 0);
	assert_int_equal(stop_feed(&s, text, STOP_BYTES, &out), 1);
	assert_int_equal(out.len, 20 * STOP_BYTES);
	buf_free(&out);
}

/* ---- domains ---- */

static void test_domain_names(void **state)
{
	static const char *const good[] = { "code", "a b", "d\xc3\xa9j\xc3\xa0", "x/y:z", "0" };
	static const char *const bad[] = { "", " a", "a ", "a\n", "\x1b[2J", "a\x7f", "\xff",
		"a\xe2\x80\xae"
		"b",
		"0123456789012345678901234567890123456789012345678901234567890123" };
	struct moe_err e = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ok_or_fail(!domains_check(good[i], &e), &e);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(domains_check(bad[i], &e), -1);
}

static void test_domain_bound(void **state)
{
	struct moe_err e = { 0 };
	struct domains *d = domains_new("web", 2, &e);
	int isfull;

	(void)state;
	ok_or_fail(d != NULL, &e);
	assert_int_equal(domains_find(d, NULL, &isfull), 0);
	assert_int_equal(domains_find(d, "web", &isfull), 0);
	assert_int_equal(domains_find(d, "a", &isfull), 1);
	assert_int_equal(domains_find(d, "b", &isfull), 2);
	assert_int_equal(isfull, 0);
	assert_int_equal(domains_find(d, "c", &isfull), 0);
	assert_int_equal(isfull, 1);
	assert_int_equal(domains_find(d, "a", &isfull), 1);
	assert_int_equal(isfull, 0);
	assert_int_equal(domains_n(d), 3);
	assert_string_equal(domains_name(d, 2), "b");
	domains_free(d);
	assert_null(domains_new("\n", 2, &e));
}

/* ---- keys ---- */

static void test_keys(void **state)
{
	char path[] = "/tmp/test_serve_XXXXXX";
	static const char text[] = "# comment\n\nsecret-1\r\nsecret-2\n";
	struct moe_err e = { 0 };
	int fd = mkstemp(path);
	struct keys *k;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	k = keys_load(path, &e);
	ok_or_fail(k != NULL, &e);
	assert_true(keys_allow(k, "Bearer secret-1") && keys_allow(k, "bearer  secret-2"));
	assert_false(keys_allow(k, "Bearer secret-") || keys_allow(k, "Bearer secret-11") ||
		keys_allow(k, "secret-1") || keys_allow(k, "Bearer ") ||
		keys_allow(k, "Bearer # comment") || keys_allow(k, NULL));
	keys_free(k);
	assert_int_equal(ftruncate(fd, 10), 0);
	assert_null(keys_load(path, &e));
	assert_non_null(strstr(e.msg, "no key"));
	close(fd);
	unlink(path);
	assert_null(keys_load(path, &e));
}

/* ---- the queue ---- */

static struct job *make_job(void)
{
	struct moe_err e = { 0 };
	struct job *j = job_new(&e);

	ok_or_fail(j != NULL, &e);
	j->domain_name = "";
	return j;
}

static void test_queue(void **state)
{
	struct moe_err e = { 0 };
	struct refusal why = { 0 };
	struct queue *q = queue_new(3, &e);
	struct job *j[4], *got;

	(void)state;
	ok_or_fail(q != NULL, &e);
	assert_null(queue_take(q, 1));
	for (int i = 0; i < 4; i++)
		j[i] = make_job();
	for (int i = 0; i < 3; i++)
		assert_int_equal(queue_put(q, j[i], &why), 0);
	assert_int_equal(queue_put(q, j[3], &why), -1);
	assert_int_equal(why.status, 429);
	assert_non_null(strstr(why.msg, "3 requests"));
	job_leave(j[0]); /* passed over when its turn comes */
	queue_drop(q, j[1]);
	queue_drop(q, j[1]);
	assert_int_equal(queue_length(q), 2);
	got = queue_take(q, 1000);
	assert_ptr_equal(got, j[2]);
	job_release(got);
	assert_int_equal(queue_put(q, j[3], &why), 0);
	queue_close(q);
	assert_int_equal(j[3]->state, JOB_FAILED);
	assert_int_equal(j[3]->why.status, 503);
	assert_int_equal(queue_put(q, j[1], &why), -1);
	assert_int_equal(why.status, 503);
	for (int i = 0; i < 4; i++)
		job_release(j[i]);
	queue_free(q);
}

#define PIECES 2000

static void *produce(void *arg)
{
	struct moe_err e = { 0 };
	struct job *j = arg;

	job_start(j, 9, 1);
	for (int i = 0; i < PIECES; i++)
		if (job_text(j, "ab", 2, &e))
			return arg;
	job_done(j, "stop", PIECES);
	job_release(j);
	return NULL;
}

/* A reader beside the writer gets all, in order, and then the end. */
static void test_job_threads(void **state)
{
	struct moe_err e = { 0 };
	struct refusal why = { 0 };
	struct queue *q = queue_new(1, &e);
	struct job *j = make_job();
	pthread_t t;
	size_t seen = 0;
	void *failed;

	(void)state;
	assert_int_equal(queue_put(q, j, &why), 0);
	assert_int_equal(pthread_create(&t, NULL, produce, queue_take(q, 1000)), 0);
	for (int over = 0; !over;) {
		job_wait(j, seen ? JOB_RUNS : JOB_WAITS, seen, 1000);
		for (; seen < j->text.len; seen++)
			assert_int_equal(j->text.data[seen], seen % 2 ? 'b' : 'a');
		over = j->state == JOB_DONE;
		job_unlock(j);
	}
	assert_int_equal(pthread_join(t, &failed), 0);
	assert_null(failed);
	assert_int_equal(seen, 2 * PIECES);
	assert_int_equal(j->seq, 9);
	job_release(j);
	queue_free(q);
}

/* ---- answers ---- */

static const cJSON *at(const cJSON *j, const char *path)
{
	char part[64];
	size_t n;

	for (; j && *path; path += n + (path[n] == '.')) {
		n = strcspn(path, ".");
		snprintf(part, sizeof part, "%.*s", (int)n, path);
		j = part[0] >= '0' && part[0] <= '9' ? cJSON_GetArrayItem(j, atoi(part)) :
			cJSON_GetObjectItemCaseSensitive(j, part);
	}
	if (!j)
		fail_msg("no '%s' in it", path);
	return j;
}

static const struct answer_model model = { "m\"1", 1700000000, 3, NULL };

/* With quotes, a control character, broken UTF-8. */
static struct job *done_job(enum request_kind kind, int usage)
{
	struct moe_err e = { 0 };
	struct job *j = make_job();

	j->req.kind = kind;
	j->req.want_usage = usage;
	j->domain_name = "co\\de";
	j->n_ids = 5;
	job_start(j, 17, 99);
	assert_int_equal(job_text(j, "a \"b\"\n\x01\xff", 8, &e), 0);
	j->req.logprobs = -1;
	job_done(j, "length", 4);
	return j;
}

static void test_answer(void **state)
{
	struct job *j = done_job(REQUEST_CHAT, 0);
	struct buf b;
	cJSON *r;

	(void)state;
	buf_init(&b, 1 << 20);
	answer_whole(&b, &model, j, 1700000001);
	r = cJSON_Parse(b.data);
	assert_non_null(r);
	assert_string_equal(at(r, "id")->valuestring, "chatcmpl-3-17");
	assert_string_equal(at(r, "object")->valuestring, "chat.completion");
	assert_string_equal(at(r, "model")->valuestring, "m\"1");
	assert_true(at(r, "created")->valuedouble == 1700000001);
	assert_string_equal(at(r, "choices.0.message.role")->valuestring, "assistant");
	assert_string_equal(
		at(r, "choices.0.message.content")->valuestring, "a \"b\"\n\x01\xef\xbf\xbd");
	assert_string_equal(at(r, "choices.0.finish_reason")->valuestring, "length");
	assert_true(at(r, "usage.prompt_tokens")->valuedouble == 5 &&
		at(r, "usage.completion_tokens")->valuedouble == 4 &&
		at(r, "usage.total_tokens")->valuedouble == 9);
	assert_true(at(r, "moescope.run")->valuedouble == 3 &&
		at(r, "moescope.seq")->valuedouble == 17 && at(r, "moescope.seed")->valuedouble == 99);
	assert_string_equal(at(r, "moescope.domain")->valuestring, "co\\de");
	cJSON_Delete(r);
	buf_clear(&b);
	j->req.kind = REQUEST_TEXT;
	answer_whole(&b, &model, j, 1);
	r = cJSON_Parse(b.data);
	assert_string_equal(at(r, "object")->valuestring, "text_completion");
	assert_string_equal(at(r, "choices.0.text")->valuestring, "a \"b\"\n\x01\xef\xbf\xbd");
	cJSON_Delete(r);
	buf_free(&b);
	job_release(j);
}

/* Events are lines of data, an empty line behind each; together they are the answer. */
static void test_stream(void **state)
{
	struct job *j = done_job(REQUEST_CHAT, 1);
	char text[100] = "", *p, *end;
	struct buf b;
	int n = 0, finished = 0, usages = 0, done = 0;

	(void)state;
	buf_init(&b, 1 << 20);
	answer_first(&b, &model, j, 1);
	j->text.len = 4; /* so much of it is there yet */
	answer_piece(&b, &model, j, 1, 0);
	j->text.len = 8;
	answer_piece(&b, &model, j, 1, 4);
	answer_last(&b, &model, j, 1);
	for (p = b.data; (end = strstr(p, "\n\n")); p = end + 2, n++) {
		const cJSON *c;
		cJSON *r;

		*end = 0;
		assert_null(strchr(p, '\n'));
		assert_int_equal(strncmp(p, "data: ", 6), 0);
		assert_false(done);
		done = !strcmp(p, "data: [DONE]");
		if (done)
			continue;
		r = cJSON_Parse(p + 6);
		assert_non_null(r);
		assert_string_equal(at(r, "object")->valuestring, "chat.completion.chunk");
		usages += cJSON_IsObject(at(r, "usage"));
		c = at(r, "choices");
		if (cJSON_GetArraySize(c)) {
			const cJSON *x = cJSON_GetObjectItem(at(c, "0.delta"), "content");

			assert_false(finished);
			strcat(text, x ? x->valuestring : "");
			finished = cJSON_IsString(at(c, "0.finish_reason"));
		}
		cJSON_Delete(r);
	}
	assert_int_equal(*p, 0);
	assert_true(n == 6 && finished && done && usages == 1);
	assert_string_equal(text, "a \"b\"\n\x01\xef\xbf\xbd");
	buf_free(&b);
	job_release(j);
}

/* ---- log probabilities ---- */

static void test_logprobs(void **state)
{
	/* probabilities 1/8 1/2 1/4 0 1/8, all times e^3; a NaN has no part */
	const float row[] = { (float)(3 - log(8)), (float)(3 - log(2)), (float)(3 - log(4)), -INFINITY,
		(float)(3 - log(8)), NAN };
	static const int32_t order[] = { 1, 2, 0, 4, 3 };
	const double value[] = { -log(2), -log(4), -log(8), -log(8), LOGPROBS_NONE };
	static const float none[] = { NAN, NAN };
	struct logprobs p;

	(void)state;
	logprobs_of(row, 6, 4, 0, &p);
	assert_true(p.n == 0 && p.chosen.id == 4 && fabs((double)p.chosen.v + log(8)) < 1e-6);
	for (unsigned top = 1; top <= 20; top++) {
		logprobs_of(row, 6, 2, top, &p);
		assert_int_equal(p.n, top < 5 ? top : 5);
		for (unsigned i = 0; i < p.n; i++) {
			assert_int_equal(p.top[i].id, order[i]);
			assert_true(fabs((double)p.top[i].v - value[i]) < 1e-6);
		}
	}
	logprobs_of(none, 2, 1, 5, &p);
	assert_true(p.n == 0 && p.chosen.v == LOGPROBS_NONE);
}

/* A text of three tokens of which the last begins behind what is shown (a text of `stop` began). */
static struct job *scored_job(const struct tok *tok, enum request_kind kind, int32_t **ids)
{
	struct moe_err e = { 0 };
	struct job *j = make_job();
	size_t n = 0, at = 0;

	ok_or_fail(!tok_encode(tok, "\xc3\xa9 law", 6, 0, ids, &n, &e), &e);
	assert_true(n > 1);
	j->req.kind = kind;
	j->req.logprobs = 1;
	job_start(j, 1, 1);
	for (size_t i = 0; i < n; i++) {
		struct logprobs p = { { (*ids)[i], -0.5f }, { { (*ids)[0], -0.25f } }, 1 };
		size_t len;

		tok_bytes(tok, (*ids)[i], &len);
		assert_int_equal(job_token(j, &p, at, &e), 0);
		at += len;
	}
	assert_int_equal(at, 6);
	assert_int_equal(job_token(j, &(struct logprobs){ .n = 0 }, at, &e), 0);
	assert_int_equal(job_text(j, "\xc3\xa9 law", 6, &e), 0);
	job_done(j, "stop", (uint32_t)n + 1);
	return j;
}

static void test_scored_answers(void **state)
{
	struct moe_err e = { 0 };
	struct gguf *g = gguf_open(VOCAB, &e);
	struct tok *tok = g ? tok_load(g, &e) : NULL;
	struct answer_model m = { "m", 1, 1, tok };
	char joined[64] = "";
	const cJSON *x;
	struct job *j;
	struct buf b;
	int32_t *ids;
	int bytes = 0;
	cJSON *r;

	(void)state;
	ok_or_fail(tok != NULL, &e);
	buf_init(&b, 1 << 20);
	j = scored_job(tok, REQUEST_CHAT, &ids);
	answer_whole(&b, &m, j, 1);
	r = cJSON_Parse(b.data);
	cJSON_ArrayForEach(x, at(r, "choices.0.logprobs.content")) {
		const cJSON *y;

		assert_true(at(x, "logprob")->valuedouble == -0.5);
		assert_true(at(x, "top_logprobs.0.logprob")->valuedouble == -0.25);
		cJSON_ArrayForEach(y, at(x, "bytes"))
			joined[bytes++] = (char)y->valuedouble;
	}
	assert_string_equal(joined, "\xc3\xa9 law");
	cJSON_Delete(r);
	buf_clear(&b);
	answer_piece(&b, &m, j, 1, 2); /* a stream that has shown two bytes: the first character */
	r = cJSON_Parse(b.data + 6);
	joined[0] = 0;
	cJSON_ArrayForEach(x, at(r, "choices.0.logprobs.content"))
		strcat(joined, at(x, "token")->valuestring);
	assert_string_equal(joined, " law");
	cJSON_Delete(r);
	buf_clear(&b);
	j->req.kind = REQUEST_TEXT;
	answer_whole(&b, &m, j, 1);
	r = cJSON_Parse(b.data);
	x = at(r, "choices.0.logprobs");
	assert_int_equal(cJSON_GetArraySize(at(x, "tokens")), j->n_token - 1);
	assert_int_equal(cJSON_GetArraySize(at(x, "token_logprobs")), j->n_token - 1);
	assert_int_equal(cJSON_GetArraySize(at(x, "top_logprobs")), j->n_token - 1);
	assert_true(at(x, "text_offset.0")->valuedouble == 0);
	x = cJSON_GetArrayItem(at(x, "text_offset"), (int)j->n_token - 2);
	/* in characters: the first has two bytes */
	assert_true(x->valuedouble == (double)j->token[j->n_token - 2].at - 1);
	cJSON_Delete(r);
	buf_free(&b);
	job_release(j);
	free(ids);
	tok_free(tok);
	gguf_close(g);
}

static void test_error(void **state)
{
	static const struct {
		int status;
		const char *type;
	} types[] = { { 400, "invalid_request_error" }, { 401, "authentication_error" },
		{ 429, "rate_limit_error" }, { 500, "server_error" } };
	struct refusal why = { 0 };
	struct buf b;
	cJSON *r;

	(void)state;
	buf_init(&b, 1 << 20);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(
			refuse(&why, types[i].status, i ? "c" : NULL, i ? NULL : "p", "a \"%s\" \x1b[2J", "x"),
			-1);
		buf_clear(&b);
		answer_error(&b, &why);
		r = cJSON_Parse(b.data);
		assert_non_null(r);
		assert_non_null(strstr(at(r, "error.message")->valuestring, "a \"x\" "));
		assert_null(strchr(at(r, "error.message")->valuestring, 0x1b));
		assert_string_equal(at(r, "error.type")->valuestring, types[i].type);
		assert_true(cJSON_IsNull(at(r, i ? "error.param" : "error.code")));
		cJSON_Delete(r);
	}
	buf_free(&b);
}

/* ---- figures ---- */

static void expect_line(const struct buf *page, const char *line)
{
	const char *p = strstr(page->data, line);

	if (!p || (p != page->data && p[-1] != '\n') || p[strlen(line)] != '\n')
		fail_msg("no line '%s' in:\n%s", line, page->data);
}

/* Four experts of layer 2, picks of two tokens with k = 2: 0 and 1, 0 and 2. Loads 2 1 1 0: mean 1,
 * deviation sqrt(1/2); entropy of 1/2 1/4 1/4 = 3/2 bits of 2; one of four is dead. */
static void test_meter(void **state)
{
	static const struct moe_layer_desc layers[] = { { .layer = 2, .n_expert = 4, .k = 2 },
		{ .layer = 3, .n_expert = 2, .k = 1 } };
	static const uint16_t experts[] = { 0, 1, 0, 2 };
	struct meter_now now = { 3, 32, 5 };
	struct moe_route_view v = { .layer = 2, .n_tok = 2, .k = 2, .n_expert = 4, .experts = experts };
	struct moe_batch_info batch = { .n_tok = 2 };
	struct moe_err e = { 0 };
	struct domains *d = domains_new("we\\b\"", 1, &e);
	struct meter *m = d ? meter_new(layers, 2, d, 1, &e) : NULL;
	struct moe_hook *h;
	struct buf b;
	int isfull;

	(void)state;
	ok_or_fail(m != NULL, &e);
	h = meter_hook(m);
	assert_int_equal(h->route(h->ctx, &v, &e), 0);
	assert_int_equal(h->batch_end(h->ctx, &batch, &e), 0);
	domains_find(d, "x", &isfull);
	meter_request(m, 200, 0, 0.3);
	meter_request(m, 200, 0, 0.02);
	meter_request(m, 499, 1, 400);
	meter_request(m, 404, -1, -1);
	meter_answer(m, 0.06, 10, 4);
	meter_answer(m, -1, 5, 0);
	meter_logged(m, 20, 15, 2);
	meter_running(m, 1);
	assert_true(fabs(meter_mean(m) - (0.3 + 0.02 + 400) / 3) < 1e-9);
	buf_init(&b, 1 << 20);
	meter_page(m, &now, &b);
	expect_line(&b, "moescope_requests_total{status=\"200\",domain=\"we\\\\b\\\"\"} 2");
	expect_line(&b, "moescope_requests_total{status=\"499\",domain=\"x\"} 1");
	expect_line(&b, "moescope_requests_total{status=\"404\",domain=\"\"} 1");
	expect_line(&b, "moescope_tokens_total{kind=\"prompt\"} 15");
	expect_line(&b, "moescope_tokens_total{kind=\"generated\"} 4");
	expect_line(&b, "moescope_queue_length 3");
	expect_line(&b, "moescope_requests_running 1");
	expect_line(&b, "moescope_connections 5");
	expect_line(&b, "moescope_domains 2");
	expect_line(&b, "moescope_time_to_first_token_seconds_bucket{le=\"0.05\"} 0");
	expect_line(&b, "moescope_time_to_first_token_seconds_bucket{le=\"0.1\"} 1");
	expect_line(&b, "moescope_request_seconds_bucket{le=\"0.25\"} 1");
	expect_line(&b, "moescope_request_seconds_bucket{le=\"0.5\"} 2");
	expect_line(&b, "moescope_request_seconds_bucket{le=\"300\"} 2");
	expect_line(&b, "moescope_request_seconds_bucket{le=\"+Inf\"} 3");
	expect_line(&b, "moescope_request_seconds_sum 400.32");
	expect_line(&b, "moescope_tokens_evaluated_total 20");
	expect_line(&b, "moescope_tokens_committed_total 15");
	expect_line(&b, "moescope_tokens_lost_total 2");
	expect_line(&b, "moescope_picks_total 4");
	expect_line(&b, "moescope_window_tokens 2");
	expect_line(&b, "moescope_layer_load_cv{layer=\"2\"} 0.707107");
	expect_line(&b, "moescope_layer_load_entropy{layer=\"2\"} 0.75");
	expect_line(&b, "moescope_layer_load_max_mean{layer=\"2\"} 2");
	expect_line(&b, "moescope_layer_dead_experts{layer=\"2\"} 0.25");
	assert_null(strstr(b.data, "layer=\"3\"")); /* nothing was seen of it */
	assert_null(strstr(b.data, "nan"));
	/* The window forgets: after twice its length of other picks expert 3 is all that is left. */
	for (int i = 0; i < 2 * METER_WINDOW / 256; i++) {
		static uint16_t three[512];

		for (int k = 0; k < 512; k++)
			three[k] = (uint16_t)(2 + k % 2);
		v.experts = three;
		v.n_tok = batch.n_tok = 256;
		h->route(h->ctx, &v, &e);
		h->batch_end(h->ctx, &batch, &e);
	}
	buf_clear(&b);
	meter_page(m, &now, &b);
	expect_line(&b, "moescope_layer_dead_experts{layer=\"2\"} 0.5");
	expect_line(&b, "moescope_layer_load_cv{layer=\"2\"} 1");
	buf_free(&b);
	meter_free(m);
	domains_free(d);
}

/* Every line is a comment or NAME{LABELS} NUMBER, every name is announced once, buckets grow. */
static void test_page_format(void **state)
{
	static const struct moe_layer_desc layer = { .layer = 0, .n_expert = 4, .k = 2 };
	struct meter_now now = { 0, 1, 0 };
	struct moe_err e = { 0 };
	struct domains *d = domains_new(NULL, 4, &e);
	struct meter *m = meter_new(&layer, 1, d, 4, &e);
	char *line, *save = NULL, name[80] = "";
	struct buf b;
	int n = 0;

	(void)state;
	assert_non_null(m);
	meter_request(m, 200, 0, 1); /* without a domain */
	meter_request(m, 404, -1, -1);
	buf_init(&b, 1 << 20);
	meter_page(m, &now, &b);
	expect_line(&b, "moescope_requests_total{status=\"200\",domain=\"\"} 1");
	for (line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
		char word[80];
		double v;

		if (sscanf(line, "# TYPE %79s", name) == 1 || !strncmp(line, "# HELP moescope_", 16))
			continue;
		assert_int_equal(strncmp(line, name, strlen(name)), 0);
		assert_int_equal(sscanf(strrchr(line, ' '), " %lf%79s", &v, word), 1);
		assert_true(isfinite(v));
	}
	assert_true(n > 40);
	buf_free(&b);
	meter_free(m);
	domains_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_nested), cmocka_unit_test(test_full_request),
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_cut_and_changed),
		cmocka_unit_test(test_encode), cmocka_unit_test(test_stop),
		cmocka_unit_test(test_stop_long), cmocka_unit_test(test_domain_names),
		cmocka_unit_test(test_domain_bound), cmocka_unit_test(test_keys),
		cmocka_unit_test(test_queue), cmocka_unit_test(test_job_threads),
		cmocka_unit_test(test_answer), cmocka_unit_test(test_stream), cmocka_unit_test(test_error),
		cmocka_unit_test(test_logprobs), cmocka_unit_test(test_scored_answers),
		cmocka_unit_test(test_meter), cmocka_unit_test(test_page_format) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
