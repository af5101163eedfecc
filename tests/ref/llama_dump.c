/*
 * llama_dump: what llama.cpp makes of the same model and tokens, as a vector file.
 *
 *	llama_dump MODEL.gguf TOKENS.vec OUT.vec	evaluate the token ids of TOKENS.vec
 *	... OUT.vec ADAPTER.gguf SCALE			the same with a low-rank adapter
 *	llama_dump --tokenize MODEL.gguf < TEXTS	one line of ids per text
 *	llama_dump --tokenize-bos MODEL.gguf < TEXTS	the same with BOS/EOS as the model asks
 *
 * The layout of .vec files stands at the top of forward.py; margins, which llama.cpp does not
 * compute, are NaN. TEXTS is any number of
 * "LENGTH\n" + LENGTH bytes; special tokens inside a text are not recognised.
 *
 * Runs as exactly as llama.cpp can: F32 KV cache, flash attention off, one thread, no repacking,
 * the whole prompt as one batch. Logits are requested for every position; otherwise the last layer
 * computes (and shows its router) only for the positions asked for.
 *
 * Build, where $LLAMA_CPP has include/ (llama.h, ggml*.h) and lib/ (the shared libraries and CPU
 * backends); the same variable must be set when it runs:
 *
 *	cc -std=c11 -O2 -I$LLAMA_CPP/include tests/ref/llama_dump.c -o llama_dump \
 *		$LLAMA_CPP/lib/libllama.*so $LLAMA_CPP/lib/libggml.*so $LLAMA_CPP/lib/libggml-base.*so \
 *		-Wl,-rpath,$LLAMA_CPP/lib -lm
 *
 * A test tool: it trusts its inputs and ends at the first error.
 */
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-backend.h"
#include "llama.h"

#define MAX_LAYERS 512

/* What the callback saw of one layer; all owned here, freed at exit. */
struct layer {
	float *logits;		/* [n_tokens][n_expert] */
	int32_t *experts;	/* [n_tokens][k] */
	float *weights;		/* [n_tokens][k], the last form seen: raw, normalised, scaled */
};

struct dump {
	const char *logits_name;	/* the tensor that holds the router logits */
	int n_tokens, n_expert, k;
	struct layer layer[MAX_LAYERS];
};

static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("llama_dump: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)user;
	if (level == GGML_LOG_LEVEL_ERROR)
		fputs(text, stderr);
}

/*
 * A 4-byte-element tensor [cols][rows] as a dense array of rows. The columns lie along the last
 * but one dimension that is not 1: weights come as [1, k, T] or [k, T], the rest as [n, T].
 */
static void *rows_of(const struct ggml_tensor *t, int *n_cols, int n_rows)
{
	int col = t->ne[0] == 1 && t->ne[2] > 1 ? 1 : 0, row = col + 1;
	uint32_t *out;

	if (t->ne[0] == 1 && t->ne[1] > 1 && t->ne[2] == n_rows)	/* [1, k, T], also for T = 1 */
		col = 1, row = 2;
	if (t->ne[row] != n_rows)
		die("%s has %lld rows, expected %d", t->name, (long long)t->ne[row], n_rows);
	*n_cols = (int)t->ne[col];
	out = malloc(sizeof *out * (size_t)*n_cols * (size_t)n_rows);
	if (!out)
		die("out of memory");
	for (int r = 0; r < n_rows; r++)
		for (int c = 0; c < *n_cols; c++)
			ggml_backend_tensor_get(t, &out[r * *n_cols + c],
						(size_t)r * t->nb[row] + (size_t)c * t->nb[col], 4);
	return out;
}

