/*
 * gguf.h - reading a GGUF model file: bounded, over a read-only mapping, nothing copied.
 *
 * A file is hostile until proven otherwise: every count, length, offset and size is checked against
 * the bytes that remain and the limits below before it is used, multiplied or allocated for.
 * After gguf_open succeeds every tensor lies inside the mapping and no key is malformed.
 * Strings inside the file are not NUL-terminated: they come as (pointer, length).
 *
 * Layout (version 2 and 3, little-endian): "GGUF" u32 version, u64 n_tensors, u64 n_kv, the pairs
 * (string key, u32 type, value), the tensor records (string name, u32 n_dims, u64 dims[n_dims]
 * fastest first, u32 type, u64 offset), padding to general.alignment (32), then the data.
 */
#ifndef GGUF_GGUF_H
#define GGUF_GGUF_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#define GGUF_MAX_STRING (16u << 20)
#define GGUF_MAX_NAME 512
#define GGUF_MAX_KV 65536
#define GGUF_MAX_TENSORS 262144
#define GGUF_MAX_DIMS 4

enum gguf_kind { /* metadata value types, numbers of the format */
	GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STR,
	GGUF_ARR, GGUF_U64, GGUF_I64, GGUF_F64
};

struct gguf_str { const char *s; size_t n; };

struct gguf_tensor {
	char name[GGUF_MAX_NAME + 1]; /* NUL-terminated, valid UTF-8 without NUL */
	uint32_t type;                /* enum qtype */
	uint32_t n_dims;              /* 1..4 */
	uint64_t ne[GGUF_MAX_DIMS];   /* fastest first, unused = 1 */
	uint64_t offset, n_bytes;     /* in the file */
	const void *data;             /* in the mapping */
};

struct gguf; /* immutable after opening; may be read from any thread */

struct gguf *gguf_open(const char *path, struct moe_err *e);
/* The same over memory that outlives the result; `name` is for error messages. */
struct gguf *gguf_open_memory(const void *data, size_t n, const char *name, struct moe_err *e);
void gguf_close(struct gguf *g);

const char *gguf_path(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g);
const void *gguf_file_data(const struct gguf *g); /* [gguf_file_bytes], the file as it is */
uint32_t gguf_version(const struct gguf *g);
/* Does p point into the file's bytes? Safe in a signal handler. */
int gguf_holds(const struct gguf *g, const void *p);

/* Metadata. 1 = found, 0 = no such key, -1 = there but of another kind or out of range (e says). */
int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out, struct moe_err *e);
int gguf_get_f64(const struct gguf *g, const char *key, double *out, struct moe_err *e);
int gguf_get_bool(const struct gguf *g, const char *key, int *out, struct moe_err *e);
int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out, struct moe_err *e);
/* Array: its element kind and length. */
int gguf_get_arr(const struct gguf *g, const char *key, enum gguf_kind *kind, uint64_t *n,
	struct moe_err *e);
/* Element i of an array (i < n; strings: amortised constant time through an index built at open). */
int gguf_arr_str(const struct gguf *g, const char *key, uint64_t i, struct gguf_str *out);
int gguf_arr_f64(const struct gguf *g, const char *key, uint64_t i, double *out);
/* Keys in file order, for inspection. */
size_t gguf_n_kv(const struct gguf *g);
const char *gguf_kv_name(const struct gguf *g, size_t i);
enum gguf_kind gguf_kv_kind(const struct gguf *g, size_t i);

size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name);

#endif
