/*
 * meta.c - reading an opened GGUF: keys, arrays, tensors by name.
 *
 * Nothing here can leave the mapping: gguf.c checked every offset that internal.h stores. A value
 * of another kind than the caller wants is an error, never a silent conversion, except that
 * integers of any width are integers and an integer may stand where a real number is asked for.
 */
#include <inttypes.h>

#include "base/err.h"
#include "gguf/internal.h"

const char *gguf_path(const struct gguf *g)
{
	return g->file[0].path;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < g->n_files; i++)
		sum += g->file[i].size;
	return sum;
}

size_t gguf_n_parts(const struct gguf *g)
{
	return g->n_files;
}

struct gguf_part gguf_part_at(const struct gguf *g, size_t i)
{
	return (struct gguf_part){ g->file[i].path, g->file[i].data, g->file[i].size };
}

uint32_t gguf_version(const struct gguf *g)
{
	return g->version;
}

int gguf_holds(const struct gguf *g, const void *p)
{
	uintptr_t at = (uintptr_t)p;

	for (size_t i = 0; i < g->n_files; i++)
		if (at >= (uintptr_t)g->file[i].data && at - (uintptr_t)g->file[i].data < g->file[i].size)
			return 1;
	return 0;
}

const struct gguf_kv *gguf_find_kv(const struct gguf *g, const char *key)
{
	size_t lo = 0, hi = g->n_kv;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct gguf_kv *kv = &g->kv[g->kv_sorted[mid]];
		int c = strcmp(key, kv->name);

		if (!c)
			return kv;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

static int wrong_kind(const struct gguf_kv *kv, const char *wanted, struct moe_err *e)
{
	return err_set(e, MOE_ERR_INPUT, "key %s is of kind %s, not %s", kv->name,
		gguf_kind_name(kv->kind), wanted);
}

/* An integer of any width at `at`: *v is its value in two's complement, *negative its sign.
 * 0 if the kind is no integer. */
static int load_int(const struct gguf *g, uint32_t kind, uint64_t at, uint64_t *v, int *negative)
{
	size_t bytes = gguf_kind_bytes(kind);

	*negative = 0;
	switch (kind) {
	case GGUF_U8: case GGUF_U16: case GGUF_U32: case GGUF_U64:
		*v = gguf_load(g, at, bytes);
		return 1;
	case GGUF_I8: case GGUF_I16: case GGUF_I32: case GGUF_I64:
		*v = gguf_load(g, at, bytes);
		*negative = (int)(*v >> (8 * bytes - 1) & 1);
		if (*negative && bytes < 8)
			*v |= ~(uint64_t)0 << (8 * bytes);
		return 1;
	default:
		return 0;
	}
}

/* Any number as a double; 0 if the kind is no number. Above 2^53 integers are rounded. */
static int load_real(const struct gguf *g, uint32_t kind, uint64_t at, double *out)
{
	uint64_t v;
	int negative;
	float f;

	if (kind == GGUF_F32) {
		memcpy(&f, g->data + at, sizeof f);
		*out = f;
	} else if (kind == GGUF_F64) {
		memcpy(out, g->data + at, sizeof *out);
	} else if (load_int(g, kind, at, &v, &negative)) {
		*out = negative ? -(double)(~v + 1) : (double)v;
	} else {
		return 0;
	}
	return 1;
}

static struct gguf_str load_str(const struct gguf *g, uint64_t at)
{
	return (struct gguf_str){ (const char *)g->data + at + 8, gguf_load(g, at, 8) };
}

int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out, struct moe_err *e)
{
	const struct gguf_kv *kv = gguf_find_kv(g, key);
	int negative;
	uint64_t v;

	if (!kv)
		return 0;
	if (!load_int(g, kv->kind, kv->at, &v, &negative))
		return wrong_kind(kv, "an integer", e);
	if (negative)
		return err_set(e, MOE_ERR_INPUT, "key %s is %" PRId64 ", must not be negative", key,
			(int64_t)v);
	*out = v;
	return 1;
}

int gguf_get_f64(const struct gguf *g, const char *key, double *out, struct moe_err *e)
{
	const struct gguf_kv *kv = gguf_find_kv(g, key);

	if (!kv)
		return 0;
	return load_real(g, kv->kind, kv->at, out) ? 1 : wrong_kind(kv, "a number", e);
}

int gguf_get_bool(const struct gguf *g, const char *key, int *out, struct moe_err *e)
{
	const struct gguf_kv *kv = gguf_find_kv(g, key);

	if (!kv)
		return 0;
	if (kv->kind != GGUF_BOOL)
		return wrong_kind(kv, "bool", e);
	*out = g->data[kv->at];
	return 1;
}

int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out, struct moe_err *e)
{
	const struct gguf_kv *kv = gguf_find_kv(g, key);

	if (!kv)
		return 0;
	if (kv->kind != GGUF_STR)
		return wrong_kind(kv, "string", e);
	*out = load_str(g, kv->at);
	return 1;
}

int gguf_get_arr(const struct gguf *g, const char *key, enum gguf_kind *kind, uint64_t *n,
	struct moe_err *e)
{
	const struct gguf_kv *kv = gguf_find_kv(g, key);

	if (!kv)
		return 0;
	if (kv->kind != GGUF_ARR)
		return wrong_kind(kv, "array", e);
	*kind = (enum gguf_kind)kv->arr_kind;
	*n = kv->n;
	return 1;
}

int gguf_arr_str(const struct gguf *g, const char *key, uint64_t i, struct gguf_str *out)
{
	const struct gguf_kv *kv = gguf_find_kv(g, key);
	uint64_t at, left;

	if (!kv)
		return 0;
	if (kv->kind != GGUF_ARR || kv->arr_kind != GGUF_STR || i >= kv->n)
		return -1;
	at = kv->str_at[i / GGUF_STR_STRIDE];
	for (left = i % GGUF_STR_STRIDE; left; left--)
		at += 8 + gguf_load(g, at, 8);
	*out = load_str(g, at);
	return 1;
}

int gguf_arr_f64(const struct gguf *g, const char *key, uint64_t i, double *out)
{
	const struct gguf_kv *kv = gguf_find_kv(g, key);
	uint64_t at;

	if (!kv)
		return 0;
	if (kv->kind != GGUF_ARR || i >= kv->n)
		return -1;
	at = kv->at + i * gguf_kind_bytes(kv->arr_kind);
	if (kv->arr_kind == GGUF_BOOL) {
		*out = g->data[at];
		return 1;
	}
	return load_real(g, kv->arr_kind, at, out) ? 1 : -1;
}

size_t gguf_n_kv(const struct gguf *g)
{
	return g->n_kv;
}

const char *gguf_kv_name(const struct gguf *g, size_t i)
{
	return i < g->n_kv ? g->kv[i].name : NULL;
}

enum gguf_kind gguf_kv_kind(const struct gguf *g, size_t i)
{
	return (enum gguf_kind)g->kv[i].kind;
}

const void *gguf_kv_raw(const struct gguf *g, size_t i, size_t *n)
{
	*n = g->kv[i].end - g->kv[i].start;
	return g->data + g->kv[i].start;
}

size_t gguf_n_tensors(const struct gguf *g)
{
	return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
	return i < g->n_tensors ? &g->tensor[i] : NULL;
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name)
{
	size_t lo = 0, hi = g->n_tensors;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct gguf_tensor *t = &g->tensor[g->tensor_sorted[mid]];
		int c = strcmp(name, t->name);

		if (!c)
			return t;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}
