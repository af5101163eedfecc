/*
 * llama_dump: what llama.cpp makes of the same model and tokens, as a vector file.
 *
 *	llama_dump MODEL.gguf TOKENS.vec OUT.vec ...	evaluate the token ids of TOKENS.vec; any
 *							number of pairs
 *	llama_dump --lora ADAPTER.gguf SCALE MODEL ...	the same with a low-rank adapter
 *	llama_dump --greedy N MODEL.gguf TOKENS.vec	N tokens after them, the likeliest each time: a
 *							line each, id and its lead on the second
 *	llama_dump --tokenize MODEL.gguf < TEXTS	one line of ids per text
 *	llama_dump --tokenize-bos MODEL.gguf < TEXTS	the same with BOS/EOS as the model asks
 *
 * The layout of .vec files stands at the top of forward.py; margins, which llama.cpp does not
 * compute, are NaN. TEXTS is any number of
 * "LENGTH\n" + LENGTH bytes; special tokens inside a text are not recognised.
 *
 * Runs as exactly as llama.cpp can: F32 KV cache, flash attention off, one thread, no repacking,
 * the prompt in batches of 512. Logits are requested for every position; otherwise the last layer
 * computes (and shows its router) only for the positions asked for. llama_tool.h has the rest.
 *
 * llama_build.sh builds it.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama_tool.h"

#define MAX_LAYERS 512

#define BATCH 512

/* What the callback saw of one layer; all owned here. A batch shows its logits first. */
struct layer {
	int first, end;		/* the rows of the batch under way */
	float *logits;		/* [n_tokens][n_expert] */
	int32_t *experts;	/* [n_tokens][k] */
	float *weights;		/* [n_tokens][k], the last form seen: raw, normalised, scaled */
};

struct dump {
	const char *logits_name;	/* the tensor that holds the router logits */
	int n_tokens, n_expert, k;
	float *out;			/* [n_tokens][n_vocab] */
	struct layer layer[MAX_LAYERS];
};

/*
 * Appends a 4-byte-element tensor [cols][rows] to a dense array of rows, from row `first` on. The
 * columns lie along the last but one dimension that is not 1: weights come as [1, k, T] or [k, T],
 * the rest as [n, T].
 */
static void rows_of(const struct ggml_tensor *t, void *pp, int *n_cols, int first, int n_rows)
{
	int col = t->ne[0] == 1 && t->ne[2] > 1 ? 1 : 0, row = col + 1;
	uint32_t *out = *(void **)pp;

	if (t->ne[0] == 1 && t->ne[2] == n_rows && t->ne[1] != n_rows)	/* [1, k, 1] */
		col = 1, row = 2;
	if (t->ne[row] != n_rows)
		die("%s has %lld rows, expected %d", t->name, (long long)t->ne[row], n_rows);
	*n_cols = (int)t->ne[col];
	out = realloc(out, sizeof *out * (size_t)*n_cols * (size_t)(first + n_rows));
	if (!out)
		die("out of memory");
	*(void **)pp = out;
	out += (size_t)first * (size_t)*n_cols;
	for (int r = 0; r < n_rows; r++)
		for (int c = 0; c < *n_cols; c++)
			ggml_backend_tensor_get(t, &out[r * *n_cols + c],
						(size_t)r * t->nb[row] + (size_t)c * t->nb[col], 4);
}

