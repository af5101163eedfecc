/*
 * internal.h - what gguf.c (parsing), split.c (parts) and meta.c (access) share; nothing else
 * includes it.
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
	uint64_t start, end; /* from the kind to past the value */
	uint64_t *str_at;   /* [ceil(n / GGUF_STR_STRIDE)], arrays of strings only; owned */
};

struct gguf_block { struct gguf_block *next; size_t used, cap; char data[]; };

struct gguf_file { char *path; const uint8_t *data; uint64_t size; void *map; };

struct gguf {
	const uint8_t *data;      /* [size] the first part, which has the metadata */
	uint64_t size;
	struct gguf_file *file;   /* [n_files] owned; map is what close unmaps, NULL over memory */
	size_t n_files;
	uint32_t version;
	uint64_t align;
	size_t n_kv, n_tensors;
	struct gguf_kv *kv;       /* [n_kv], file order */
	uint32_t *kv_sorted;      /* [n_kv], by name */
	struct gguf_tensor *tensor; /* [n_tensors], file order */
	uint32_t *tensor_sorted;  /* [n_tensors], by name */
	struct gguf_block *names; /* the keys and the tensors' names, NUL-terminated */
	struct resident *resident; /* resident.c; NULL unless gguf_to_memory was called */
	uint64_t mem, max_mem;    /* bytes allocated for all of the above, and their limit */
};

/* gguf.c, for split.c */

/* A name from the file, escaped and cut, for an error message. */
struct gguf_shown { char s[160]; };
struct gguf_shown gguf_show(const char *s, size_t n);

/* One file, parts not looked for, with at most max_mem for its index. Errors name the path. */
struct gguf *gguf_open_one(const char *path, uint64_t max_mem, struct moe_err *e);
struct gguf *gguf_open_one_memory(const void *data, size_t n, const char *name, uint64_t max_mem,
	struct moe_err *e);
/* Zeroed memory for n items; counts against max_mem. */
void *gguf_get_mem(struct gguf *g, uint64_t n, size_t size, const char *what, struct moe_err *e);
/* A NUL-terminated copy that lives as long as g; n <= GGUF_MAX_NAME. */
const char *gguf_keep_name(struct gguf *g, const char *s, size_t n, struct moe_err *e);
/* Fill in tensor_sorted; a name that is there twice is an error. */
int gguf_sort_tensors(struct gguf *g, struct moe_err *e);

/* resident.c: the copy is given up where it stands. */
void gguf_copy_end(struct gguf *g);

/* meta.c: NULL if there is none. */
const struct gguf_kv *gguf_find_kv(const struct gguf *g, const char *key);

/* split.c: g with all parts of the model that it is a part of; takes g over, also on failure.
 * part: the parts in memory, or NULL to open files beside g's. */
struct gguf *gguf_join(struct gguf *g, const struct gguf_part *part, size_t n, struct moe_err *e);

#define GGUF_MAX_MEM (56ull << 20)

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
