/* stop.c - see stop.h. Byte by byte: these texts are few and short. */
#include "serve/stop.h"

#include <string.h>

/* The length of the longest text that ends what waits, or 0. */
static size_t ends(const struct stop *s)
{
	size_t most = 0;

	for (size_t i = 0; i < s->n; i++) {
		size_t n = strlen(s->text[i]);

		if (n <= s->n_wait && n > most && !memcmp(s->wait + s->n_wait - n, s->text[i], n))
			most = n;
	}
	return most;
}

/* How much of what waits, from its end, begins one of the texts. */
static size_t begins(const struct stop *s)
{
	for (size_t from = 0; from < s->n_wait; from++)
		for (size_t i = 0; i < s->n; i++)
			if (!strncmp(s->text[i], s->wait + from, s->n_wait - from))
				return s->n_wait - from;
	return 0;
}

int stop_feed(struct stop *s, const char *text, size_t n, struct buf *out)
{
	for (size_t i = 0; i < n; i++) {
		size_t k;

		s->wait[s->n_wait++] = text[i];
		k = ends(s);
		if (k) {
			buf_add(out, s->wait, s->n_wait - k);
			s->n_wait = 0;
			return 1;
		}
		k = begins(s); /* less than the whole of one, so there is room for the next byte */
		buf_add(out, s->wait, s->n_wait - k);
		memmove(s->wait, s->wait + s->n_wait - k, k);
		s->n_wait = k;
	}
	return 0;
}

void stop_rest(struct stop *s, struct buf *out)
{
	buf_add(out, s->wait, s->n_wait);
	s->n_wait = 0;
}
