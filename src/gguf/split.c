/*
 * split.c - the parts of a split model joined into one struct gguf. See gguf.h for the layout.
 *
 * Each part is opened and checked by itself as a file of its own; here are only the checks between
 * parts: that their names, numbers, counts and repeated keys agree, that all are there, that no
 * tensor is in two of them. Tensors are collected in the first part's index, whose limit of memory
 * holds for all parts together. The later parts' metadata are dropped.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "gguf/internal.h"

#define TAIL_BYTES (sizeof "-00001-of-00002.gguf" - 1)

/* split.no or another of the three keys; -1 + e if it is missing or no number. */
static int need(const struct gguf *g, const char *key, uint64_t *v, struct moe_err *e)
{
	int found = gguf_get_u64(g, key, v, e);

	if (found < 0)
		return -1;
	return found ? 0 : err_set(e, MOE_ERR_INPUT, "key %s is missing", key);
}

static void path_of(const char *any, uint64_t i, uint64_t count, char *out, size_t size)
{
	size_t stem = strlen(any) - TAIL_BYTES;

	snprintf(out, size, "%.*s-%05" PRIu64 "-of-%05" PRIu64 ".gguf", (int)stem, any, i + 1, count);
}

/* The name of a file that says it is part no of count must say so too:
 * the others' follow from it. */
