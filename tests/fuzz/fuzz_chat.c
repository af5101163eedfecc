/*
 * fuzz_chat.c - chat templates: any text as a model's template, any messages. See fuzz.h.
 *
 * The input is a template, a NUL, and messages that end in NUL, one after the other from the
 * system, the user, the model and again. Stretches from outside must lie in the text and hold what
 * was said.
 */
#include <stdlib.h>

#include "fuzz.h"
#include "tok/chat.h"

#define MOST 12

static void check(int ok)
{
	if (!ok)
		abort();
}

static void render(const struct chat_row *row, const struct chat_message *m, size_t n, int ask)
{
	struct chat_text t;
	struct moe_err e;
	size_t at = 0;

	check(!chat_render(row, m, n, ask, &t, &e));
	check(t.after_reply <= t.n && t.n_outside <= n + 1);
	for (size_t i = 0; i < t.n_outside; i++) {
		check(t.outside[i].start >= at && t.outside[i].end > t.outside[i].start);
		at = t.outside[i].end;
	}
	check(at <= t.n);
	chat_text_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *s = (const char *)data, *end = s + size, *p = size ? memchr(s, 0, size) : NULL;
	struct chat_message m[MOST];
	const struct chat_row *row;
	size_t n = 0;

	row = chat_detect(s ? s : "", p ? (size_t)(p - s) : size);
	for (; p && p + 1 < end && n < MOST; n++) {
		const char *from = p + 1;

		p = memchr(from, 0, (size_t)(end - from));
		m[n] = (struct chat_message){ (enum chat_role)((n + size) % 3), from,
			(size_t)((p ? p : end) - from) };
	}
	if (row)
		render(row, m, n, 1);
	for (size_t i = 0; chat_row_at(i); i++)
		render(chat_row_at(i), m, n, (int)(i & 1));
	return 0;
}

int fuzz_seed(unsigned i, struct bytes *b)
{
	static const char *const tmpl[] = { "<|im_start|>", "[INST] <<SYS>>", "<start_of_turn>",
		"<|start|><|channel|>", "<role>ASSISTANT</role>'HUMAN'", "x" };

	if (i >= sizeof tmpl / sizeof *tmpl)
		return 0;
	put(b, tmpl[i], strlen(tmpl[i]) + 1);
	put(b, " be kind \0 hello\0well\0", 22);
	put(b, "<|im_end|>\0\0x", 13);
	return 1;
}
