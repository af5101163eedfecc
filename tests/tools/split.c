/*
 * split.c - a model file cut into parts, as llama-gguf-split makes them: the first has the
 * metadata.
 *
 * usage: split MODEL STEM N    writes STEM-00001-of-0000N.gguf and so on
 */
#include <stdio.h>
#include <stdlib.h>

#include "gguf/gguf.h"
#include "gguf/write.h"

/* Part no of n: tensors first to last - 1 of g. */
static int part(const struct gguf *g, const char *path, unsigned no, unsigned n, size_t first,
	size_t last, struct moe_err *e)
{
	struct gguf_out *o = gguf_out_new(32, e);
	int rc = o ? 0 : -1;
	size_t len;

	for (size_t i = 0; !rc && !no && i < gguf_n_kv(g); i++) {
		const void *raw = gguf_kv_raw(g, i, &len);

		rc = gguf_out_kv(o, gguf_kv_name(g, i), raw, len, e);
	}
	if (!rc)
		rc = gguf_out_u32(o, "split.no", no, e) || gguf_out_u32(o, "split.count", n, e) ||
			gguf_out_u32(o, "split.tensors.count", (uint32_t)gguf_n_tensors(g), e);
	for (size_t i = first; !rc && i < last; i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		rc = gguf_out_tensor(o, t->name, t->type, t->n_dims, t->ne, e);
	}
	if (!rc)
		rc = gguf_out_open(o, path, 1, e);
	for (size_t i = first; !rc && i < last; i++)
		rc = gguf_out_data(o, gguf_tensor_at(g, i)->data, gguf_tensor_at(g, i)->n_bytes, e);
	if (!rc)
		rc = gguf_out_close(o, e);
	gguf_out_free(o);
	return rc;
}

int main(int argc, char **argv)
{
	unsigned n = argc == 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
	struct moe_err e = { 0 };
	struct gguf *g;
	char path[4096];
	int rc = 0;

	if (!n) {
		fprintf(stderr, "usage: split MODEL STEM N\n");
		return 2;
	}
	g = gguf_open(argv[1], &e);
	for (unsigned i = 0; g && !rc && i < n; i++) {
		snprintf(path, sizeof path, "%s-%05u-of-%05u.gguf", argv[2], i + 1, n);
		rc = part(g, path, i, n, gguf_n_tensors(g) * i / n, gguf_n_tensors(g) * (i + 1) / n, &e);
	}
	if (!g || rc)
		fprintf(stderr, "split: %s\n", e.msg);
	gguf_close(g);
	return !g || rc;
}
