/*
 * tok_tool.c - the tokenizer on the command line, for comparisons with other implementations.
 *
 * usage: tok_tool vectors FILE.gguf         compares each text of FILE.gguf.inp with FILE.gguf.out,
 *                                           as llama.cpp ships them
 *        tok_tool speed FILE.gguf TEXT      MB/s over TEXT by processor time, best of five
 *        tok_tool --tokenize-bos FILE.gguf  texts from stdin, each "LENGTH\nBYTES"; a line of ids
 *                                           each, BOS where the model asks for it
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tok/tok.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"

static char *slurp(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *s = NULL;
	long size;

	if (!f)
		return NULL;
	if (!fseek(f, 0, SEEK_END) && (size = ftell(f)) >= 0 && !fseek(f, 0, SEEK_SET)) {
		s = malloc((size_t)size + 1);
		*n = s ? fread(s, 1, (size_t)size, f) : 0;
		if (s)
			s[*n] = 0;
	}
	fclose(f);
	return s;
}

/* 1 if the ids are those of the line. */
static int same(const int32_t *ids, size_t n, const char *line)
{
	char *end;
	size_t i;

	for (i = 0; i < n; i++) {
		if (strtol(line, &end, 10) != ids[i] || end == line)
			return 0;
		line = end;
	}
	return line[strspn(line, " \r")] == 0;
}

static int vectors(const struct tok *t, const char *path)
{
	char name[4096], *in, *out, *text, *next, *line, *rest = NULL;
	size_t n, n_ids, bad = 0, count = 0;
	struct moe_err e;
	int32_t *ids;

	snprintf(name, sizeof name, "%s.inp", path);
	in = slurp(name, &n);
	snprintf(name, sizeof name, "%s.out", path);
	out = slurp(name, &n);
	if (!in || !out) {
		printf("no vectors beside %s\n", path);
		free(in);
		free(out);
		return 77;
	}
	for (text = in, line = out; text; text = next, line = rest) {
		next = strstr(text, SEPARATOR);
		if (next) {
			*next = 0;
			next += strlen(SEPARATOR);
		} else if (!*text || !strcmp(text, "\n")) {
			break;
		}
		rest = line ? strchr(line, '\n') : NULL;
		if (rest)
			*rest++ = 0;
		if (tok_encode(t, text, strlen(text), 0, &ids, &n_ids, &e)) {
			printf("%s\n", e.msg);
			return 1;
		}
		count++;
		if (!line || !same(ids, n_ids, line)) {
			bad++;
			printf("text %zu differs: '%.60s'\n  want %.200s\n  have", count, text,
				line ? line : "");
			for (size_t i = 0; i < n_ids && i < 40; i++)
				printf(" %d", ids[i]);
			printf("\n");
		}
		free(ids);
	}
	printf("%zu of %zu texts give llama.cpp's ids\n", count - bad, count);
	free(in);
	free(out);
	return bad || !count;
}

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int speed(const struct tok *t, const char *path)
{
	double best = 1e30;
	struct moe_err e;
	int32_t *ids;
	size_t n, n_ids = 0;
	char *s = slurp(path, &n);
	int i;

	if (!s) {
		printf("cannot read %s\n", path);
		return 1;
	}
	for (i = 0; i < 5; i++) {
		double start = cpu_ns(), ns;

		if (tok_encode(t, s, n, 0, &ids, &n_ids, &e)) {
			printf("%s\n", e.msg);
			return 1;
		}
		free(ids);
		ns = cpu_ns() - start;
		best = ns < best ? ns : best;
	}
	printf("%zu bytes, %zu tokens, %.1f MB/s\n", n, n_ids, (double)n / best * 1e3);
	free(s);
	return 0;
}

static int from_stdin(const struct tok *t)
{
	struct moe_err e;
	int32_t *ids;
	size_t len, n, i;
	char *s;

	while (scanf("%zu", &len) == 1 && getchar() == '\n') {
		s = malloc(len + 1);
		if (!s || fread(s, 1, len, stdin) != len || tok_encode(t, s, len, TOK_BOS, &ids, &n, &e))
			return 1;
		for (i = 0; i < n; i++)
			printf(i ? " %d" : "%d", ids[i]);
		printf("\n");
		free(ids);
		free(s);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct moe_err e = { 0 };
	struct gguf *g;
	struct tok *t = NULL;
	int rc = 1;

	if (argc < 3)
		return 2;
	g = gguf_open(argv[2], &e);
	if (g)
		t = tok_load(g, &e);
	if (!t) {
		printf("%s\n", e.msg);
		gguf_close(g);
		return strstr(e.msg, "is not supported") ? 77 : 1;
	}
	if (strcmp(argv[1], "--tokenize-bos"))
		printf("%s: ", tok_describe(t));
	if (!strcmp(argv[1], "vectors"))
		rc = vectors(t, argv[2]);
	else if (!strcmp(argv[1], "--tokenize-bos"))
		rc = from_stdin(t);
	else if (argc == 4)
		rc = speed(t, argv[3]);
	tok_free(t);
	gguf_close(g);
	return rc;
}
