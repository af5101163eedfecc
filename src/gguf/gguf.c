/*
 * gguf.c - opening a GGUF file: mapping, parsing, checking, indexing. See gguf.h for the layout.
 *
 * Everything in the file is hostile. The rules that make that safe:
 *  - one cursor with one function, `take`, moves forward; nothing else dereferences the file, and
 *    it compares with the bytes that remain without adding to a number from the file;
 *  - what is allocated is bounded by GGUF_MAX_MEM in total, and by what the file could hold;
 *  - what is visited one by one (strings, nested arrays, booleans) is bounded by MAX_WALK in total;
 *  - nested arrays are walked with a stack of MAX_DEPTH counters, never by recursion;
 *  - names are sorted, not hashed, so that no choice of names makes a lookup slow.
 * So a bad file costs at most its mapping, GGUF_MAX_MEM and a fraction of a second.
 *
 * What cannot be checked here: a file that another process cuts while it is mapped raises SIGBUS on
 * access (src/cmd/load.c answers that). Big-endian files and version 1 are refused, not converted.
 */
#include "gguf/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/qtype.h"
#include "base/text.h"
#include "gguf/internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are read in host order");
_Static_assert(sizeof(size_t) == 8, "sizes of a mapping are 64-bit");

#define HEADER_BYTES 24
#define MIN_KV_BYTES 14     /* key length, one byte of key, kind, one byte of value */
#define MIN_TENSOR_BYTES 33 /* name length, one byte of name, n_dims, one dimension, type, offset */
#define MAX_WALK (4ull << 20)
#define MAX_DEPTH 4
#define MIN_ALIGN 8
#define MAX_ALIGN 65536
#define NAME_BLOCK 65536

struct cursor {
	struct gguf *g;
	uint64_t at;    /* <= g->size */
	uint64_t walk;  /* elements that may still be visited one by one */
	struct moe_err *e;
};

static const struct { const char *name; uint8_t bytes; } kinds[] = {
	[GGUF_U8] = { "u8", 1 }, [GGUF_I8] = { "i8", 1 }, [GGUF_U16] = { "u16", 2 },
	[GGUF_I16] = { "i16", 2 }, [GGUF_U32] = { "u32", 4 }, [GGUF_I32] = { "i32", 4 },
	[GGUF_F32] = { "f32", 4 }, [GGUF_BOOL] = { "bool", 1 }, [GGUF_STR] = { "string", 0 },
	[GGUF_ARR] = { "array", 0 }, [GGUF_U64] = { "u64", 8 }, [GGUF_I64] = { "i64", 8 },
	[GGUF_F64] = { "f64", 8 },
};

size_t gguf_kind_bytes(uint32_t kind)
{
	return kinds[kind].bytes;
}

const char *gguf_kind_name(uint32_t kind)
{
	return kinds[kind].name;
}

struct gguf_shown gguf_show(const char *s, size_t n)
{
	struct gguf_shown out = { "" };
	struct buf b;

	buf_init(&b, sizeof out.s - 4);
	text_escape(&b, s, n < 96 ? n : 96, TEXT_TERMINAL);
	if (b.len)
		memcpy(out.s, b.data, b.len);
	if (n > 96)
		memcpy(out.s + b.len, "...", 3);
	buf_free(&b);
	return out;
}

/* ---- memory ---- */

void *gguf_get_mem(struct gguf *g, uint64_t n, size_t size, const char *what, struct moe_err *e)
{
	void *p;

	if (n > (g->max_mem - g->mem) / size) {
		err_set(e, MOE_ERR_INPUT, "%" PRIu64 " %s need more than the %llu MiB of memory that "
			"an index may take", n, what, GGUF_MAX_MEM >> 20);
		return NULL;
	}
	p = calloc(n ? n : 1, size);
	if (!p) {
		err_nomem(e, n * size, what);
		return NULL;
	}
	g->mem += n * size;
	return p;
}

const char *gguf_keep_name(struct gguf *g, const char *s, size_t n, struct moe_err *e)
{
	struct gguf_block *b = g->names;
	char *p;

	if (!b || b->cap - b->used < n + 1) {
		b = gguf_get_mem(g, NAME_BLOCK, 1, "bytes of names", e);
		if (!b)
			return NULL;
		b->cap = NAME_BLOCK - sizeof *b;
		b->next = g->names;
		g->names = b;
	}
	p = b->data + b->used;
	memcpy(p, s, n);
	p[n] = 0;
	b->used += n + 1;
	return p;
}

