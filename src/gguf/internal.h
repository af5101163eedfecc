/*
 * internal.h - what gguf.c (parsing) and meta.c (access) share; nothing else includes it.
 *
 * Offsets are bytes from the start of the file. They were checked against the file's size when
 * they were stored, so access needs no second check.
 */
#ifndef GGUF_INTERNAL_H
#define GGUF_INTERNAL_H

#include <string.h>

#include "gguf/gguf.h"

#define GGUF_STR_STRIDE 8 /* the index of a string array holds every eighth element's offset */

struct gguf_kv {
	const char *name;   /* NUL-terminated, in one of gguf.names */
	uint32_t kind;      /* enum gguf_kind */
	uint32_t arr_kind;  /* of the elements; arrays only */
	uint64_t n;         /* elements; arrays only */
	uint64_t at;        /* scalar: the value; string: its length field; array: the first element */
	uint64_t *str_at;   /* [ceil(n / GGUF_STR_STRIDE)], arrays of strings only; owned */
};

struct gguf_block { struct gguf_block *next; size_t used, cap; char data[]; };

struct gguf {
	char *path;
	const uint8_t *data;      /* [size] the file */
	uint64_t size;
	void *map;                /* what close unmaps; NULL over the caller's memory */
	uint32_t version;
	uint64_t align;
	size_t n_kv, n_tensors;
	struct gguf_kv *kv;       /* [n_kv], file order */
	uint32_t *kv_sorted;      /* [n_kv], by name */
	struct gguf_tensor *tensor; /* [n_tensors], file order */
	uint32_t *tensor_sorted;  /* [n_tensors], by name */
	struct gguf_block *names; /* the keys, NUL-terminated */
	uint64_t mem;             /* bytes allocated for all of the above; bounded */
};

/* Bytes of one value of a fixed-size kind; 0 for strings and arrays. kind <= GGUF_F64. */
size_t gguf_kind_bytes(uint32_t kind);
const char *gguf_kind_name(uint32_t kind);

static inline uint64_t gguf_load(const struct gguf *g, uint64_t at, size_t bytes)
{
	uint64_t v = 0;

	memcpy(&v, g->data + at, bytes);
	return v;
}

#endif
