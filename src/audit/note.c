/* note.c - see note.h. */
#include "audit/note.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/utf8.h"

enum { ALG_ED25519 = 1 };
static const char dash[] = "\xe2\x80\x94 "; /* em dash and a blank begin a signature line */

/* ---- base64 ---- */

void base64_add(struct buf *b, const void *p, size_t n)
{
	size_t len = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
	char *s = malloc(len);

	if (!s) {
		b->failed = 1;
		return;
	}
	sodium_bin2base64(s, len, p, n, sodium_base64_VARIANT_ORIGINAL);
	buf_str(b, s);
	free(s);
}

int base64_read(const char *s, size_t n, unsigned char *out, size_t max)
{
	size_t len;
	const char *end;

	if (sodium_base642bin(out, max, s, n, NULL, &len, &end, sodium_base64_VARIANT_ORIGINAL) ||
		end != s + n || len > INT32_MAX)
		return -1;
	return (int)len;
}

/* ---- keys ---- */

int note_name_ok(const char *name)
{
	size_t n = strlen(name);
	uint32_t c;

	if (!n || n > NOTE_NAME_MAX)
		return 0;
	for (size_t i = 0, len; i < n; i += len) {
		len = utf8_decode(name + i, n - i, &c);
		if (!len || c <= 0x20 || c == '+' || (c >= 0x7f && c <= 0xa0) ||
			(c >= 0x2000 && c <= 0x200f) || (c >= 0x2028 && c <= 0x202f) || c == 0x205f ||
			c == 0x3000 || c == 0x1680 || c == 0xfeff)
			return 0;
	}
	return 1;
}

void note_key_of(struct note_key *k, const char *name, const unsigned char pub[32])
{
	unsigned char sum[SHA_BYTES], alg = ALG_ED25519;
	struct sha s;

	memset(k, 0, sizeof *k);
	snprintf(k->name, sizeof k->name, "%s", name);
	memcpy(k->pub, pub, 32);
	sha_init(&s);
	sha_add(&s, k->name, strlen(k->name));
	sha_add(&s, "\n", 1);
	sha_add(&s, &alg, 1);
	sha_add(&s, pub, 32);
	sha_end(&s, sum);
	memcpy(k->hash, sum, 4);
}

void note_key_text(const struct note_key *k, char out[NOTE_KEY_TEXT])
{
	unsigned char raw[33] = { ALG_ED25519 };
	char b64[64];

	memcpy(raw + 1, k->pub, 32);
	sodium_bin2base64(b64, sizeof b64, raw, sizeof raw, sodium_base64_VARIANT_ORIGINAL);
	snprintf(out, NOTE_KEY_TEXT, "%s+%02x%02x%02x%02x+%s", k->name, k->hash[0], k->hash[1],
		k->hash[2], k->hash[3], b64);
}

/* NAME+hash+base64(alg || 32 bytes) into name, hash and raw. */
static int split_key(const char *s, size_t n, char *name, unsigned char hash[4],
	unsigned char raw[33])
{
	const char *p1, *p2;
	char hex[9] = "";
	size_t len;

	while (n && strchr(" \t\r\n", s[n - 1]))
		n--;
	while (n && strchr(" \t", *s))
		s++, n--;
	p1 = memchr(s, '+', n);
	p2 = p1 ? memchr(p1 + 1, '+', n - (size_t)(p1 + 1 - s)) : NULL;
	if (!p2 || p2 - p1 != 9 || p1 == s || p1 - s > NOTE_NAME_MAX)
		return -1;
	memcpy(name, s, (size_t)(p1 - s));
	name[p1 - s] = 0;
	memcpy(hex, p1 + 1, 8);
	if (sodium_hex2bin(hash, 4, hex, 8, NULL, &len, NULL) || len != 4)
		return -1;
	return base64_read(p2 + 1, n - (size_t)(p2 + 1 - s), raw, 33) == 33 && raw[0] == ALG_ED25519 &&
		note_name_ok(name) ? 0 : -1;
}

int note_key_read(struct note_key *k, const char *text, size_t n, struct moe_err *e)
{
	unsigned char hash[4], raw[33];
	char name[NOTE_NAME_MAX + 1];

	if (split_key(text, n, name, hash, raw))
		return err_set(e, MOE_ERR_INPUT,
			"not a public key: expected NAME+8 hex digits+base64 of an Ed25519 key");
	note_key_of(k, name, raw + 1);
	if (memcmp(k->hash, hash, 4))
		return err_set(e, MOE_ERR_INPUT,
			"public key %s: it says hash %02x%02x%02x%02x, its bytes "
			"give %02x%02x%02x%02x",
			name, hash[0], hash[1], hash[2], hash[3], k->hash[0], k->hash[1], k->hash[2],
			k->hash[3]);
	return 0;
}