/* ---- the cursor ---- */

/* Pass over n bytes; returns where they start. what is for the message. */
static int take(struct cursor *c, uint64_t n, const char *what, uint64_t *at)
{
	if (n > c->g->size - c->at)
		return err_set(c->e, MOE_ERR_INPUT, "%s at offset %" PRIu64 " needs %" PRIu64
			" bytes, %" PRIu64 " remain", what, c->at, n, c->g->size - c->at);
	*at = c->at;
	c->at += n;
	return 0;
}

static int take_int(struct cursor *c, size_t bytes, const char *what, uint64_t *v)
{
	uint64_t at = 0;

	if (take(c, bytes, what, &at))
		return -1;
	*v = gguf_load(c->g, at, bytes);
	return 0;
}

static int take_str(struct cursor *c, uint64_t max, const char *what, struct gguf_str *s)
{
	uint64_t n, at = 0;

	if (take_int(c, 8, what, &n))
		return -1;
	if (n > max)
		return err_set(c->e, MOE_ERR_INPUT, "%s at offset %" PRIu64 " has %" PRIu64
			" bytes, at most %" PRIu64 " are allowed", what, c->at - 8, n, max);
	if (take(c, n, what, &at))
		return -1;
	s->s = (const char *)c->g->data + at;
	s->n = n;
	return 0;
}

/* A key or tensor name: 1..GGUF_MAX_NAME bytes of UTF-8 without NUL. */
static int take_name(struct cursor *c, const char *what, struct gguf_str *s)
{
	uint64_t start = c->at;
	uint32_t cp;
	size_t i, len;

	if (take_str(c, GGUF_MAX_NAME, what, s))
		return -1;
	if (!s->n)
		return err_set(c->e, MOE_ERR_INPUT, "%s at offset %" PRIu64 " is empty", what, start);
	for (i = 0; i < s->n; i += len) {
		len = 1;
		if ((uint8_t)(s->s[i] - 1) < 127) /* nearly always: ASCII needs no call */
			continue;
		len = text_decode(s->s + i, s->n - i, &cp);
		if (!len || !cp)
			return err_set(c->e, MOE_ERR_INPUT, "%s '%s' at offset %" PRIu64 " has %s at byte "
				"%zu", what, gguf_show(s->s, s->n).s, start, len ? "a NUL" : "invalid UTF-8", i);
	}
	return 0;
}

/* Count n elements that are about to be visited one by one. */
static int spend_walk(struct cursor *c, uint64_t n)
{
	if (n > c->walk)
		return err_set(c->e, MOE_ERR_INPUT, "array at offset %" PRIu64 " has %" PRIu64
			" elements; strings, booleans and nested arrays may have %llu in all", c->at, n,
			MAX_WALK);
	c->walk -= n;
	return 0;
}

/* ---- metadata ---- */

static int walk_strings(struct cursor *c, uint64_t n, uint64_t *index)
{
	struct gguf_str s;
	uint64_t i;

	for (i = 0; i < n; i++) {
		if (index && i % GGUF_STR_STRIDE == 0)
			index[i / GGUF_STR_STRIDE] = c->at;
		if (take_str(c, GGUF_MAX_STRING, "string", &s))
			return err_wrap(c->e, "element %" PRIu64 " of %" PRIu64, i, n);
	}
	return 0;
}

static int check_bools(struct cursor *c, uint64_t at, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++)
		if (c->g->data[at + i] > 1)
			return err_set(c->e, MOE_ERR_INPUT, "boolean at offset %" PRIu64 " is %d, not 0 or 1",
				at + i, c->g->data[at + i]);
	return 0;
}

