/*
 * llama_quantize: llama.cpp's quantiser as a program.
 *
 *	llama_quantize IN.gguf OUT.gguf NAME	NAME is a file type below, as llama.cpp's tool spells it
 *	llama_quantize --list			their names, one a line
 *
 * F32 gives back a quantised model's weights as llama.cpp dequantises them. The types that want an
 * importance matrix get one that says that all columns matter alike (NAME below with `important`).
 * llama.cpp makes no file of NVFP4, but tensors: here every matrix becomes one.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "gguf.h"

#include "llama_tool.h"

static const struct file_type {
	const char *name;
	enum llama_ftype ftype;
	bool important;
} types[] = {
	{ "F32", LLAMA_FTYPE_ALL_F32, false },
	{ "F16", LLAMA_FTYPE_MOSTLY_F16, false },
	{ "BF16", LLAMA_FTYPE_MOSTLY_BF16, false },
	{ "Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0, false },
	{ "Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K, false },
	{ "Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M, false },
	{ "Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S, false },
	{ "Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1, false },
	{ "Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0, false },
	{ "Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M, false },
	{ "Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S, false },
	{ "Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1, false },
	{ "Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0, false },
	{ "IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL, false },
	{ "IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS, false },
	{ "MXFP4_MOE", LLAMA_FTYPE_MOSTLY_MXFP4_MOE, false },
	{ "NVFP4", LLAMA_FTYPE_MOSTLY_Q8_0, false },
	{ "Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L, false },
	{ "Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M, false },
	{ "Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S, false },
	{ "IQ3_M", LLAMA_FTYPE_MOSTLY_IQ3_M, false },
	{ "IQ3_S", LLAMA_FTYPE_MOSTLY_IQ3_S, false },
	{ "IQ3_XS", LLAMA_FTYPE_MOSTLY_IQ3_XS, true },
	{ "IQ3_XXS", LLAMA_FTYPE_MOSTLY_IQ3_XXS, true },
	{ "Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K, false },
	{ "Q2_K_S", LLAMA_FTYPE_MOSTLY_Q2_K_S, true },
	{ "IQ2_M", LLAMA_FTYPE_MOSTLY_IQ2_M, true },
	{ "IQ2_S", LLAMA_FTYPE_MOSTLY_IQ2_S, true },
	{ "IQ2_XS", LLAMA_FTYPE_MOSTLY_IQ2_XS, true },
	{ "IQ2_XXS", LLAMA_FTYPE_MOSTLY_IQ2_XXS, true },
	{ "IQ1_M", LLAMA_FTYPE_MOSTLY_IQ1_M, true },
	{ "IQ1_S", LLAMA_FTYPE_MOSTLY_IQ1_S, true },
	{ "TQ2_0", LLAMA_FTYPE_MOSTLY_TQ2_0, false },
	{ "TQ1_0", LLAMA_FTYPE_MOSTLY_TQ1_0, false },
	{ "Q2_0", LLAMA_FTYPE_MOSTLY_Q2_0, false },
	{ "Q1_0", LLAMA_FTYPE_MOSTLY_Q1_0, false },
};

/* A 1 for every column of every matrix of a tensor. Lives until the program ends. */
static struct llama_model_imatrix_data *even_importance(const char *path)
{
	struct ggml_context *tensors = NULL;
	struct gguf_context *g =
		gguf_init_from_file(path, (struct gguf_init_params){ .no_alloc = true, .ctx = &tensors });
	int64_t n;
	struct llama_model_imatrix_data *out;

	if (!g)
		die("%s: not read", path);
	n = gguf_get_n_tensors(g);
	out = calloc((size_t)n + 1, sizeof *out);
	for (int64_t i = 0; out && i < n; i++) {
		const struct ggml_tensor *t = ggml_get_tensor(tensors, gguf_get_tensor_name(g, i));
		size_t size = (size_t)(t->ne[0] * t->ne[2] * t->ne[3]);
		float *ones = malloc(size * sizeof *ones);

		if (!ones)
			die("out of memory");
		for (size_t j = 0; j < size; j++)
			ones[j] = 1;
		out[i] = (struct llama_model_imatrix_data){ t->name, ones, size };
	}
	return out;
}

static const struct file_type *type_named(const char *name)
{
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (!strcmp(types[i].name, name))
			return &types[i];
	die("unknown type %s", name);
	return NULL;
}

int main(int argc, char **argv)
{
	struct llama_model_quantize_params p = llama_model_quantize_default_params();
	const struct llama_model_tensor_override nvfp4[] = {
		{ "token_embd|output|attn_[qkv]|attn_output|ffn_(gate|up|down)", GGML_TYPE_NVFP4 },
		{ NULL, GGML_TYPE_F32 }
	};
	const struct file_type *t;

	tool_name = "llama_quantize";
	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
			puts(types[i].name);
		return 0;
	}
	if (argc != 4)
		die("usage: llama_quantize IN.gguf OUT.gguf NAME | --list");
	start();
	t = type_named(argv[3]);
	p.nthread = 2;
	p.ftype = t->ftype;
	p.allow_requantize = true;
	if (t->important)
		p.imatrix = even_importance(argv[1]);
	if (!strcmp(t->name, "NVFP4"))
		p.tt_overrides = nvfp4;
	if (llama_model_quantize(argv[1], argv[2], &p))
		die("llama.cpp does not make %s of %s", t->name, argv[1]);
	return 0;
}