/* The first bytes of a small file; *n. */
static int read_small(const char *path, int flags, char *out, size_t size, size_t *n,
	struct stat *st, struct moe_err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
	ssize_t got;

	if (fd < 0)
		return err_errno(e, "%s", path);
	if (fstat(fd, st) || !S_ISREG(st->st_mode)) {
		close(fd);
		return err_set(e, MOE_ERR_INPUT, "%s: not a regular file", path);
	}
	got = read(fd, out, size);
	close(fd);
	if (got < 0)
		return err_errno(e, "reading %s", path);
	*n = (size_t)got;
	return 0;
}

int note_key_load(struct note_key *k, const char *path, struct moe_err *e)
{
	char text[512];
	struct stat st;
	size_t n;

	if (read_small(path, 0, text, sizeof text, &n, &st, e))
		return -1;
	return note_key_read(k, text, n, e) ? err_wrap(e, "%s", path) : 0;
}

void note_secret_of(struct note_secret *s, const char *name, const unsigned char seed[32])
{
	unsigned char pub[32];

	crypto_sign_seed_keypair(pub, s->secret, seed);
	note_key_of(&s->key, name, pub);
}

void note_secret_forget(struct note_secret *s)
{
	sodium_memzero(s, sizeof *s);
}

int note_secret_create(struct note_secret *s, const char *name, const char *path, struct moe_err *e)
{
	unsigned char raw[33] = { ALG_ED25519 };
	char b64[64], line[512];
	int fd, n, bad;

	randombytes_buf(raw + 1, 32);
	note_secret_of(s, name, raw + 1);
	sodium_bin2base64(b64, sizeof b64, raw, sizeof raw, sodium_base64_VARIANT_ORIGINAL);
	n = snprintf(line, sizeof line, "PRIVATE+KEY+%s+%02x%02x%02x%02x+%s\n", name, s->key.hash[0],
		s->key.hash[1], s->key.hash[2], s->key.hash[3], b64);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		bad = err_errno(e, "creating the key %s", path);
	} else {
		bad = write(fd, line, (size_t)n) != n || fsync(fd);
		if (bad)
			err_errno(e, "writing the key %s", path);
		if (close(fd) && !bad)
			bad = err_errno(e, "writing the key %s", path);
		if (bad)
			unlink(path);
	}
	sodium_memzero(raw, sizeof raw);
	sodium_memzero(b64, sizeof b64);
	sodium_memzero(line, sizeof line);
	return bad ? -1 : 0;
}

int note_secret_load(struct note_secret *s, const char *path, struct moe_err *e)
{
	static const char head[] = "PRIVATE+KEY+";
	unsigned char hash[4], raw[33];
	char name[NOTE_NAME_MAX + 1], text[512];
	struct stat st;
	size_t n;
	int bad = 0;

	if (read_small(path, 0, text, sizeof text, &n, &st, e))
		return -1;
	if (st.st_mode & 077)
		bad = err_set(e, MOE_ERR_INPUT,
			"%s: a signing key that others may read (mode %03o); its mode "
			"must be 600",
			path, (unsigned)st.st_mode & 0777);
	else if (n < sizeof head || memcmp(text, head, sizeof head - 1) ||
		split_key(text + sizeof head - 1, n - (sizeof head - 1), name, hash, raw))
		bad = err_set(e, MOE_ERR_INPUT, "%s: not a signing key (PRIVATE+KEY+NAME+...)", path);
	if (!bad) {
		note_secret_of(s, name, raw + 1);
		if (memcmp(hash, s->key.hash, 4))
			bad = err_set(
				e, MOE_ERR_INPUT, "%s: the key's hash does not belong to its bytes", path);
	}
	sodium_memzero(text, sizeof text);
	sodium_memzero(raw, sizeof raw);
	return bad;
}

/* ---- notes ---- */

void note_sign(const struct note_secret *s, const char *text, size_t n, struct buf *out)
{
	unsigned char raw[4 + crypto_sign_BYTES];

	memcpy(raw, s->key.hash, 4);
	crypto_sign_detached(raw + 4, NULL, (const unsigned char *)text, n, s->secret);
	buf_add(out, text, n);
	buf_printf(out, "\n%s%s ", dash, s->key.name);
	base64_add(out, raw, sizeof raw);
	buf_char(out, '\n');
}

