/* write.c - see write.h. */
#include "gguf/write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/qtype.h"
#include "gguf/internal.h"

#define MAX_HEADER ((size_t)1 << 30)

struct gguf_out {
	struct buf kv, info;      /* the header's two lists as they go to the file */
	uint64_t n_kv, n_tensors;
	uint64_t align;
	uint64_t *bytes;          /* [cap] of each tensor's data */
	size_t cap;
	uint64_t offset;          /* of the next tensor in the data */
	char *path, *temp;        /* temp: what exists until close; NULL before open and after close */
	int fd, replace;
	uint64_t at;              /* bytes written */
	size_t cur;               /* tensor that gets its data, */
	uint64_t got;             /* and how much it has */
};

struct gguf_out *gguf_out_new(uint64_t align, struct moe_err *e)
{
	struct gguf_out *o = calloc(1, sizeof *o);

	if (!o) {
		err_nomem(e, sizeof *o, "a GGUF writer");
		return NULL;
	}
	buf_init(&o->kv, MAX_HEADER);
	buf_init(&o->info, MAX_HEADER);
	o->align = align;
	o->fd = -1;
	return o;
}

void gguf_out_free(struct gguf_out *o)
{
	if (!o)
		return;
	if (o->fd >= 0)
		close(o->fd);
	if (o->temp)
		unlink(o->temp);
	buf_free(&o->kv);
	buf_free(&o->info);
	free(o->bytes);
	free(o->path);
	free(o->temp);
	free(o);
}

/* ---- the header ---- */

static void add_int(struct buf *b, uint64_t v, size_t bytes)
{
	buf_add(b, &v, bytes); /* little-endian: asserted in gguf.c */
}

static int add_name(struct buf *b, const char *s, const char *what, struct moe_err *e)
{
	size_t n = strlen(s);

	if (n < 1 || n > GGUF_MAX_NAME)
		return err_set(e, MOE_ERR_INPUT, "%s of %zu bytes: allowed are 1 to %d", what, n,
			GGUF_MAX_NAME);
	add_int(b, n, 8);
	buf_add(b, s, n);
	return 0;
}

static int check_header(const struct buf *b, struct moe_err *e)
{
	return b->failed ? err_nomem(e, b->len, "the header of a GGUF file") : 0;
}

int gguf_out_kv(struct gguf_out *o, const char *key, const void *raw, size_t n, struct moe_err *e)
{
	if (o->n_kv == GGUF_MAX_KV)
		return err_set(e, MOE_ERR_INPUT, "more than %d metadata pairs", GGUF_MAX_KV);
	if (add_name(&o->kv, key, "key", e))
		return -1;
	buf_add(&o->kv, raw, n);
	o->n_kv++;
	return check_header(&o->kv, e);
}

int gguf_out_u32(struct gguf_out *o, const char *key, uint32_t v, struct moe_err *e)
{
	uint32_t raw[2] = { GGUF_U32, v };

	return gguf_out_kv(o, key, raw, sizeof raw, e);
}

/* Bytes of the tensor's data; 0 + e if they overflow or rows are no whole blocks. */
static uint64_t data_bytes(uint32_t type, uint32_t n_dims, const uint64_t *ne, struct moe_err *e)
{
	uint64_t bytes = ne[0] && ne[0] <= INT32_MAX ? qtype_row_bytes(type, ne[0]) : 0;

	for (uint32_t i = 1; i < n_dims && bytes; i++)
		bytes = ne[i] && ne[i] <= INT64_MAX / bytes ? bytes * ne[i] : 0;
	if (!bytes)
		err_set(e, MOE_ERR_INPUT, "rows of %" PRIu64 " elements of type %" PRIu32
			", or their number, are not possible", ne[0], type);
	return bytes;
}

int gguf_out_tensor(struct gguf_out *o, const char *name, uint32_t type, uint32_t n_dims,
	const uint64_t *ne, struct moe_err *e)
{
	uint64_t bytes;

	if (o->n_tensors == GGUF_MAX_TENSORS || n_dims < 1 || n_dims > GGUF_MAX_DIMS)
		return err_set(e, MOE_ERR_INPUT, "tensor %" PRIu64 " with %" PRIu32
			" dimensions: at most %d tensors of 1 to %d are allowed", o->n_tensors, n_dims,
			GGUF_MAX_TENSORS, GGUF_MAX_DIMS);
	bytes = data_bytes(type, n_dims, ne, e);
	if (!bytes || bytes > INT64_MAX - o->offset - o->align ||
	    add_name(&o->info, name, "tensor name", e))
		return err_wrap(e, "tensor %s", gguf_show(name, strlen(name)).s);
	if (o->n_tensors == o->cap) {
		size_t cap = o->cap ? 2 * o->cap : 256;
		void *p = realloc(o->bytes, cap * sizeof *o->bytes);

		if (!p)
			return err_nomem(e, cap * sizeof *o->bytes, "tensors");
		o->bytes = p;
		o->cap = cap;
	}
	o->bytes[o->n_tensors++] = bytes;
	add_int(&o->info, n_dims, 4);
	buf_add(&o->info, ne, n_dims * sizeof *ne);
	add_int(&o->info, type, 4);
	add_int(&o->info, o->offset, 8);
	o->offset += (bytes + o->align - 1) & ~(o->align - 1);
	return check_header(&o->info, e);
}

