/*
 * write.h - writing a GGUF file, version 3: the header is collected in memory, the tensors' data
 * are streamed behind it, and the file gets its name only when it is complete.
 *
 * Order of calls: gguf_out_new; any number of gguf_out_kv..., then gguf_out_tensor; gguf_out_open;
 * gguf_out_data until every tensor has its bytes, in order; gguf_out_close. What was written before
 * is removed by gguf_out_free when gguf_out_close was not reached or failed. The limits are the
 * reader's (gguf.h), and gguf_out_close opens the file with the reader before it gets its name:
 * what this writes can be read, or is not there.
 */
#ifndef GGUF_WRITE_H
#define GGUF_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

struct gguf_out; /* one thread */

/* align: that of the key general.alignment, which the caller writes if it is not 32. */
struct gguf_out *gguf_out_new(uint64_t align, struct moe_err *e);
void gguf_out_free(struct gguf_out *o);

/* raw: kind and value as gguf_kv_raw gives them. */
int gguf_out_kv(struct gguf_out *o, const char *key, const void *raw, size_t n, struct moe_err *e);
int gguf_out_u32(struct gguf_out *o, const char *key, uint32_t v, struct moe_err *e);
/* ne: [n_dims], fastest first; rows are whole blocks of the type. */
int gguf_out_tensor(struct gguf_out *o, const char *name, uint32_t type, uint32_t n_dims,
	const uint64_t *ne, struct moe_err *e);

/* Write the header to a file beside path. replace: path may exist as a regular file. */
int gguf_out_open(struct gguf_out *o, const char *path, int replace, struct moe_err *e);
/* The next n bytes of the tensors' data; not beyond the end of the current tensor. */
int gguf_out_data(struct gguf_out *o, const void *p, size_t n, struct moe_err *e);
/* Everything on the disk, checked, and under its name. */
int gguf_out_close(struct gguf_out *o, struct moe_err *e);

uint64_t gguf_out_bytes(const struct gguf_out *o); /* written so far */

#endif