/* The head of an array: kind and count, checked against the bytes that remain. */
static int array_head(struct cursor *c, uint32_t *kind, uint64_t *n)
{
	uint64_t k, least;

	if (take_int(c, 4, "array's element kind", &k) || take_int(c, 8, "array's length", n))
		return -1;
	if (k > GGUF_F64)
		return err_set(c->e, MOE_ERR_INPUT, "array at offset %" PRIu64 " has elements of "
			"unknown kind %" PRIu64, c->at - 12, k);
	*kind = (uint32_t)k;
	least = k == GGUF_STR ? 8 : k == GGUF_ARR ? 12 : gguf_kind_bytes(*kind);
	if (*n > (c->g->size - c->at) / least)
		return err_set(c->e, MOE_ERR_INPUT, "array at offset %" PRIu64 " has %" PRIu64
			" elements of %s, only %" PRIu64 " bytes remain", c->at - 12, *n,
			gguf_kind_name(*kind), c->g->size - c->at);
	if (k == GGUF_STR || k == GGUF_ARR || k == GGUF_BOOL)
		return spend_walk(c, *n);
	return 0;
}

/* The elements of an array that holds no arrays. */
static int array_leaf(struct cursor *c, uint32_t kind, uint64_t n, uint64_t *index)
{
	uint64_t at = 0;

	if (kind == GGUF_STR)
		return walk_strings(c, n, index);
	if (take(c, n * gguf_kind_bytes(kind), "array", &at)) /* cannot overflow: array_head */
		return -1;
	return kind == GGUF_BOOL ? check_bools(c, at, n) : 0;
}

/* The elements of an array of arrays: no accessor reads them, but they must be passed over. */
static int array_nested(struct cursor *c, uint64_t n)
{
	uint64_t left[MAX_DEPTH] = { n }, m;
	int depth = 0;
	uint32_t kind;

	while (depth >= 0) {
		if (!left[depth]) {
			depth--;
			continue;
		}
		left[depth]--;
		if (array_head(c, &kind, &m))
			return -1;
		if (kind != GGUF_ARR) {
			if (array_leaf(c, kind, m, NULL))
				return -1;
			continue;
		}
		if (++depth == MAX_DEPTH)
			return err_set(c->e, MOE_ERR_INPUT, "array at offset %" PRIu64 " is nested more than "
				"%d deep", c->at - 12, MAX_DEPTH);
		left[depth] = m;
	}
	return 0;
}

static int read_array(struct cursor *c, struct gguf_kv *kv)
{
	if (array_head(c, &kv->arr_kind, &kv->n))
		return -1;
	kv->at = c->at;
	if (kv->arr_kind == GGUF_ARR)
		return array_nested(c, kv->n);
	if (kv->arr_kind == GGUF_STR) {
		kv->str_at = gguf_get_mem(c->g, (kv->n + GGUF_STR_STRIDE - 1) / GGUF_STR_STRIDE,
			sizeof *kv->str_at, "index entries of a string array", c->e);
		if (!kv->str_at)
			return -1;
	}
	return array_leaf(c, kv->arr_kind, kv->n, kv->str_at);
}

static int read_value(struct cursor *c, struct gguf_kv *kv)
{
	uint64_t kind;
	struct gguf_str s;

	if (take_int(c, 4, "kind", &kind))
		return -1;
	if (kind > GGUF_F64)
		return err_set(c->e, MOE_ERR_INPUT, "unknown kind %" PRIu64 " at offset %" PRIu64, kind,
			c->at - 4);
	kv->kind = (uint32_t)kind;
	kv->at = c->at;
	if (kind == GGUF_ARR)
		return read_array(c, kv);
	if (kind == GGUF_STR)
		return take_str(c, GGUF_MAX_STRING, "string", &s);
	if (take(c, gguf_kind_bytes(kv->kind), "value", &kv->at))
		return -1;
	return kind == GGUF_BOOL ? check_bools(c, kv->at, 1) : 0;
}

static int read_kvs(struct cursor *c)
{
	struct gguf *g = c->g;
	struct gguf_str key;
	size_t i;

	for (i = 0; i < g->n_kv; i++) {
		struct gguf_kv *kv = &g->kv[i];

		if (take_name(c, "key", &key))
			return err_wrap(c->e, "pair %zu of %zu", i, g->n_kv);
		kv->name = gguf_keep_name(g, key.s, key.n, c->e);
		if (!kv->name)
			return -1;
		kv->start = c->at;
		if (read_value(c, kv))
			return err_wrap(c->e, "key %s", gguf_show(key.s, key.n).s);
		kv->end = c->at;
	}
	return 0;
}