static bool on_eval(struct ggml_tensor *t, bool ask, void *user)
{
	struct dump *d = user;
	const char *dash = strrchr(t->name, '-');
	int il = dash ? atoi(dash + 1) : -1, cols;
	char stem[GGML_MAX_NAME] = "";
	bool is_logits, is_topk, is_weights;

	if (dash)
		memcpy(stem, t->name, (size_t)(dash - t->name));
	is_logits = !strcmp(stem, d->logits_name);
	is_topk = !strcmp(stem, "ffn_moe_topk");
	is_weights = !strcmp(stem, "ffn_moe_weights") || !strcmp(stem, "ffn_moe_weights_norm") ||
		     !strcmp(stem, "ffn_moe_weights_softmax") ||
		     !strcmp(stem, "ffn_moe_weights_scaled");
	if (il < 0 || il >= MAX_LAYERS || !(is_logits || is_topk || is_weights))
		return !ask;
	if (ask)
		return true;
	if (is_logits) {
		free(d->layer[il].logits);
		d->layer[il].logits = rows_of(t, &d->n_expert, d->n_tokens);
	} else if (is_topk) {
		free(d->layer[il].experts);
		d->layer[il].experts = rows_of(t, &d->k, d->n_tokens);
	} else {
		free(d->layer[il].weights);
		d->layer[il].weights = rows_of(t, &cols, d->n_tokens);
	}
	return true;
}

static void put(FILE *f, const void *p, size_t size, size_t n)
{
	if (fwrite(p, size, n, f) != n)
		die("writing the vector file failed");
}

/* The token ids of a vector file; caller frees. */
static llama_token *read_tokens(const char *path, int *n)
{
	FILE *f = fopen(path, "rb");
	uint32_t head[8];
	llama_token *ids;

	if (!f || fread(head, 4, 8, f) != 8 || memcmp(head, "MOEVEC1\n", 8))
		die("%s: not a vector file", path);
	*n = (int)head[2];
	ids = malloc(sizeof *ids * head[2]);
	if (!ids || fread(ids, 4, head[2], f) != head[2])
		die("%s: ends within its tokens", path);
	fclose(f);
	return ids;
}

static void write_vec(const char *path, const struct dump *d, const llama_token *ids,
		      struct llama_context *ctx, int n_vocab, int n_layer)
{
	FILE *f = fopen(path, "wb");
	uint32_t head[6] = { (uint32_t)d->n_tokens, (uint32_t)n_vocab, (uint32_t)n_layer,
			     (uint32_t)d->n_expert, (uint32_t)d->k, 0 };
	size_t t = (size_t)d->n_tokens;

	if (!f)
		die("cannot write %s", path);
	for (int il = 0; il < n_layer; il++)
		head[5] += d->layer[il].experts != NULL;
	put(f, "MOEVEC1\n", 1, 8);
	put(f, head, 4, 6);
	put(f, ids, 4, t);
	for (int i = 0; i < d->n_tokens; i++)
		put(f, llama_get_logits_ith(ctx, i), 4, (size_t)n_vocab);
	for (int il = 0; il < n_layer; il++) {
		const struct layer *l = &d->layer[il];
		uint32_t index = (uint32_t)il;

		if (!l->experts)
			continue;
		if (!l->logits || !l->weights)
			die("layer %d showed experts but no logits or weights", il);
		put(f, &index, 4, 1);
		put(f, l->logits, 4, t * (size_t)d->n_expert);
		put(f, l->experts, 4, t * (size_t)d->k);
		put(f, l->weights, 4, t * (size_t)d->k);
		for (int i = 0; i < d->n_tokens; i++)
			put(f, &(float){ NAN }, 4, 1);
	}
	if (fclose(f))
		die("writing %s failed", path);
}

static struct llama_model *load(const char *path, bool vocab_only)
{
	struct llama_model_params mp = llama_model_default_params();
	struct llama_model *model;

	mp.n_gpu_layers = 0;
	mp.vocab_only = vocab_only;
	mp.use_extra_bufts = false;
	model = llama_model_load_from_file(path, mp);
	if (!model)
		die("llama.cpp does not load %s", path);
	return model;
}

