/* audit_say.c - see audit_say.h. */
#include "cmd/audit_say.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "audit/note.h"
#include "base/err.h"
#include "base/text.h"

static void fields(const struct say *f, size_t n)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	for (size_t i = 0; i < n; i++) {
		printf(", \"%s\": ", f[i].key);
		buf_clear(&b);
		if (f[i].text)
			text_escape(&b, f[i].text, strlen(f[i].text), TEXT_JSON);
		if (f[i].text)
			printf("\"%s\"", b.data ? b.data : "");
		else if (f[i].number == SAY_NULL)
			fputs("null", stdout);
		else
			printf("%" PRId64, f[i].number);
	}
	puts("}");
	buf_free(&b);
}

void audit_say(const char *action, const struct say *f, size_t n)
{
	printf("{\"action\": \"%s\"", action);
	fields(f, n);
}

int audit_say_note(const char *action, const char *note, size_t n_note, const struct say *f,
	size_t n,
	struct moe_err *e)
{
	char root[2 * SHA_BYTES + 1];
	size_t text, used;
	struct checkpoint c;
	struct buf b;

	if (note_shape(note, n_note, &text, &used, e) || checkpoint_read(&c, note, text, e))
		return -1;
	sodium_bin2hex(root, sizeof root, c.root, SHA_BYTES);
	buf_init(&b, 1 << 20);
	text_escape(&b, c.origin, strlen(c.origin), TEXT_JSON);
	printf("{\"action\": \"%s\", \"origin\": \"%s\", \"leaves\": %" PRIu64 ", \"root\": \"%s\", "
		"\"epoch\": %" PRIu64, action, b.data ? b.data : "", c.size, root, c.epoch);
	buf_clear(&b);
	text_escape(&b, note, n_note, TEXT_JSON);
	printf(", \"note\": \"%s\"", b.data ? b.data : "");
	buf_free(&b);
	fields(f, n);
	return 0;
}
