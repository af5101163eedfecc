/* keys.c - see keys.h. */
#include "serve/keys.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

#define KEYS_MOST 1024
#define KEY_BYTES 1024

struct keys { size_t n; unsigned char hash[KEYS_MOST][crypto_hash_sha256_BYTES]; };

static int add(struct keys *k, const char *line, size_t at, const char *path, struct moe_err *e)
{
	size_t n = strcspn(line, "\r\n");

	if (!n || *line == '#')
		return 0;
	if (n > KEY_BYTES)
		return err_set(
			e, MOE_ERR_INPUT, "%s line %zu: a key of more than %d bytes", path, at, KEY_BYTES);
	if (k->n == KEYS_MOST)
		return err_set(e, MOE_ERR_INPUT, "%s line %zu: more than %d keys", path, at, KEYS_MOST);
	crypto_hash_sha256(k->hash[k->n++], (const unsigned char *)line, n);
	return 0;
}

struct keys *keys_load(const char *path, struct moe_err *e)
{
	struct keys *k = calloc(1, sizeof *k);
	FILE *f = fopen(path, "r");
	char line[KEY_BYTES + 3];
	int bad = 0;

	if (!k || !f || sodium_init() < 0) {
		bad = f ? err_nomem(e, sizeof *k, "keys") : err_errno(e, "%s", path);
	} else {
		for (size_t at = 1; !bad && fgets(line, sizeof line, f); at++)
			bad = add(k, line, at, path, e);
		if (!bad && ferror(f))
			bad = err_errno(e, "reading %s", path);
		if (!bad && !k->n)
			bad = err_set(e, MOE_ERR_INPUT, "%s: no key in it", path);
	}
	sodium_memzero(line, sizeof line);
	if (f)
		fclose(f);
	if (!bad)
		return k;
	free(k);
	return NULL;
}

void keys_free(struct keys *k)
{
	free(k);
}

int keys_allow(const struct keys *k, const char *a)
{
	unsigned char h[crypto_hash_sha256_BYTES];
	int found = 0;

	if (!a || strncasecmp(a, "Bearer ", 7))
		return 0;
	a += 7;
	a += strspn(a, " ");
	crypto_hash_sha256(h, (const unsigned char *)a, strlen(a));
	for (size_t i = 0; i < k->n; i++)
		found |= !sodium_memcmp(h, k->hash[i], sizeof h);
	return found;
}
