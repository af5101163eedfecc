/*
 * quantise_peer.c - our encoders and our choice of types beside llama.cpp's.
 *
 *	quantise_peer rmse [F32.gguf]              errors of both on Gaussian numbers, and on the
 *	                                           file's matrices
 *	quantise_peer types MIX IN.gguf OUT.gguf   llama.cpp quantises IN to OUT; both must choose
 *	                                           the same type for every tensor
 *
 * Links libmoescope.a and llama.cpp's libraries; LLAMA_CPP is the folder with include/ and lib/.
 * Exit status 1 if an error is more than 5 % above llama.cpp's, or a type differs.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ggml-backend.h>
#include <llama.h>

#include "base/qtype.h"
#include "base/rng.h"
#include "gguf/gguf.h"
#include "kern/kern.h"
#include "quant/encode.h"
#include "quant/plan.h"

static const uint32_t types[] = { QT_F16, QT_BF16, QT_Q8_0, QT_Q6_K, QT_Q5_K, QT_Q5_1, QT_Q5_0,
QT_Q4_K,
	QT_Q4_1, QT_Q4_0, QT_MXFP4 };

struct sum { double ours, peer, ours_s, peer_s, n; };

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double error(uint32_t type, const uint8_t *b, const float *x, size_t n, float *scratch)
{
	double s = 0;

	kern_pick(NULL, NULL)->to_float(type, b, scratch, n);
	for (size_t i = 0; i < n; i++)
		s += ((double)scratch[i] - (double)x[i]) * ((double)scratch[i] - (double)x[i]);
	return s;
}

static void measure(uint32_t type, const float *x, size_t n, struct sum *s)
{
	uint8_t *b = malloc(qtype_row_bytes(type, n));
	float *y = malloc(n * 4);
	double t = seconds();

	if (quant_encode(type, x, n, b) != n)
		exit(fprintf(stderr, "an element cannot be stored\n"));
	s->ours_s += seconds() - t;
	s->ours += error(type, b, x, n, y);
	t = seconds();
	ggml_quantize_chunk((enum ggml_type)type, x, b, 0, 1, (int64_t)n, NULL);
	s->peer_s += seconds() - t;
	s->peer += error(type, b, x, n, y);
	s->n += (double)n;
	free(b);
	free(y);
}

static int print(const char *what, uint32_t type, const struct sum *s)
{
	double a = sqrt(s->ours / s->n), b = sqrt(s->peer / s->n);

	printf("%-10s %-6s rmse %.4e, llama.cpp's %.4e, ratio %.4f; %5.1f and %5.1f ns a weight\n",
		what, qtype_info(type)->name, a, b, a / b, s->ours_s / s->n * 1e9, s->peer_s / s->n * 1e9);
	return a > 1.05 * b;
}

static int rmse(const char *path)
{
	size_t n = 1 << 20;
	float *x = malloc(n * 4);
	struct gguf *g = NULL;
	struct moe_err e;
	struct rng r;
	int bad = 0;

	rng_seed(&r, 1);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)(sqrt(-2 * log(1 - rng_unit(&r))) * cos(6.283185307179586 * rng_unit(&r)));
	if (path && !(g = gguf_open(path, &e)))
		return fprintf(stderr, "%s\n", e.msg);
	for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
		struct sum s = { 0 }, f = { 0 };

		measure(types[k], x, n, &s);
		bad |= print("Gaussian", types[k], &s);
		for (size_t i = 0; g && i < gguf_n_tensors(g); i++) {
			const struct gguf_tensor *t = gguf_tensor_at(g, i);

			if (t->type == QT_F32 && t->ne[1] > 1 && t->ne[0] % 256 == 0)
				measure(types[k], t->data, t->n_bytes / 4, &f);
		}
		if (f.n > 0)
			bad |= print("file", types[k], &f);
	}
	gguf_close(g);
	free(x);
	return bad;
}

static int same_types(const char *name, const char *in, const char *out)
{
	struct llama_model_quantize_params p = llama_model_quantize_default_params();
	const struct quant_mix *mix = NULL;
	struct moe_err e;
	struct gguf *g, *peer;
	uint32_t *type;
	int bad = 0;

	for (size_t i = 0; quant_mix_at(i); i++)
		if (!strcmp(quant_mix_at(i)->name, name))
			mix = quant_mix_at(i);
	if (!mix)
		return fprintf(stderr, "no mix %s\n", name);
	p.ftype = (enum llama_ftype)mix->file_type;
	p.allow_requantize = true;
	if (llama_model_quantize(in, out, &p))
		return fprintf(stderr, "llama.cpp did not quantise %s\n", in);
	g = gguf_open(in, &e);
	peer = g ? gguf_open(out, &e) : NULL;
	type = peer ? calloc(gguf_n_tensors(g), sizeof *type) : NULL;
	if (!type || quant_plan(g, mix, type, &e))
		return fprintf(stderr, "%s\n", e.msg);
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i), *u = gguf_tensor_find(peer, t->name);

		if (u && u->type == type[i])
			continue;
		printf("%s: tensor %s: %s, llama.cpp's %s\n", name, t->name, qtype_info(type[i])->name,
			u ? qtype_info(u->type)->name : "absent");
		bad = 1;
	}
	printf("%-10s %s: %zu tensors, %s\n", name, in, gguf_n_tensors(g),
		bad ? "DIFFERENT" : "the same types");
	return bad;
}

static void quiet(enum ggml_log_level level, const char *text, void *ctx)
{
	(void)ctx;
	if (level == GGML_LOG_LEVEL_ERROR)
		fputs(text, stderr);
}

int main(int argc, char **argv)
{
	const char *dir = getenv("LLAMA_CPP");
	char lib[4096];

	if (!dir)
		return fprintf(stderr, "LLAMA_CPP is not set\n");
	llama_log_set(quiet, NULL);
	snprintf(lib, sizeof lib, "%s/lib", dir);
	ggml_backend_load_all_from_path(lib);
	if (argc > 1 && !strcmp(argv[1], "rmse"))
		return rmse(argc > 2 ? argv[2] : NULL) != 0;
	if (argc == 5 && !strcmp(argv[1], "types"))
		return same_types(argv[2], argv[3], argv[4]) != 0;
	return 2;
}