static int read_align(struct gguf *g, struct moe_err *e)
{
	size_t i;

	g->align = 32;
	for (i = 0; i < g->n_kv && strcmp(g->kv[i].name, "general.alignment"); i++)
		;
	if (i == g->n_kv)
		return 0;
	if (g->kv[i].kind != GGUF_U32)
		return err_set(e, MOE_ERR_INPUT, "general.alignment is of kind %s, not u32",
			gguf_kind_name(g->kv[i].kind));
	g->align = gguf_load(g, g->kv[i].at, 4);
	if (g->align < MIN_ALIGN || g->align > MAX_ALIGN || (g->align & (g->align - 1)))
		return err_set(e, MOE_ERR_INPUT, "general.alignment is %" PRIu64 ", not a power of two in "
			"%d..%d", g->align, MIN_ALIGN, MAX_ALIGN);
	return 0;
}

/* ---- tensors ---- */

/* ne and n_bytes of a tensor; every product is checked before it is made. */
static int read_shape(struct cursor *c, struct gguf_tensor *t)
{
	const struct qtype_info *q;
	uint64_t v, rows = 1;
	unsigned i;

	if (take_int(c, 4, "number of dimensions", &v))
		return -1;
	if (v < 1 || v > GGUF_MAX_DIMS)
		return err_set(c->e, MOE_ERR_INPUT, "has %" PRIu64 " dimensions, not 1..%d", v,
			GGUF_MAX_DIMS);
	t->n_dims = (uint16_t)v;
	for (i = 0; i < GGUF_MAX_DIMS; i++) {
		t->ne[i] = 1;
		if (i < t->n_dims && take_int(c, 8, "dimension", &t->ne[i]))
			return -1;
		if (t->ne[i] < 1 || t->ne[i] > INT32_MAX)
			return err_set(c->e, MOE_ERR_INPUT, "dimension %u is %" PRIu64 ", not 1..%d", i,
				t->ne[i], INT32_MAX);
		if (i && t->ne[i] > INT64_MAX / rows)
			return err_set(c->e, MOE_ERR_INPUT, "the product of its dimensions overflows");
		rows *= i ? t->ne[i] : 1;
	}
	if (take_int(c, 4, "type", &v))
		return -1;
	q = qtype_info((uint32_t)v);
	if (!q)
		return err_set(c->e, MOE_ERR_INPUT, "type %" PRIu64 " is unknown or was removed from the "
			"format", v);
	t->type = (uint32_t)v;
	if (t->ne[0] % q->block)
		return err_set(c->e, MOE_ERR_INPUT, "row of %" PRIu64 " elements is not a multiple of the "
			"%d of a block of %s", t->ne[0], q->block, q->name);
	v = qtype_row_bytes(t->type, t->ne[0]);
	if (rows > INT64_MAX / v)
		return err_set(c->e, MOE_ERR_INPUT, "%" PRIu64 " rows of %" PRIu64 " bytes overflow",
			rows, v);
	t->n_bytes = rows * v;
	return 0;
}

static int read_tensors(struct cursor *c)
{
	struct gguf *g = c->g;
	struct gguf_str name;
	size_t i;

	for (i = 0; i < g->n_tensors; i++) {
		struct gguf_tensor *t = &g->tensor[i];

		if (take_name(c, "tensor name", &name))
			return err_wrap(c->e, "tensor %zu of %zu", i, g->n_tensors);
		t->name = gguf_keep_name(g, name.s, name.n, c->e);
		if (!t->name)
			return -1;
		if (read_shape(c, t) || take_int(c, 8, "offset", &t->offset))
			return err_wrap(c->e, "tensor %s", gguf_show(name.s, name.n).s);
	}
	return 0;
}

