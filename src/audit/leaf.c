/* leaf.c - see leaf.h. */
#include "audit/leaf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char leaf_domain[] = "moescope-leaf/1\n", data_domain[] = "moescope-data/1\n",
	record_domain[] = "moescope-record/1 ";

static const char *const kind_name[LEAF_KINDS] = {
	[LEAF_INIT] = "init",
	[LEAF_SESSION_START] = "session-start",
	[LEAF_SESSION_END] = "session-end",
	[LEAF_MODEL] = "model",
	[LEAF_SEQ_START] = "sequence-start",
	[LEAF_BATCH] = "batch",
	[LEAF_SEQ_END] = "sequence-end",
	[LEAF_GAP] = "gap",
	[LEAF_CLOCK] = "clock",
	[LEAF_RECOVERY] = "recovery",
	[LEAF_HEARTBEAT] = "heartbeat",
	[LEAF_ROTATION] = "rotation",
	[LEAF_REDACTION] = "redaction",
	[LEAF_PRUNE] = "prune",
	[LEAF_HOLD] = "hold",
	[LEAF_EXPORT] = "export",
	[LEAF_ACCESS] = "access",
	[LEAF_OPERATOR] = "operator",
	[LEAF_NOTE] = "note",
};

const char *leaf_kind_name(unsigned kind)
{
	return kind < LEAF_KINDS ? kind_name[kind] : NULL;
}

static unsigned char *put(unsigned char *p, uint64_t x, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--, x >>= 8)
		p[i] = (unsigned char)x;
	return p + bytes;
}

static uint64_t get(const unsigned char *p, int bytes)
{
	uint64_t x = 0;

	for (int i = 0; i < bytes; i++)
		x = x << 8 | p[i];
	return x;
}

void leaf_put(const struct leaf *l, unsigned char out[LEAF_BYTES])
{
	unsigned char *p = out + 16;

	memcpy(out, leaf_domain, 16);
	p = put(p, l->index, 8);
	p = put(put(put(p, l->kind, 2), l->flags, 2), l->n, 4);
	p = put(put(put(p, l->run, 8), l->seq, 8), l->first, 8);
	p = put(put(p, l->wall, 8), l->mono, 8);
	memcpy(p, l->boot, 16);
	memcpy(p + 16, l->descriptor, SHA_BYTES);
	memcpy(p + 48, l->commit, SHA_BYTES);
}

int leaf_get(struct leaf *l, const unsigned char *in, size_t n)
{
	if (n != LEAF_BYTES || memcmp(in, leaf_domain, 16))
		return -1;
	l->index = get(in + 16, 8);
	l->kind = (uint16_t)get(in + 24, 2);
	l->flags = (uint16_t)get(in + 26, 2);
	l->n = (uint32_t)get(in + 28, 4);
	l->run = get(in + 32, 8);
	l->seq = get(in + 40, 8);
	l->first = get(in + 48, 8);
	l->wall = get(in + 56, 8);
	l->mono = get(in + 64, 8);
	memcpy(l->boot, in + 72, 16);
	memcpy(l->descriptor, in + 88, SHA_BYTES);
	memcpy(l->commit, in + 120, SHA_BYTES);
	return leaf_kind_name(l->kind) ? 0 : -1;
}

void leaf_commit(const unsigned char salt[LEAF_SALT], const void *payload, size_t n,
	unsigned char out[SHA_BYTES])
{
	unsigned char len[8];
	struct sha s;

	put(len, n, 8);
	sha_init(&s);
	sha_add(&s, data_domain, 16);
	sha_add(&s, salt, LEAF_SALT);
	sha_add(&s, len, 8);
	sha_add(&s, payload, n);
	sha_end(&s, out);
}

/* ---- records ---- */

void record_begin(struct buf *b, const char *kind)
{
	buf_printf(b, "%s%s\n", record_domain, kind);
}

void record_bytes(struct buf *b, const char *key, const void *p, size_t n)
{
	const unsigned char *s = p;

	buf_printf(b, "%s ", key);
	for (size_t i = 0; i < n; i++)
		if (s[i] < 0x20 || s[i] > 0x7e || s[i] == '\\')
			buf_printf(b, "\\x%02x", s[i]);
		else
			buf_char(b, (char)s[i]);
	buf_char(b, '\n');
}

void record_text(struct buf *b, const char *key, const char *value)
{
	if (value)
		record_bytes(b, key, value, strlen(value));
}

void record_int(struct buf *b, const char *key, int64_t v)
{
	buf_printf(b, "%s %lld\n", key, (long long)v);
}

void record_hex(struct buf *b, const char *key, const void *p, size_t n)
{
	const unsigned char *s = p;

	buf_printf(b, "%s ", key);
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%02x", s[i]);
	buf_char(b, '\n');
}

int record_next(const char *rec, size_t n, size_t *at, struct record_line *out)
{
	const char *end, *blank;

	if (!*at) {
		if (n < sizeof record_domain || memcmp(rec, record_domain, sizeof record_domain - 1) ||
			!(end = memchr(rec, '\n', n)))
			return -1;
		*at = (size_t)(end - rec) + 1;
	}
	if (*at == n)
		return 0;
	end = memchr(rec + *at, '\n', n - *at);
	blank = end ? memchr(rec + *at, ' ', (size_t)(end - rec) - *at) : NULL;
	if (!blank)
		return -1;
	*out = (struct record_line){ rec + *at, blank + 1, (size_t)(blank - rec) - *at,
		(size_t)(end - blank) - 1 };
	*at = (size_t)(end - rec) + 1;
	return 1;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int record_get(const char *rec, size_t n, const char *key, char *out, size_t size)
{
	struct record_line l;
	size_t at = 0, k = 0;

	out[0] = 0;
	while (record_next(rec, n, &at, &l) == 1) {
		if (l.n_key != strlen(key) || memcmp(l.key, key, l.n_key))
			continue;
		for (size_t i = 0; i < l.n_value && k + 1 < size; i++) {
			int hi, lo;

			if (l.value[i] == '\\' && i + 3 < l.n_value && l.value[i + 1] == 'x' &&
				(hi = hex_digit(l.value[i + 2])) >= 0 && (lo = hex_digit(l.value[i + 3])) >= 0) {
				out[k++] = (char)(hi << 4 | lo);
				i += 3;
			} else {
				out[k++] = l.value[i];
			}
		}
		out[k] = 0;
		return 0;
	}
	return -1;
}

int64_t record_get_int(const char *rec, size_t n, const char *key, int64_t missing)
{
	char s[32], *end;
	long long v;

	if (record_get(rec, n, key, s, sizeof s) || !*s)
		return missing;
	v = strtoll(s, &end, 10);
	return *end ? missing : v;
}

void record_setting_key(char *out, size_t size, const char *setting)
{
	snprintf(out, size, "setting_%s", setting);
	for (char *p = out; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p > '~' || *p == '\\')
			*p = '_';
}

void record_kind(const char *rec, size_t n, char *out, size_t size)
{
	const char *end = n ? memchr(rec, '\n', n) : NULL;
	size_t head = sizeof record_domain - 1, len;

	out[0] = 0;
	if (!end || (size_t)(end - rec) < head || memcmp(rec, record_domain, head))
		return;
	len = (size_t)(end - rec) - head;
	snprintf(out, size, "%.*s", (int)(len < size ? len : size - 1), rec + head);
}