int note_shape(const char *p, size_t n, size_t *text, size_t *used, struct moe_err *e)
{
	size_t i = 0, sig;
	uint32_t c;

	for (size_t len; i < n; i += len) {
		if (p[i] == '\n' && i && p[i - 1] == '\n')
			break;
		len = utf8_decode(p + i, n - i, &c);
		if (!len || (c < 0x20 && c != '\n') || i >= NOTE_MAX)
			return err_set(e, MOE_ERR_INPUT, "a note is text; byte %zu of this one is not", i);
	}
	if (i >= n)
		return err_set(e, MOE_ERR_INPUT, "a note without an empty line before its signatures");
	*text = i;
	sig = ++i;
	while (n - i > 4 && !memcmp(p + i, dash, 4)) {
		const char *end = memchr(p + i, '\n', n - i);

		if (!end || end - p > NOTE_MAX)
			return err_set(e, MOE_ERR_INPUT, "a note whose last signature line does not end");
		i = (size_t)(end - p) + 1;
	}
	if (i == sig)
		return err_set(e, MOE_ERR_INPUT, "a note without a signature");
	*used = i;
	return 0;
}

/* One signature line without its line end: 1 = by k and good, 0 = by somebody else, -1 = bad. */
static int check_line(const char *p, size_t n, const struct note_key *k, const char *text,
	size_t n_text)
{
	unsigned char raw[4 + crypto_sign_BYTES + 1];
	size_t name = strlen(k->name);

	if (n < 4 + name + 1 || memcmp(p + 4, k->name, name) || p[4 + name] != ' ')
		return 0;
	if (base64_read(p + 4 + name + 1, n - (4 + name + 1), raw, sizeof raw) !=
			4 + crypto_sign_BYTES ||
		memcmp(raw, k->hash, 4))
		return 0;
	return crypto_sign_verify_detached(raw + 4, (const unsigned char *)text, n_text, k->pub) ? -1
																							 : 1;
}

int note_open(const char *p, size_t n, const struct note_key *keys, size_t n_key, size_t *text,
	size_t *used, struct moe_err *e)
{
	int found = -1;

	if (note_shape(p, n, text, used, e))
		return -1;
	for (size_t i = *text + 1; i < *used;) {
		size_t len = (size_t)((const char *)memchr(p + i, '\n', *used - i) - (p + i));

		for (size_t k = 0; k < n_key; k++) {
			int rc = check_line(p + i, len, &keys[k], p, *text);

			if (rc < 0)
				return err_set(e, MOE_ERR_INPUT, "the signature of %s does not belong to this note",
					keys[k].name);
			if (rc && found < 0)
				found = (int)k;
		}
		i += len + 1;
	}
	if (found < 0)
		return err_set(e, MOE_ERR_INPUT, "not signed by %s",
			n_key == 1 ? keys[0].name : "any key that was given");
	return found;
}

/* ---- checkpoints ---- */

void checkpoint_text(const struct checkpoint *c, struct buf *out)
{
	buf_printf(out, "%s\n%" PRIu64 "\n", c->origin, c->size);
	base64_add(out, c->root, SHA_BYTES);
	buf_printf(out, "\nepoch %" PRIu64 "\n", c->epoch);
}

/* A decimal number without sign, blanks or leading zeros. */
static int read_u64(const char *p, size_t n, uint64_t *out)
{
	*out = 0;
	if (!n || n > 20 || (n > 1 && *p == '0'))
		return -1;
	for (size_t i = 0; i < n; i++)
		if (p[i] < '0' || p[i] > '9' || __builtin_mul_overflow(*out, 10u, out) ||
			__builtin_add_overflow(*out, (unsigned)(p[i] - '0'), out))
			return -1;
	return 0;
}

int checkpoint_read(struct checkpoint *c, const char *text, size_t n, struct moe_err *e)
{
	const char *line[4];
	size_t len[4], at = 0;

	memset(c, 0, sizeof *c);
	for (int i = 0; i < 4; i++) {
		const char *end = at < n ? memchr(text + at, '\n', n - at) : NULL;

		if (!end)
			return err_set(e, MOE_ERR_INPUT, "a checkpoint has four lines, this one has %d", i);
		line[i] = text + at;
		len[i] = (size_t)(end - line[i]);
		at += len[i] + 1;
	}
	if (at != n || len[0] < 1 || len[0] > NOTE_NAME_MAX || read_u64(line[1], len[1], &c->size) ||
		base64_read(line[2], len[2], c->root, SHA_BYTES) != SHA_BYTES || len[3] < 7 ||
		memcmp(line[3], "epoch ", 6) || read_u64(line[3] + 6, len[3] - 6, &c->epoch))
		return err_set(
			e, MOE_ERR_INPUT, "not a checkpoint: origin, size, root and epoch are expected");
	memcpy(c->origin, line[0], len[0]);
	c->origin[len[0]] = 0;
	return 0;
}
