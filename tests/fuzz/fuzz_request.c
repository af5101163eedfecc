/*
 * fuzz_request.c - bodies of requests to `serve`: any bytes. See fuzz.h.
 *
 * The first byte says which of the two kinds. What is taken must be within the bounds that the
 * engine relies on; what is refused must say why. Texts that stop are then looked for in the bytes
 * themselves, whole and cut into pieces: the same must come out.
 */
#include <math.h>
#include <stdlib.h>

#include "fuzz.h"
#include "serve/logprobs.h"
#include "serve/request.h"

static void check(int ok)
{
	if (!ok)
		abort();
}

static int watch(const struct request *r, const char *s, size_t n, size_t piece, struct buf *out)
{
	struct stop stop = r->stop;
	int over = 0;

	buf_init(out, 1 << 24);
	for (size_t at = 0, len; at < n && !over; at += len) {
		len = n - at < piece ? n - at : piece;
		over = stop_feed(&stop, s + at, len, out);
	}
	if (!over)
		stop_rest(&stop, out);
	return over;
}

static void taken(const struct request *r, const char *s, size_t n)
{
	const struct sampler_opt *o = &r->sampler;
	struct buf a, b;

	check(r->kind == REQUEST_CHAT ? r->n_message > 0 : r->text || r->n_ids > 0);
	for (size_t i = 0; i < r->n_message; i++)
		check(r->message[i].s && !r->message[i].s[r->message[i].n]);
	for (size_t i = 0; i < r->n_ids; i++)
		check(r->ids[i] >= 0);
	check(o->temperature >= 0 && o->temperature <= 100 && o->top_p >= 0 && o->top_p <= 1 &&
		o->min_p >= 0 && o->min_p <= 1 && o->repeat_penalty >= 0.1 && o->repeat_penalty <= 10 &&
		o->top_k <= 1 << 24);
	check(r->logprobs >= -1 && r->logprobs <= LOGPROBS_MOST);
	check(r->most >= -1 && r->stop.n <= STOP_MOST && !r->stop.n_wait);
	for (size_t i = 0; i < r->stop.n; i++)
		check(*r->stop.text[i] && strlen(r->stop.text[i]) <= STOP_BYTES);
	if (n > 4096) /* each byte is compared with every text */
		n = 4096;
	check(watch(r, s, n, n + 1, &a) == watch(r, s, n, 3, &b));
	check(a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len)));
	buf_free(&a);
	buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sampler_opt defaults = { 0.8, 40, 0.95, 0.05, 1.0, 64, 0 };
	struct refusal why = { 0 };
	struct request r;
	char *body;

	if (!size)
		return 0;
	body = malloc(size); /* the bytes behind the first, and a NUL */
	check(body != NULL);
	memcpy(body, data + 1, size - 1);
	body[size - 1] = 0;
	if (!request_parse(
			&r, data[0] & 1 ? REQUEST_TEXT : REQUEST_CHAT, body, size - 1, &defaults, &why))
		taken(&r, body, size - 1);
	else
		check((why.status == 400 || why.status == 500) && *why.msg);
	request_free(&r);
	free(body);
	return 0;
}

int fuzz_seed(unsigned i, struct bytes *b)
{
	static const char *const body[] = {
		"c{\"prompt\": \"int main\", \"max_tokens\": 16, \"temperature\": 0.5, \"logprobs\": 3, "
		"\"stop\": [\"m\", \"ma\"], \"seed\": 7}",
		"c{\"prompt\": [1, 2, 3], \"stream\": true, \"stream_options\": {\"include_usage\": true}, "
		"\"n\": 1}",
		"b{\"messages\": [{\"role\": \"system\", \"content\": \"a\"}, {\"role\": \"user\", "
		"\"content\": [{\"type\": \"text\", \"text\": \"x\\u00e9\\n\"}]}], \"top_p\": 1, "
		"\"top_k\": 0, \"min_p\": 0, \"repeat_penalty\": 1.1, \"logprobs\": true, "
		"\"top_logprobs\": 2}",
		"b{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"user\": \"u\", "
		"\"metadata\": {\"domain\": \"d\"}, \"moescope_domain\": \"e\", \"tools\": [], "
		"\"response_format\": {\"type\": \"text\"}, \"logit_bias\": {}}",
		"b[[[[{\"a\": null}, true, -1e99]]]]",
	};

	if (i >= sizeof body / sizeof *body)
		return 0;
	put(b, body[i], strlen(body[i]));
	return 1;
}
