/*
 * sha.h - SHA-256 (FIPS 180-4), fast enough to hash a log as it is read.
 *
 * libsodium's SHA-256 is plain C; a processor with the SHA extensions is about six times as fast.
 * Where it has them they are used, elsewhere libsodium is. Both give the same bytes, and a test
 * compares them.
 */
#ifndef AUDIT_SHA_H
#define AUDIT_SHA_H

#include <stddef.h>
#include <stdint.h>

#include <sodium.h>

#include <moescope/err.h>

#define SHA_BYTES 32

struct sha {
	crypto_hash_sha256_state plain;
	uint32_t h[8];          /* the rest: only with the extensions */
	uint64_t len;
	unsigned char block[64];
};

void sha_init(struct sha *s);
void sha_add(struct sha *s, const void *p, size_t n);
void sha_end(struct sha *s, unsigned char out[SHA_BYTES]);

/* A file's bytes, from disk; *bytes is added to. -1 with e filled in. tick, unless NULL, is called
 * between pieces: a large file takes minutes. */
int sha_file(struct sha *s, const char *path, uint64_t *bytes,
	int (*tick)(void *ctx, struct moe_err *e), void *ctx, struct moe_err *e);

/* One message. */
void sha_of(const void *p, size_t n, unsigned char out[SHA_BYTES]);

/* 0 switches the extensions off (tests compare the two); returns whether they are used now. */
int sha_fast(int allow);

#endif