/* ---- the file ---- */

static int put(struct gguf_out *o, const void *p_, size_t n, struct moe_err *e)
{
	const char *p = p_;

	while (n) {
		ssize_t k = write(o->fd, p, n < 1u << 30 ? n : 1u << 30);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_errno(e, "writing %s, after %" PRIu64 " bytes",
				gguf_show(o->path, strlen(o->path)).s, o->at);
		p += k;
		n -= (size_t)k;
		o->at += (uint64_t)k;
	}
	return 0;
}

static int pad(struct gguf_out *o, struct moe_err *e)
{
	static const char zero[65536];

	return put(o, zero, (size_t)((o->align - o->at % o->align) % o->align), e);
}

static int check_target(const struct gguf_out *o, struct moe_err *e)
{
	struct gguf_shown name = gguf_show(o->path, strlen(o->path));
	struct stat st;

	if (stat(o->path, &st))
		return errno == ENOENT ? 0 : err_errno(e, "writing %s", name.s);
	if (!S_ISREG(st.st_mode))
		return err_set(e, MOE_ERR_USAGE, "%s is there and is not a regular file", name.s);
	if (!o->replace)
		return err_set(e, MOE_ERR_USAGE, "%s is there already", name.s);
	return 0;
}

/* A new file beside the target, so that the last step is a rename within one file system. */
static int make_temp(struct gguf_out *o, struct moe_err *e)
{
	size_t size = strlen(o->path) + 48;

	o->temp = malloc(size);
	if (!o->temp)
		return err_nomem(e, size, "a path");
	for (int i = 0; i < 100; i++) {
		snprintf(o->temp, size, "%s.%ld-%d.part", o->path, (long)getpid(), i);
		o->fd = open(o->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (o->fd >= 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	err_errno(e, "creating %s", gguf_show(o->temp, strlen(o->temp)).s);
	free(o->temp);
	o->temp = NULL;
	return -1;
}

int gguf_out_open(struct gguf_out *o, const char *path, int replace, struct moe_err *e)
{
	struct buf head;
	int rc;

	o->replace = replace;
	o->path = strdup(path);
	if (!o->path)
		return err_nomem(e, strlen(path) + 1, "a path");
	if (check_target(o, e) || make_temp(o, e))
		return -1;
	buf_init(&head, 64);
	buf_str(&head, "GGUF");
	add_int(&head, 3, 4);
	add_int(&head, o->n_tensors, 8);
	add_int(&head, o->n_kv, 8);
	rc = check_header(&head, e) || put(o, head.data, head.len, e) ||
		put(o, o->kv.data, o->kv.len, e) || put(o, o->info.data, o->info.len, e) || pad(o, e);
	buf_free(&head);
	buf_free(&o->kv);
	buf_free(&o->info);
	return rc ? -1 : 0;
}

int gguf_out_data(struct gguf_out *o, const void *p, size_t n, struct moe_err *e)
{
	if (o->cur == o->n_tensors || n > o->bytes[o->cur] - o->got)
		return err_set(e, MOE_ERR_USAGE, "tensor %zu of %" PRIu64 " gets more bytes than it has",
			o->cur, o->n_tensors);
	if (put(o, p, n, e))
		return -1;
	o->got += n;
	if (o->got < o->bytes[o->cur])
		return 0;
	o->cur++;
	o->got = 0;
	return pad(o, e);
}

int gguf_out_close(struct gguf_out *o, struct moe_err *e)
{
	struct gguf *check;
	int fd = o->fd;

	if (o->cur != o->n_tensors)
		return err_set(e, MOE_ERR_USAGE, "tensor %zu of %" PRIu64 " has %" PRIu64 " of %" PRIu64
			" bytes", o->cur, o->n_tensors, o->got, o->bytes[o->cur]);
	o->fd = -1;
	if (fsync(fd)) {
		err_errno(e, "writing %s", gguf_show(o->path, strlen(o->path)).s);
		close(fd);
		return -1;
	}
	if (close(fd))
		return err_errno(e, "writing %s", gguf_show(o->path, strlen(o->path)).s);
	check = gguf_open_one(o->temp, GGUF_MAX_MEM, e);
	if (!check)
		return err_wrap(e, "reading back what was written");
	gguf_close(check);
	if (check_target(o, e)) /* it may have come while this was writing */
		return -1;
	if (rename(o->temp, o->path))
		return err_errno(e, "renaming %s", gguf_show(o->temp, strlen(o->temp)).s);
	free(o->temp);
	o->temp = NULL;
	return 0;
}

uint64_t gguf_out_bytes(const struct gguf_out *o)
{
	return o->at;
}