/* Offsets in the file count from the data section, which starts at the next multiple of align. */
static int place_tensors(struct cursor *c)
{
	struct gguf *g = c->g;
	uint64_t start = (c->at + g->align - 1) & ~(g->align - 1); /* at <= size < 2^63 */
	size_t i;

	for (i = 0; i < g->n_tensors; i++) {
		struct gguf_tensor *t = &g->tensor[i];

		if (t->offset & (g->align - 1))
			return err_set(c->e, MOE_ERR_INPUT, "tensor %s has offset %" PRIu64 ", not a multiple "
				"of %" PRIu64, gguf_show(t->name, strlen(t->name)).s, t->offset, g->align);
		if (start > g->size || t->offset > g->size - start ||
		    t->n_bytes > g->size - start - t->offset)
			return err_set(c->e, MOE_ERR_INPUT, "tensor %s has %" PRIu64 " bytes at %" PRIu64
				" + %" PRIu64 ", file has %" PRIu64, gguf_show(t->name, strlen(t->name)).s,
				t->n_bytes, start, t->offset, g->size);
		t->offset += start;
		t->data = g->data + t->offset;
	}
	return 0;
}

/* ---- order ---- */

struct ref { uint64_t key; const void *item; uint32_t i; };

static int ref_by_name(const void *a, const void *b)
{
	return strcmp(((const struct ref *)a)->item, ((const struct ref *)b)->item);
}

static int ref_by_key(const void *a, const void *b)
{
	uint64_t x = ((const struct ref *)a)->key, y = ((const struct ref *)b)->key;

	return x < y ? -1 : x > y;
}

/* Sort refs by name into out[n]. Returns 0, or i where i - 1 and i have the same name. */
static size_t sort_names(struct ref *r, size_t n, uint32_t *out)
{
	qsort(r, n, sizeof *r, ref_by_name);
	for (size_t i = 0; i < n; i++) {
		out[i] = r[i].i;
		if (i && !strcmp(r[i].item, r[i - 1].item))
			return i;
	}
	return 0;
}

/* Within one file: the parts of a split model are checked one by one. */
static int check_overlap(const struct gguf *g, struct ref *r, struct moe_err *e)
{
	const struct gguf_tensor *t, *last = NULL;
	size_t i;

	for (i = 0; i < g->n_tensors; i++)
		r[i] = (struct ref){ .key = g->tensor[i].offset, .item = &g->tensor[i] };
	qsort(r, g->n_tensors, sizeof *r, ref_by_key);
	for (i = 0; i < g->n_tensors; i++, last = t) {
		t = r[i].item;
		if (last && last->offset + last->n_bytes > t->offset)
			return err_set(e, MOE_ERR_INPUT, "tensors %s and %s overlap: %" PRIu64 " + %" PRIu64
				" > %" PRIu64, gguf_show(last->name, strlen(last->name)).s,
				gguf_show(t->name, strlen(t->name)).s, last->offset, last->n_bytes, t->offset);
	}
	return 0;
}

static int sort_keys(struct gguf *g, struct moe_err *e)
{
	struct ref *r = gguf_get_mem(g, g->n_kv, sizeof *r, "entries to sort", e);
	size_t twice;
	int rc = 0;

	if (!r)
		return -1;
	for (size_t i = 0; i < g->n_kv; i++)
		r[i] = (struct ref){ .item = g->kv[i].name, .i = (uint32_t)i };
	twice = sort_names(r, g->n_kv, g->kv_sorted);
	if (twice)
		rc = err_set(e, MOE_ERR_INPUT, "key %s is there twice",
			gguf_show(r[twice].item, strlen(r[twice].item)).s);
	g->mem -= g->n_kv * sizeof *r;
	free(r);
	return rc;
}

static int tensor_twice(const struct gguf *g, uint32_t a, uint32_t b, struct moe_err *e)
{
	const struct gguf_tensor *t = &g->tensor[a], *u = &g->tensor[b];
	const char *pt = g->file[t->part].path, *pu = g->file[u->part].path;

	if (t->part == u->part)
		return err_set(e, MOE_ERR_INPUT, "tensor %s is there twice",
			gguf_show(t->name, strlen(t->name)).s);
	return err_set(e, MOE_ERR_INPUT, "tensor %s is in two parts, %s and %s",
		gguf_show(t->name, strlen(t->name)).s, gguf_show(pt, strlen(pt)).s,
		gguf_show(pu, strlen(pu)).s);
}