static bool on_eval(struct ggml_tensor *t, bool ask, void *user)
{
	struct dump *d = user;
	const char *dash = strrchr(t->name, '-');
	int il = dash ? atoi(dash + 1) : -1, cols;
	char stem[GGML_MAX_NAME] = "";
	struct layer *l = &d->layer[il < 0 || il >= MAX_LAYERS ? 0 : il];
	bool is_logits, is_topk, is_weights;

	if (dash)
		memcpy(stem, t->name, (size_t)(dash - t->name));
	/* "NAME (reshaped)" shows what NAME did */
	is_logits = !strcmp(stem, d->logits_name);
	is_topk = !strcmp(stem, "ffn_moe_topk");
	is_weights = !strcmp(stem, "ffn_moe_weights") || !strcmp(stem, "ffn_moe_weights_norm") ||
		     !strcmp(stem, "ffn_moe_weights_softmax") ||
		     !strcmp(stem, "ffn_moe_weights_scaled");
	if (il < 0 || il >= MAX_LAYERS || strchr(t->name, '(') || !(is_logits || is_topk || is_weights))
		return !ask;
	if (ask)
		return true;
	if (is_logits) {
		l->first = l->end;
		l->end += (int)t->ne[1];
		rows_of(t, &l->logits, &d->n_expert, l->first, l->end - l->first);
	} else if (is_topk) {
		rows_of(t, &l->experts, &d->k, l->first, l->end - l->first);
	} else {
		rows_of(t, &l->weights, &cols, l->first, l->end - l->first);
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

static void write_vec(const char *path, const struct dump *d, const llama_token *ids, int n_vocab,
		      int n_layer)
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
		put(f, d->out + (size_t)i * (size_t)n_vocab, 4, (size_t)n_vocab);
	for (int il = 0; il < n_layer; il++) {
		const struct layer *l = &d->layer[il];
		uint32_t index = (uint32_t)il;

		if (!l->experts)
			continue;
		if (!l->logits || !l->weights || l->end != d->n_tokens)
			die("layer %d showed %d of %d rows", il, l->end, d->n_tokens);
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

/* A low-rank adapter for all contexts; path NULL = none. */
static struct { const char *path; float scale; } lora;

static struct llama_context *context(struct llama_model *model, int n, struct dump *d)
{
	struct llama_context_params cp = llama_context_default_params();
	struct llama_context *ctx;

	cp.n_ctx = (uint32_t)(n + 255) / 256 * 256;
	cp.n_batch = cp.n_ubatch = BATCH;
	cp.n_threads = cp.n_threads_batch = 1;
	cp.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
	cp.type_k = cp.type_v = GGML_TYPE_F32;
	if (d) {
		cp.cb_eval = on_eval;
		cp.cb_eval_user_data = d;
	}
	ctx = llama_init_from_model(model, cp);
	if (!ctx)
		die("llama.cpp makes no context");
	if (lora.path) {
		struct llama_adapter_lora *a = llama_adapter_lora_init(model, lora.path);

		if (!a || llama_set_adapters_lora(ctx, &a, 1, &lora.scale))
			die("llama.cpp does not load %s", lora.path);
	}
	return ctx;
}

/* Feeds ids [n] at positions from `pos` on; logits of all rows go to out, or of none if NULL. */
static void feed(struct llama_context *ctx, const llama_token *ids, int n, int pos, float *out,
		 int n_vocab)
{
	struct llama_batch batch = llama_batch_init(BATCH, 0, 1);

	for (int from = 0; from < n; from += BATCH) {
		batch.n_tokens = n - from < BATCH ? n - from : BATCH;
		for (int i = 0; i < batch.n_tokens; i++) {
			batch.token[i] = ids[from + i];
			batch.pos[i] = pos + from + i;
			batch.n_seq_id[i] = 1;
			batch.seq_id[i][0] = 0;
			batch.logits[i] = 1;
		}
		if (llama_decode(ctx, batch))
			die("llama_decode failed at position %d", pos + from);
		for (int i = 0; out && i < batch.n_tokens; i++)
			memcpy(out + (size_t)(from + i) * (size_t)n_vocab, llama_get_logits_ith(ctx, i),
			       (size_t)n_vocab * 4);
	}
	llama_batch_free(batch);
}

static void evaluate(struct llama_model *model, const char *tokens_path, const char *out_path)
{
	static struct dump d;
	int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
	llama_token *ids;
	struct llama_context *ctx;
	char arch[64] = "";

	memset(&d, 0, sizeof d);
	ids = read_tokens(tokens_path, &d.n_tokens);
	llama_model_meta_val_str(model, "general.architecture", arch, sizeof arch);
	/* gpt-oss scores by the biased logits themselves, and calls them probs */
	d.logits_name = strcmp(arch, "gpt-oss") ? "ffn_moe_logits" : "ffn_moe_probs";
	d.out = malloc(4 * (size_t)d.n_tokens * (size_t)n_vocab);
	if (!d.out)
		die("out of memory");
	ctx = context(model, d.n_tokens, &d);
	feed(ctx, ids, d.n_tokens, 0, d.out, n_vocab);
	write_vec(out_path, &d, ids, n_vocab, llama_model_n_layer(model));
	for (int il = 0; il < MAX_LAYERS; il++) {
		free(d.layer[il].logits);
		free(d.layer[il].experts);
		free(d.layer[il].weights);
	}
	free(d.out);
	llama_free(ctx);
	free(ids);
}

static void greedy(const char *model_path, const char *tokens_path, int n_new)
{
	struct llama_model *model = load(model_path, false);
	int n, n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
	llama_token *ids = read_tokens(tokens_path, &n);
	struct llama_context *ctx = context(model, n + n_new, NULL);

	feed(ctx, ids, n, 0, NULL, n_vocab);
	for (int g = 0; g < n_new; g++) {
		const float *row = llama_get_logits_ith(ctx, -1);
		llama_token best = 0, second = -1;

		for (llama_token v = 1; v < n_vocab; v++) {
			if (row[v] > row[best])
				second = best, best = v;
			else if (second < 0 || row[v] > row[second])
				second = v;
		}
		printf("%d %.9g\n", best, (double)row[best] - (double)row[second]);
		feed(ctx, &best, 1, n + g, NULL, n_vocab);
	}
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
	tool_name = "llama_dump";
	start();
	if (argc > 4 && !strcmp(argv[1], "--lora")) {
		lora.path = argv[2];
		lora.scale = (float)atof(argv[3]);
		argc -= 3;
		argv += 3;
	}
	if (argc == 3 && !strcmp(argv[1], "--tokenize")) {
		tokenize(argv[2], false);
	} else if (argc == 3 && !strcmp(argv[1], "--tokenize-bos")) {
		tokenize(argv[2], true);
	} else if (argc == 5 && !strcmp(argv[1], "--greedy")) {
		greedy(argv[3], argv[4], atoi(argv[2]));
	} else if (argc >= 4 && argc % 2 == 0) {
		struct llama_model *model = load(argv[1], false);

		for (int i = 2; i < argc; i += 2)
			evaluate(model, argv[i], argv[i + 1]);
		llama_model_free(model);
	} else {
		die("usage: llama_dump MODEL TOKENS.vec OUT.vec ... | --greedy N MODEL TOKENS.vec | "
		    "--tokenize[-bos] MODEL < TEXTS");
	}
	return 0;
}
