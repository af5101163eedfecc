/*
 * inspect.c - `moescope inspect`: what a model file is, without running it.
 *
 * Prints views' plain tables: the identity as key and value, the tensor classes with their types.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "cmd/load.h"

static int json, tensors;

struct class_sum {
	uint64_t n, params, bytes;
	uint64_t by_type[QT_MAX]; /* bytes */
};

static void add_class(void *ctx, enum model_class c, const struct gguf_tensor *t)
{
	struct class_sum *s = (struct class_sum *)ctx + c;

	s->n++;
	s->params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
	s->bytes += t->n_bytes;
	s->by_type[t->type] += t->n_bytes;
}

/* Types of a class by share of bytes: "Q8_0" or "Q4_K 61 %, Q6_K 39 %". */
static void type_mix(const struct class_sum *s, char *out, size_t size)
{
	uint64_t left[QT_MAX];
	size_t len = 0;

	memcpy(left, s->by_type, sizeof left);
	out[0] = 0;
	for (;;) {
		uint32_t best = 0;

		for (uint32_t q = 1; q < QT_MAX; q++)
			if (left[q] > left[best])
				best = q;
		if (!left[best] || len + 24 > size)
			return;
		if (left[best] == s->bytes)
			len += (size_t)snprintf(out + len, size - len, "%s", qtype_info(best)->name);
		else
			len += (size_t)snprintf(out + len, size - len, "%s%s %.0f %%", len ? ", " : "",
				qtype_info(best)->name, 100.0 * (double)left[best] / (double)s->bytes);
		left[best] = 0;
	}
}

/* "14.4 M": three digits and a unit of 1000. */
static const char *human(double x, char out[32])
{
	static const char *const unit[] = { "", " k", " M", " G", " T" };
	int u = 0;

	while (x >= 999.5 && u < 4)
		x /= 1000, u++;
	snprintf(out, 32, u == 0 ? "%.0f%s" : x < 9.995 ? "%.2f%s" : x < 99.95 ? "%.1f%s" : "%.0f%s", x,
		unit[u]);
	return out;
}