int gguf_sort_tensors(struct gguf *g, struct moe_err *e)
{
	struct ref *r = gguf_get_mem(g, g->n_tensors, sizeof *r, "entries to sort", e);
	size_t twice;
	int rc = 0;

	if (!r)
		return -1;
	for (size_t i = 0; i < g->n_tensors; i++)
		r[i] = (struct ref){ .item = g->tensor[i].name, .i = (uint32_t)i };
	twice = sort_names(r, g->n_tensors, g->tensor_sorted);
	if (twice)
		rc = tensor_twice(g, g->tensor_sorted[twice - 1], g->tensor_sorted[twice], e);
	else if (g->n_files == 1)
		rc = check_overlap(g, r, e);
	g->mem -= g->n_tensors * sizeof *r;
	free(r);
	return rc;
}

/* ---- opening ---- */

static int read_version(struct cursor *c)
{
	static const uint8_t magic[4] = { 'G', 'G', 'U', 'F' }, swapped[4] = { 'F', 'U', 'G', 'G' };
	const uint8_t *p = c->g->data;
	uint64_t v, at = 0;

	if (c->g->size < HEADER_BYTES)
		return err_set(c->e, MOE_ERR_INPUT, "file has %" PRIu64 " bytes, a GGUF header has %d",
			c->g->size, HEADER_BYTES);
	if (take(c, 4, "magic", &at) || take_int(c, 4, "version", &v))
		return -1;
	if (!memcmp(p, swapped, 4) || (!memcmp(p, magic, 4) && v && !(v & 0xffff)))
		return err_set(c->e, MOE_ERR_INPUT, "big-endian GGUF is not supported");
	if (memcmp(p, magic, 4))
		return err_set(c->e, MOE_ERR_INPUT, "not a GGUF file: it starts with %02x %02x %02x %02x, "
			"not 47 47 55 46", p[0], p[1], p[2], p[3]);
	if (v != 2 && v != 3)
		return err_set(c->e, MOE_ERR_INPUT, "GGUF version %" PRIu64 " is not supported, 2 and 3 "
			"are", v);
	c->g->version = (uint32_t)v;
	return 0;
}

/* n_tensors and n_kv, and the memory for them. */
static int read_counts(struct cursor *c)
{
	struct gguf *g = c->g;
	uint64_t nt, nk, rest;

	if (take_int(c, 8, "tensor count", &nt) || take_int(c, 8, "pair count", &nk))
		return -1;
	rest = g->size - c->at;
	if (nk > GGUF_MAX_KV || nk > rest / MIN_KV_BYTES)
		return err_set(c->e, MOE_ERR_INPUT, "header counts %" PRIu64 " metadata pairs, at most %d "
			"are allowed and %" PRIu64 " bytes remain", nk, GGUF_MAX_KV, rest);
	if (nt > GGUF_MAX_TENSORS || nt > rest / MIN_TENSOR_BYTES)
		return err_set(c->e, MOE_ERR_INPUT, "header counts %" PRIu64 " tensors, at most %d are "
			"allowed and %" PRIu64 " bytes remain", nt, GGUF_MAX_TENSORS, rest);
	g->n_kv = nk;
	g->n_tensors = nt;
	g->kv = gguf_get_mem(g, nk, sizeof *g->kv, "metadata pairs", c->e);
	g->kv_sorted = g->kv ? gguf_get_mem(g, nk, sizeof *g->kv_sorted, "metadata pairs", c->e) : NULL;
	if (!g->kv_sorted)
		return -1;
	g->tensor = gguf_get_mem(g, nt, sizeof *g->tensor, "tensors", c->e);
	if (g->tensor)
		g->tensor_sorted = gguf_get_mem(g, nt, sizeof *g->tensor_sorted, "tensors", c->e);
	return g->tensor_sorted ? 0 : -1;
}

static int parse(struct gguf *g, struct moe_err *e)
{
	struct cursor c = { .g = g, .walk = MAX_WALK, .e = e };

	if (g->size > INT64_MAX)
		return err_set(e, MOE_ERR_INPUT, "%" PRIu64 " bytes are too many", g->size);
	if (read_version(&c) || read_counts(&c) || read_kvs(&c) || read_align(g, e))
		return -1;
	if (read_tensors(&c) || place_tensors(&c))
		return -1;
	return sort_keys(g, e) || gguf_sort_tensors(g, e) ? -1 : 0;
}

