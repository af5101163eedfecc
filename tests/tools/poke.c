/*
 * poke.c - a copy of a model with one tensor overwritten: what the shell cannot find the place of.
 *
 * usage: poke MODEL TENSOR HEX OUT    HEX is repeated over the tensor's bytes; "0000c07f" is a NaN
 *        poke MODEL TENSOR @N:BIT OUT flips one bit of the tensor's byte N
 *        poke MODEL TENSOR ~ OUT      cuts an F32 tensor's values to the 16 bits of BF16
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"

static size_t unhex(const char *s, unsigned char *out, size_t max)
{
	unsigned x;
	size_t n = 0;

	for (; n < max && sscanf(s, "%2x", &x) == 1 && s[1]; s += 2)
		out[n++] = (unsigned char)x;
	return n;
}

int main(int argc, char **argv)
{
	struct moe_err e = { 0 };
	unsigned char pattern[64];
	const struct gguf_tensor *t;
	const unsigned char *file;
	struct gguf *g;
	size_t n = 1;
	FILE *f;

	long long at = -1;
	int bit = 0, cut = argc == 5 && !strcmp(argv[3], "~");

	if (argc != 5 || (!cut && sscanf(argv[3], "@%lld:%d", &at, &bit) != 2 &&
		!(n = unhex(argv[3], pattern, sizeof pattern)))) {
		fprintf(stderr, "usage: poke MODEL TENSOR HEX OUT\n");
		return 2;
	}
	g = gguf_open(argv[1], &e);
	t = g ? gguf_tensor_find(g, argv[2]) : NULL;
	if (!t) {
		fprintf(stderr, "poke: %s: %s\n", argv[2], g ? "no such tensor" : e.msg);
		gguf_close(g);
		return 3;
	}
	file = (const unsigned char *)t->data - t->offset;
	f = fopen(argv[4], "wb");
	if (!f || fwrite(file, 1, t->offset, f) != t->offset)
		return 4;
	for (uint64_t i = 0; i < t->n_bytes; i++)
		putc(cut ? (i % 4 < 2 ? 0 : file[t->offset + i]) : at < 0 ? pattern[i % n] :
			file[t->offset + i] ^ ((uint64_t)at == i ? 1 << bit : 0), f);
	fwrite(file + t->offset + t->n_bytes, 1, gguf_file_bytes(g) - t->offset - t->n_bytes, f);
	n = (size_t)ferror(f);
	gguf_close(g);
	return fclose(f) || n ? 4 : 0;
}
