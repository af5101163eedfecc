/* show.c - see show.h. */
#include "cmd/show.h"

#include <string.h>

#include "base/text.h"

struct shown show(const char *name)
{
	struct shown out = { "" };
	size_t max = sizeof out.s - 4;
	struct buf b;

	if (!name)
		return out;
	buf_init(&b, max);
	text_escape(&b, name, strlen(name), TEXT_TERMINAL);
	if (b.len)
		memcpy(out.s, b.data, b.len + 1);
	if (b.failed)
		memcpy(out.s + b.len, "...", 4);
	buf_free(&b);
	return out;
}