static void evaluate(const char *model_path, const char *tokens_path, const char *out_path,
		     const char *adapter_path, float adapter_scale)
{
	static struct dump d;
	int n;
	llama_token *ids = read_tokens(tokens_path, &n);
	struct llama_model *model = load(model_path, false);
	struct llama_context_params cp = llama_context_default_params();
	struct llama_context *ctx;
	struct llama_batch batch = llama_batch_init(n, 0, 1);
	char arch[64] = "";

	d.n_tokens = n;
	llama_model_meta_val_str(model, "general.architecture", arch, sizeof arch);
	/* gpt-oss scores by the biased logits themselves, and calls them probs */
	d.logits_name = strcmp(arch, "gpt-oss") ? "ffn_moe_logits" : "ffn_moe_probs";
	cp.n_ctx = (uint32_t)(n + 255) / 256 * 256;
	cp.n_batch = cp.n_ubatch = (uint32_t)n;
	cp.n_threads = cp.n_threads_batch = 1;
	cp.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
	cp.type_k = cp.type_v = GGML_TYPE_F32;
	cp.cb_eval = on_eval;
	cp.cb_eval_user_data = &d;
	ctx = llama_init_from_model(model, cp);
	if (!ctx)
		die("llama.cpp makes no context for %s", model_path);
	if (adapter_path) {
		struct llama_adapter_lora *a = llama_adapter_lora_init(model, adapter_path);

		if (!a || llama_set_adapters_lora(ctx, &a, 1, &adapter_scale))
			die("llama.cpp does not load %s", adapter_path);
	}
	for (int i = 0; i < n; i++) {
		batch.token[i] = ids[i];
		batch.pos[i] = i;
		batch.n_seq_id[i] = 1;
		batch.seq_id[i][0] = 0;
		batch.logits[i] = 1;
	}
	batch.n_tokens = n;
	if (llama_decode(ctx, batch))
		die("llama_decode failed for %s", model_path);
	write_vec(out_path, &d, ids, ctx, llama_vocab_n_tokens(llama_model_get_vocab(model)),
		  llama_model_n_layer(model));
	for (int il = 0; il < MAX_LAYERS; il++) {
		free(d.layer[il].logits);
		free(d.layer[il].experts);
		free(d.layer[il].weights);
	}
	llama_batch_free(batch);
	llama_free(ctx);
	llama_model_free(model);
	free(ids);
}

static void tokenize(const char *model_path, bool bos)
{
	struct llama_model *model = load(model_path, true);
	const struct llama_vocab *vocab = llama_model_get_vocab(model);
	int len;

	while (scanf("%d", &len) == 1 && getchar() == '\n') {
		char *text = malloc((size_t)len + 1);
		llama_token *ids = malloc(sizeof *ids * ((size_t)len + 8));
		int n;

		if (!text || !ids || fread(text, 1, (size_t)len, stdin) != (size_t)len)
			die("the texts end early");
		n = llama_tokenize(vocab, text, len, ids, len + 8, bos, false);
		for (int i = 0; i < n; i++)
			printf("%s%d", i ? " " : "", ids[i]);
		putchar('\n');
		free(text);
		free(ids);
	}
	llama_model_free(model);
}

int main(int argc, char **argv)
{
	const char *dir = getenv("LLAMA_CPP");
	char lib[4096];

	if (!dir)
		die("LLAMA_CPP is not set");
	snprintf(lib, sizeof lib, "%s/lib", dir);
	llama_log_set(quiet, NULL);
	ggml_backend_load_all_from_path(lib);
	if (argc == 3 && !strcmp(argv[1], "--tokenize"))
		tokenize(argv[2], false);
	else if (argc == 3 && !strcmp(argv[1], "--tokenize-bos"))
		tokenize(argv[2], true);
	else if (argc == 4)
		evaluate(argv[1], argv[2], argv[3], NULL, 0);
	else if (argc == 6)
		evaluate(argv[1], argv[2], argv[3], argv[4], (float)atof(argv[5]));
	else
		die("usage: llama_dump MODEL TOKENS.vec OUT.vec [ADAPTER SCALE] | --tokenize[-bos] MODEL < TEXTS");
	return 0;
}