/* A gguf over [data, data + n); on failure `map` is the caller's to release. */
static struct gguf *open_over(const void *data, uint64_t n, const char *path, uint64_t max_mem,
	struct moe_err *e)
{
	struct gguf *g = calloc(1, sizeof *g);

	if (g)
		g->file = calloc(1, sizeof *g->file);
	if (g && g->file)
		g->file->path = strdup(path);
	if (!g || !g->file || !g->file->path) {
		free(g ? g->file : NULL);
		free(g);
		err_nomem(e, sizeof *g + strlen(path) + 1, "a GGUF file");
		return NULL;
	}
	g->n_files = 1;
	g->file->data = g->data = data;
	g->file->size = g->size = n;
	g->max_mem = max_mem;
	if (!parse(g, e))
		return g;
	gguf_close(g);
	return NULL;
}

static const char *file_kind(mode_t m)
{
	return S_ISDIR(m) ? "a directory" : S_ISFIFO(m) ? "a FIFO" : S_ISSOCK(m) ? "a socket" :
		"a device";
}

struct gguf *gguf_open_one(const char *path, uint64_t max_mem, struct moe_err *e)
{
	struct gguf_shown name = gguf_show(path, strlen(path));
	void *map = MAP_FAILED;
	struct gguf *g = NULL;
	size_t size = 0;
	struct stat st;
	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, &st)) {
		int missing = errno == ENOENT || errno == ENOTDIR;

		err_errno(e, "opening %s", name.s);
		if (e && missing)
			e->code = MOE_ERR_INPUT;
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		err_set(e, MOE_ERR_INPUT, "opening %s: it is %s, not a regular file", name.s,
			file_kind(st.st_mode));
		goto out;
	}
	if (st.st_size < HEADER_BYTES) {
		err_set(e, MOE_ERR_INPUT, "opening %s: file has %lld bytes, a GGUF header has %d", name.s,
			(long long)st.st_size, HEADER_BYTES);
		goto out;
	}
	size = (size_t)st.st_size;
	map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED) {
		err_errno(e, "opening %s: mapping %zu bytes", name.s, size);
		goto out;
	}
	g = open_over(map, size, path, max_mem, e);
	if (!g) {
		err_wrap(e, "opening %s", name.s);
		goto out;
	}
	g->file->map = map;
out:
	if (!g && map != MAP_FAILED)
		munmap(map, size);
	if (fd >= 0)
		close(fd);
	return g;
}

struct gguf *gguf_open_one_memory(const void *data, size_t n, const char *name, uint64_t max_mem,
	struct moe_err *e)
{
	struct gguf *g = open_over(data, n, name, max_mem, e);

	if (!g)
		err_wrap(e, "opening %s", gguf_show(name, strlen(name)).s);
	return g;
}

struct gguf *gguf_open(const char *path, struct moe_err *e)
{
	struct gguf *g = gguf_open_one(path, GGUF_MAX_MEM, e);

	return g ? gguf_join(g, NULL, 0, e) : NULL;
}

struct gguf *gguf_open_parts(const struct gguf_part *part, size_t n, struct moe_err *e)
{
	struct gguf *g = gguf_open_one_memory(part->data, part->bytes, part->path, GGUF_MAX_MEM, e);

	return g ? gguf_join(g, part, n, e) : NULL;
}

struct gguf *gguf_open_memory(const void *data, size_t n, const char *name, struct moe_err *e)
{
	struct gguf_part one = { name, data, n };

	return gguf_open_parts(&one, 1, e);
}

void gguf_close(struct gguf *g)
{
	struct gguf_block *b, *next;
	size_t i;

	if (!g)
		return;
	gguf_copy_end(g);
	for (i = 0; g->kv && i < g->n_kv; i++)
		free(g->kv[i].str_at);
	for (b = g->names; b; b = next) {
		next = b->next;
		free(b);
	}
	free(g->tensor_sorted);
	free(g->tensor);
	free(g->kv_sorted);
	free(g->kv);
	for (i = 0; i < g->n_files; i++) {
		if (g->file[i].map)
			munmap(g->file[i].map, g->file[i].size);
		free(g->file[i].path);
	}
	free(g->file);
	free(g);
}
