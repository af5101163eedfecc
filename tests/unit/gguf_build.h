/*
 * gguf_build.h - GGUF files put together byte by byte, for tests and fuzz seeds.
 *
 * Knows nothing of the reader beyond the numbers of the kinds, and checks nothing: a test writes
 * wrong counts and offsets on purpose.
 */
#ifndef TESTS_GGUF_BUILD_H
#define TESTS_GGUF_BUILD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"

struct bytes { uint8_t *p; size_t n, cap; };

static inline void put(struct bytes *b, const void *p, size_t n)
{
	if (b->n + n > b->cap) {
		b->cap = 2 * (b->n + n) + 64;
		b->p = realloc(b->p, b->cap);
		if (!b->p)
			abort();
	}
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static inline void put_u32(struct bytes *b, uint32_t v)
{
	uint8_t le[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24) };

	put(b, le, 4);
}

static inline void put_u64(struct bytes *b, uint64_t v)
{
	put_u32(b, (uint32_t)v);
	put_u32(b, (uint32_t)(v >> 32));
}

static inline void put_strn(struct bytes *b, const char *s, size_t n)
{
	put_u64(b, n);
	put(b, s, n);
}

static inline void put_str(struct bytes *b, const char *s)
{
	put_strn(b, s, strlen(s));
}

static inline void head(struct bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
	put(b, "GGUF", 4);
	put_u32(b, version);
	put_u64(b, n_tensors);
	put_u64(b, n_kv);
}

static inline void kv_u32(struct bytes *b, const char *key, uint32_t v)
{
	put_str(b, key);
	put_u32(b, GGUF_U32);
	put_u32(b, v);
}

static inline void kv_str(struct bytes *b, const char *key, const char *v)
{
	put_str(b, key);
	put_u32(b, GGUF_STR);
	put_str(b, v);
}

/* Key, kind and the value's bytes as given. */
static inline void kv_raw(struct bytes *b, const char *key, uint32_t kind, const void *v, size_t n)
{
	put_str(b, key);
	put_u32(b, kind);
	put(b, v, n);
}

static inline void kv_array(struct bytes *b, const char *key, uint32_t kind, uint64_t n)
{
	put_str(b, key);
	put_u32(b, GGUF_ARR);
	put_u32(b, kind);
	put_u64(b, n);
}

static inline void tensor4(struct bytes *b, const char *name, uint32_t n_dims, const uint64_t *ne,
	uint32_t type, uint64_t offset)
{
	put_str(b, name);
	put_u32(b, n_dims);
	for (uint32_t i = 0; i < n_dims && i < 8; i++)
		put_u64(b, ne[i]);
	put_u32(b, type);
	put_u64(b, offset);
}

static inline void tensor(struct bytes *b, const char *name, uint64_t ne0, uint64_t ne1,
	uint32_t type, uint64_t offset)
{
	uint64_t ne[2] = { ne0, ne1 };

	tensor4(b, name, 2, ne, type, offset);
}

/* Zeros up to a multiple of align, then n bytes of data. */
static inline void data(struct bytes *b, size_t align, size_t n)
{
	static const uint8_t zero[65536];

	put(b, zero, (align - b->n % align) % align);
	for (; n > sizeof zero; n -= sizeof zero)
		put(b, zero, sizeof zero);
	put(b, zero, n);
}

#endif
