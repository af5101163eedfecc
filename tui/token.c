/* token.c - see token.h. */
#include "tui/token.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

void tui_token_text(char *out, size_t size, int32_t id, const char *bytes, int len)
{
	struct buf b;
	size_t n = 0;

	if (len < 0) {
		snprintf(out, size, "#%d ", (int)id);
		return;
	}
	buf_init(&b, size * 8);
	for (int i = 0, from = 0; i <= len; i++) {
		if (i < len && bytes[i] != '\n')
			continue;
		text_escape(&b, bytes + from, (size_t)(i - from), TEXT_TERMINAL);
		if (i < len)
			buf_str(&b, "\xe2\x86\xb5");
		from = i + 1;
	}
	for (size_t i = 0; b.data && i < b.len;) { /* whole code points only */
		uint32_t cp;
		size_t k = text_decode(b.data + i, b.len - i, &cp);

		if (!k || n + k >= size)
			break;
		memcpy(out + n, b.data + i, k);
		n += k;
		i += k;
	}
	out[n] = 0;
	buf_free(&b);
}

int tui_token(struct tui_grid *g, int x, int y, int max, enum tui_style style, int32_t id,
	const char *bytes, int len)
{
	char text[160], quoted[176];

	tui_token_text(text, sizeof text, id, bytes, len);
	if (len < 0)
		return tui_text(g, x, y, max, style, text);
	snprintf(quoted, sizeof quoted, "\"%s\"", text);
	return tui_text(g, x, y, max, style, quoted);
}