static void line(const char *key, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(const char *key, const char *fmt, ...)
{
	char text[512];
	struct buf b;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	buf_init(&b, 1 << 16);
	text_escape(&b, text, strlen(text), TEXT_TERMINAL);
	printf("%-19s %s\n", key, b.data ? b.data : "");
	buf_free(&b);
}

static void print_identity(const struct gguf *g, const struct model_info *in)
{
	char a[32], b[32], c[32], router[160], parts[32] = "";

	if (gguf_n_parts(g) > 1)
		snprintf(parts, sizeof parts, ", %zu parts", gguf_n_parts(g));
	line("file", "%s", gguf_path(g));
	line("name", "%s", in->name);
	line("format", "GGUF version %" PRIu32 ", %sB, %zu tensors%s", gguf_version(g),
		human((double)gguf_file_bytes(g), a), gguf_n_tensors(g), parts);
	line("architecture", "%s, %" PRIu32 " layers, width %" PRIu32 ", %" PRIu32 " heads (%" PRIu32
		" key/value) of %" PRIu32, in->arch, in->n_layer, in->n_embd, in->n_head, in->n_head_kv,
		in->head_dim);
	line("context", "%" PRIu32 " tokens in training; RoPE scaling: %s", in->n_ctx_train,
		in->rope_scaling);
	if (in->kv_rank)
		line("latent attention", "keys and values of all heads from %" PRIu32 " numbers a position",
			in->kv_rank);
	if (in->n_window_layer)
		line("window", "%" PRIu32 " of %" PRIu32 " layers see %" PRIu32 " tokens at most",
			in->n_window_layer, in->n_layer, in->window);
	if (in->n_nextn)
		line("not used", "%" PRIu32 " %s that %s further tokens (%" PRIu64 " tensors, %sB)",
			in->n_nextn, in->n_nextn == 1 ? "layer" : "layers",
			in->n_nextn == 1 ? "predicts" : "predict", in->n_unused,
			human((double)in->unused_bytes, a));
	line("vocabulary", "%" PRIu32 " tokens", in->n_vocab);
	if (in->n_moe_layer) {
		moe_route_describe(&in->route, router, sizeof router);
		line("router", "%s", router);
		line("experts", "%u routed, %u active per token, width %" PRIu32 ", in %" PRIu32
			" of %" PRIu32 " layers", in->route.n_expert, in->route.k, in->n_ff_expert,
			in->n_moe_layer, in->n_layer);
		if (in->n_ff_shared)
			line("shared expert", "width %" PRIu32 ", %s, takes every token", in->n_ff_shared,
				in->shared_gated ? "gated" : "without a gate");
		if (in->n_dense_layer)
			line("dense FFN", "width %" PRIu32 ", in %" PRIu32 " of %" PRIu32 " layers", in->n_ff,
				in->n_dense_layer, in->n_layer);
	} else {
		line("router", "none: a dense model, FFN width %" PRIu32, in->n_ff);
	}
	line("quantisation", "%s", in->quant);
	line("parameters", "%s total, %s active per token (%.0f %%)", human((double)in->n_params, a),
		human((double)in->n_params_active, b),
		100.0 * (double)in->n_params_active / (double)in->n_params);
	line("weights", "%sB stored, %sB read per decoded token (%.2f bits per weight)",
		human((double)in->weight_bytes, b), human((double)in->bytes_per_token, c),
		8.0 * (double)in->weight_bytes / (double)in->n_params);
}

static void print_classes(const struct class_sum *s)
{
	char a[32], b[32], mix[160];

	printf("\n%-16s %8s %10s %10s  %s\n", "tensor class", "tensors", "parameters", "bytes",
		"types");
	for (int c = 0; c < MODEL_N_CLASS; c++) {
		if (!s[c].n)
			continue;
		type_mix(&s[c], mix, sizeof mix);
		printf("%-16s %8" PRIu64 " %10s %9sB  %s\n", model_class_name((enum model_class)c), s[c].n,
			human((double)s[c].params, a), human((double)s[c].bytes, b), mix);
	}
}

static void json_text(const char *key, const char *s)
{
	struct buf b;

	buf_init(&b, 1 << 16);
	text_escape(&b, s, strlen(s), TEXT_JSON);
	printf("\"%s\": \"%s\", ", key, b.data ? b.data : "");
	buf_free(&b);
}

static void print_json(const struct gguf *g, const struct model_info *in, const struct class_sum *s)
{
	char router[160] = "", mix[160];
	int first = 1;

	if (in->n_moe_layer)
		moe_route_describe(&in->route, router, sizeof router);
	printf("[{");
	json_text("file", gguf_path(g));
	json_text("name", in->name);
	json_text("arch", in->arch);
	json_text("router", router);
	json_text("quant", in->quant);
	printf("\"parts\": %zu, \"file_bytes\": %" PRIu64 ", \"layers\": %" PRIu32
		", \"moe_layers\": %" PRIu32 ", "
	       "\"width\": %" PRIu32 ", \"heads\": %" PRIu32 ", \"kv_heads\": %" PRIu32 ", "
	       "\"head_width\": %" PRIu32 ", \"context\": %" PRIu32 ", \"rope_scaling\": \"%s\", "
	       "\"vocabulary\": %" PRIu32 ", "
	       "\"experts\": %u, \"k\": %u, \"expert_width\": %" PRIu32 ", \"shared_width\": %" PRIu32
	       ", \"dense_layers\": %" PRIu32 ", \"dense_width\": %" PRIu32
	       ", \"latent_width\": %" PRIu32 ", \"window\": %" PRIu32 ", \"unused_layers\": %" PRIu32
	       ", \"parameters\": %" PRIu64 ", \"parameters_active\": %" PRIu64
	       ", \"weight_bytes\": %" PRIu64 ", \"bytes_per_token\": %" PRIu64 ", \"classes\": [",
		gguf_n_parts(g), gguf_file_bytes(g), in->n_layer, in->n_moe_layer, in->n_embd, in->n_head,
		in->n_head_kv, in->head_dim, in->n_ctx_train, in->rope_scaling, in->n_vocab,
		in->route.n_expert, in->route.k, in->n_ff_expert, in->n_ff_shared, in->n_dense_layer,
		in->n_ff, in->kv_rank, in->window, in->n_nextn, in->n_params, in->n_params_active,
		in->weight_bytes, in->bytes_per_token);
	for (int c = 0; c < MODEL_N_CLASS; c++) {
		if (!s[c].n)
			continue;
		type_mix(&s[c], mix, sizeof mix);
		printf("%s{\"class\": \"%s\", \"tensors\": %" PRIu64 ", \"parameters\": %" PRIu64
		       ", \"bytes\": %" PRIu64 ", \"types\": \"%s\"}", first ? "" : ", ",
			model_class_name((enum model_class)c), s[c].n, s[c].params, s[c].bytes, mix);
		first = 0;
	}
	printf("]}]\n");
}

static void print_tensors(const struct gguf *g)
{
	printf("\n%-40s %-8s %s\n", "tensor", "type", "shape (fastest first)");
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		struct buf b;

		buf_init(&b, 1 << 16);
		text_escape(&b, t->name, strlen(t->name), TEXT_TERMINAL);
		printf("%-40s %-8s ", b.data ? b.data : "", qtype_info(t->type)->name);
		for (uint32_t d = 0; d < t->n_dims; d++)
			printf("%s%" PRIu64, d ? " x " : "", t->ne[d]);
		putchar('\n');
		buf_free(&b);
	}
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct class_sum sums[MODEL_N_CLASS] = { { 0 } };
	struct gguf *g;
	struct model *m;

	if (argc > 1)
		return err_set(e, MOE_ERR_USAGE, "one model at a time, %d were given", argc);
	if (load_gguf(argc ? argv[0] : "sample:balanced", &g, e))
		return -1;
	m = model_open(g, e);
	if (!m) {
		gguf_close(g);
		return -1;
	}
	model_each_tensor(m, add_class, sums);
	if (json) {
		print_json(g, model_info(m), sums);
	} else {
		print_identity(g, model_info(m));
		print_classes(sums);
		if (tensors)
			print_tensors(g);
	}
	model_close(m);
	gguf_close(g);
	return 0;
}

static const struct opt opts[] = {
	{ "json", 0, OPT_FLAG, &json, NULL, "print JSON", 0, 0 },
	{ "tensors", 0, OPT_FLAG, &tensors, NULL, "list every tensor", 0, 0 },
	{ 0 },
};

const struct cmd cmd_inspect = {
	"inspect", "[MODEL]", "Say what a model file is: architecture, router, experts, sizes",
	"MODEL is a GGUF file or sample:balanced, sample:collapsed (default: sample:balanced).\n", opts,
	run,
};