static int check_name(const char *path, uint64_t no, uint64_t count, struct moe_err *e)
{
	char tail[64];
	size_t n = strlen(path);

	snprintf(tail, sizeof tail, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", no + 1, count);
	if (n > TAIL_BYTES && n < INT32_MAX && !strcmp(path + n - TAIL_BYTES, tail))
		return 0;
	return err_set(e, MOE_ERR_INPUT, "split.no is %" PRIu64 " and split.count %" PRIu64
		", so the file's name must end with %s: the other parts are looked for beside it", no,
		count, tail);
}

/* The part's own idea of where it belongs, and the keys that it repeats. */
static int check_part(const struct gguf *first, const struct gguf *p, uint64_t i, uint64_t count,
	struct moe_err *e)
{
	uint64_t no, n;

	if (need(p, "split.no", &no, e) || need(p, "split.count", &n, e))
		return -1;
	if (no != i)
		return err_set(e, MOE_ERR_INPUT,
			"split.no is %" PRIu64 ", by its place it must be %" PRIu64, no, i);
	if (n != count)
		return err_set(e, MOE_ERR_INPUT, "split.count is %" PRIu64 ", another part says %" PRIu64,
			n, count);
	for (size_t k = 0; p != first && k < p->n_kv; k++) {
		const struct gguf_kv *a = &p->kv[k], *b = gguf_find_kv(first, a->name);

		if (!b || !strcmp(a->name, "split.no"))
			continue;
		if (a->end - a->start != b->end - b->start ||
		    memcmp(p->data + a->start, first->data + b->start, a->end - a->start))
			return err_set(e, MOE_ERR_INPUT, "key %s has not the value that it has in part 1: "
				"the parts are of different models", gguf_show(a->name, strlen(a->name)).s);
	}
	return 0;
}

static struct gguf *open_part(const struct gguf *first, const struct gguf_part *part, uint64_t i,
	uint64_t count, uint64_t max_mem, struct moe_err *e)
{
	const char *any = first->file[0].path;
	size_t size = strlen(any) + 32;
	struct gguf *p;
	char *path;

	if (part)
		return gguf_open_one_memory(part[i].data, part[i].bytes, part[i].path, max_mem, e);
	path = malloc(size);
	if (!path) {
		err_nomem(e, size, "a path");
		return NULL;
	}
	path_of(any, i, count, path, size);
	p = gguf_open_one(path, max_mem, e);
	if (!p)
		err_wrap(e, "part %" PRIu64 " of %" PRIu64, i + 1, count);
	free(path);
	return p;
}

/* Room for the tensors of all parts: what split.tensors.count says, once and for all. */
static int make_room(struct gguf *g, uint64_t total, uint64_t count, struct moe_err *e)
{
	struct gguf_tensor *t;
	struct gguf_file *f;

	if (total > GGUF_MAX_TENSORS || total < g->n_tensors)
		return err_set(e, MOE_ERR_INPUT, "split.tensors.count is %" PRIu64 ": at most %d are "
			"allowed, and part 1 alone has %zu", total, GGUF_MAX_TENSORS, g->n_tensors);
	f = realloc(g->file, count * sizeof *f);
	if (!f)
		return err_nomem(e, count * sizeof *f, "a split model");
	g->file = f;
	t = gguf_get_mem(g, total, sizeof *t, "tensors", e);
	if (!t)
		return -1;
	memcpy(t, g->tensor, g->n_tensors * sizeof *t);
	g->mem -= g->n_tensors * (sizeof *t + sizeof *g->tensor_sorted);
	free(g->tensor);
	free(g->tensor_sorted);
	g->tensor = t;
	g->tensor_sorted = gguf_get_mem(g, total, sizeof *g->tensor_sorted, "tensors", e);
	return g->tensor_sorted ? 0 : -1;
}

/* The part's tensors and its file become g's; p is closed. */
static int absorb(struct gguf *g, struct gguf *p, uint64_t total, struct moe_err *e)
{
	int rc = 0;

	if (p->n_tensors > total - g->n_tensors)
		rc = err_set(e, MOE_ERR_INPUT, "%s: the parts up to this one have %zu tensors, "
			"split.tensors.count is %" PRIu64, gguf_show(gguf_path(p), strlen(gguf_path(p))).s,
			g->n_tensors + p->n_tensors, total);
	for (size_t i = 0; !rc && i < p->n_tensors; i++) {
		struct gguf_tensor *t = &g->tensor[g->n_tensors];

		*t = p->tensor[i];
		t->part = (uint16_t)g->n_files;
		t->name = gguf_keep_name(g, t->name, strlen(t->name), e);
		if (!t->name)
			rc = -1;
		else
			g->n_tensors++;
	}
	if (!rc) {
		g->file[g->n_files++] = p->file[0];
		p->n_files = 0;
	}
	gguf_close(p);
	return rc;
}

/* Parts 2 to count behind the first, which g is. */
static int join_parts(struct gguf *g, const struct gguf_part *part, uint64_t count,
	struct moe_err *e)
{
	uint64_t total;

	if (need(g, "split.tensors.count", &total, e) || make_room(g, total, count, e))
		return -1;
	for (uint64_t i = 1; i < count; i++) {
		struct gguf *p = open_part(g, part, i, count, g->max_mem - g->mem, e);

		if (!p)
			return -1;
		if (check_part(g, p, i, count, e)) {
			err_wrap(e, "%s", gguf_show(gguf_path(p), strlen(gguf_path(p))).s);
			gguf_close(p);
			return -1;
		}
		if (absorb(g, p, total, e))
			return -1;
	}
	if (g->n_tensors != total)
		return err_set(e, MOE_ERR_INPUT, "the %" PRIu64 " parts have %zu tensors, "
			"split.tensors.count is %" PRIu64, count, g->n_tensors, total);
	return gguf_sort_tensors(g, e);
}

struct gguf *gguf_join(struct gguf *g, const struct gguf_part *part, size_t n, struct moe_err *e)
{
	uint64_t count = 1, no = 0;
	struct gguf *first;

	if (gguf_get_u64(g, "split.count", &count, e) < 0)
		goto bad;
	if (count <= 1 && n <= 1)
		return g;
	if (need(g, "split.no", &no, e))
		goto bad;
	if (count > GGUF_MAX_PARTS || no >= count) {
		err_set(e, MOE_ERR_INPUT, "split.no is %" PRIu64 " and split.count %" PRIu64 ": parts "
			"are counted from 0, and at most %d are allowed", no, count, GGUF_MAX_PARTS);
		goto bad;
	}
	if (part && n != count) {
		err_set(e, MOE_ERR_INPUT, "split.count is %" PRIu64 ": the model has that many parts, %zu "
			"%s given", count, n, n == 1 ? "was" : "were");
		goto bad;
	}
	if (!part && check_name(gguf_path(g), no, count, e))
		goto bad;
	if (!part && no) { /* the first has the metadata */
		first = open_part(g, NULL, 0, count, GGUF_MAX_MEM, e);
		gguf_close(g);
		g = first;
		if (!g)
			return NULL;
	}
	if (!check_part(g, g, 0, count, e) && !join_parts(g, part, count, e))
		return g;
bad:
	err_wrap(e, "opening %s", gguf_show(gguf_path(g), strlen(gguf_path(g))).s);
	gguf_close(g);
	return NULL;
}
