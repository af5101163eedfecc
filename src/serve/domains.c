/* domains.c - see domains.h. Names are never moved or forgotten, so they are read without the
 * lock. */
#include "serve/domains.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"

struct domains {
	pthread_mutex_t lock; /* n and what is behind name[n-1] */
	size_t n, cap;
	char (*name)[DOMAIN_BYTES + 1]; /* [cap] */
};

struct domains *domains_new(const char *first, size_t most, struct moe_err *e)
{
	struct domains *d = calloc(1, sizeof *d);

	if (first && *first && domains_check(first, e)) {
		free(d);
		return NULL;
	}
	if (d)
		d->name = calloc(most + 1, sizeof *d->name);
	if (!d || !d->name) {
		free(d);
		err_nomem(e, (most + 1) * sizeof *d->name, "domains");
		return NULL;
	}
	pthread_mutex_init(&d->lock, NULL);
	d->n = 1;
	d->cap = most + 1;
	snprintf(d->name[0], sizeof d->name[0], "%s", first ? first : "");
	return d;
}

void domains_free(struct domains *d)
{
	if (!d)
		return;
	pthread_mutex_destroy(&d->lock);
	free(d->name);
	free(d);
}

int domains_check(const char *name, struct moe_err *e)
{
	size_t n = strlen(name);
	struct buf safe;
	int same;

	if (!n || n > DOMAIN_BYTES)
		return err_set(
			e, MOE_ERR_INPUT, "a domain of %zu bytes, expected 1 to %d", n, DOMAIN_BYTES);
	buf_init(&safe, 8 * DOMAIN_BYTES);
	text_escape(&safe, name, n, TEXT_TERMINAL);
	same = safe.len == n && !memcmp(safe.data, name, n);
	buf_free(&safe);
	if (!same)
		return err_set(e, MOE_ERR_INPUT, "the domain '%.*s' has characters that cannot be shown",
			(int)n, name);
	if (name[0] == ' ' || name[n - 1] == ' ')
		return err_set(e, MOE_ERR_INPUT, "the domain '%s' begins or ends with a blank", name);
	return 0;
}

size_t domains_find(struct domains *d, const char *name, int *full)
{
	size_t i = 0;

	*full = 0;
	if (!name)
		return 0;
	pthread_mutex_lock(&d->lock);
	while (i < d->n && strcmp(d->name[i], name))
		i++;
	if (i == d->n && i < d->cap)
		strcpy(d->name[d->n++], name);
	*full = i == d->cap;
	pthread_mutex_unlock(&d->lock);
	return *full ? 0 : i;
}

size_t domains_n(struct domains *d)
{
	size_t n;

	pthread_mutex_lock(&d->lock);
	n = d->n;
	pthread_mutex_unlock(&d->lock);
	return n;
}

const char *domains_name(struct domains *d, size_t i)
{
	return d->name[i];
}
