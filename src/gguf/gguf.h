/*
 * gguf.h - reading a GGUF model: bounded, over read-only mappings; weights are copied only on
 * request.
 *
 * A file is hostile until proven otherwise: every count, length, offset and size is checked against
 * the bytes that remain and the limits below before it is used, multiplied or allocated for.
 * After gguf_open succeeds every tensor lies inside the mapping and no key is malformed.
 * Strings inside the file are not NUL-terminated: they come as (pointer, length).
 *
 * Layout (version 2 and 3, little-endian): "GGUF" u32 version, u64 n_tensors, u64 n_kv, the pairs
 * (string key, u32 type, value), the tensor records (string name, u32 n_dims, u64 dims[n_dims]
 * fastest first, u32 type, u64 offset), padding to general.alignment (32), then the data.
 *
 * A model may be split into parts, files NAME-00001-of-0000N.gguf to NAME-0000N-of-0000N.gguf, each
 * a GGUF file by itself with the keys split.no (from 0), split.count and split.tensors.count (of
 * all parts together). gguf_open of any part opens all; metadata are those of the first part, and a
 * key that a later part repeats must have the same value there.
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
#define GGUF_MAX_PARTS 1024

enum gguf_kind { /* metadata value types, numbers of the format */
	GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STR,
	GGUF_ARR, GGUF_U64, GGUF_I64, GGUF_F64
};

struct gguf_str { const char *s; size_t n; };

struct gguf_tensor {
	const char *name;           /* NUL-terminated, valid UTF-8 without NUL */
	uint32_t type;              /* enum qtype */
	uint16_t n_dims;            /* 1..4 */
	uint16_t part;              /* which file it lies in, from 0 */
	uint64_t ne[GGUF_MAX_DIMS]; /* fastest first, unused = 1 */
	uint64_t offset, n_bytes;   /* in that file */
	const void *data;           /* in the mapping */
};

struct gguf; /* immutable after opening; may be read from any thread */

struct gguf *gguf_open(const char *path, struct moe_err *e);
/* The same over memory that outlives the result; `name` is for error messages. */
struct gguf *gguf_open_memory(const void *data, size_t n, const char *name, struct moe_err *e);

struct gguf_part { const char *path; const void *data; uint64_t bytes; };
/* The same over all parts of a split model in order; their paths are for error messages. */
struct gguf *gguf_open_parts(const struct gguf_part *part, size_t n, struct moe_err *e);
void gguf_close(struct gguf *g);

/* Asks for a copy of the tensors that `wanted` names in memory of large pages, where the system has them: a
 * processor reads those a good deal faster (fewer misses of its address cache), but other processes do not
 * share them. It stands where the mapped file stood: no address changes, and whoever reads meanwhile reads
 * the same bytes. Nothing of a file that was given as memory is copied. A thread begins the copy with
 * gguf_copy_begin, which costs next to nothing when called again, so that the first results need not wait
 * for it; gguf_close gives up what is left. gguf_copy_wait returns when the copy has ended, with the number
 * of stretches that were moved. */
typedef int gguf_wanted(const struct gguf *g, const struct gguf_tensor *t);
/* For `wanted`: all that a run reads whole; of an embedding that is not the output too,
 * it reads rows. */
int gguf_read_whole(const struct gguf *g, const struct gguf_tensor *t);
int gguf_to_memory(struct gguf *g, gguf_wanted *wanted, struct moe_err *e);
void gguf_copy_begin(const struct gguf *g);
size_t gguf_copy_wait(const struct gguf *g);
int gguf_large_pages(void); /* 1 if the system gives them to who asks */

const char *gguf_path(const struct gguf *g); /* of the first part */
uint64_t gguf_file_bytes(const struct gguf *g); /* of all parts */
size_t gguf_n_parts(const struct gguf *g); /* 1 unless the model is split */
struct gguf_part gguf_part_at(const struct gguf *g, size_t i); /* i < gguf_n_parts */
uint32_t gguf_version(const struct gguf *g);
/* Does p point into the files' bytes? Safe in a signal handler. */
int gguf_holds(const struct gguf *g, const void *p);

/* Metadata. 1 = found, 0 = no such key, -1 = there but of another kind or out of range (e says). */
int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out, struct moe_err *e);
int gguf_get_f64(const struct gguf *g, const char *key, double *out, struct moe_err *e);
int gguf_get_bool(const struct gguf *g, const char *key, int *out, struct moe_err *e);
int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out, struct moe_err *e);
/* Array: its element kind and length. */
int gguf_get_arr(const struct gguf *g, const char *key, enum gguf_kind *kind, uint64_t *n,
	struct moe_err *e);
/* Element i of an array (i < n; strings: amortised constant time through an index built at
 * open). */
int gguf_arr_str(const struct gguf *g, const char *key, uint64_t i, struct gguf_str *out);
int gguf_arr_f64(const struct gguf *g, const char *key, uint64_t i, double *out);
/* Keys in file order, for inspection. */
size_t gguf_n_kv(const struct gguf *g);
const char *gguf_kv_name(const struct gguf *g, size_t i);
enum gguf_kind gguf_kv_kind(const struct gguf *g, size_t i);
/* The pair's kind and value as the format writes them, for a writer: *n bytes. */
const void *gguf_kv_raw(const struct gguf *g, size_t i, size_t *n);

size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name);

#endif
