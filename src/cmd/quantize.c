/*
 * quantize.c - `moescope quantize`: a model file with its weights in another element type.
 *
 * The output appears under its name when it is complete and has been read back; until then it is a
 * file beside it that is removed whatever happens.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cmd/load.h"
#include "cmd/progress.h"
#include "cmd/show.h"
#include "quant/convert.h"

static const char *type = "Q4_K_M";
static int force, again;
static long long threads;

/* By its name, or by that without _M or _MOE, which llama-quantize takes, too. */
static const struct quant_mix *find_mix(const char *word, struct moe_err *e)
{
	size_t n = strlen(word), len = 0;
	char list[160] = "";

	for (size_t i = 0; quant_mix_at(i); i++) {
		const char *name = quant_mix_at(i)->name;

		if (!strncmp(name, word, n) &&
		    (!name[n] || !strcmp(name + n, "_M") || !strcmp(name + n, "_MOE")))
			return quant_mix_at(i);
		len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", name);
	}
	err_set(e, MOE_ERR_USAGE, "no type '%s'; there are %s", show(word).s, list);
	return NULL;
}

struct state { struct progress bar; uint64_t done; const char *tensor; };

static int on_bytes(void *ctx, uint64_t n)
{
	struct state *s = ctx;

	s->done += n;
	progress_to(&s->bar, s->done >> 20, s->tensor);
	return load_interrupted();
}

static uint64_t all_bytes(const struct gguf *g)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < gguf_n_tensors(g); i++)
		sum += gguf_tensor_at(g, i)->n_bytes;
	return sum;
}

/* "27 tensors, 12 converted: Q4_K 5, Q6_K 7; 15.53 MB to 8.13 MB, 4.51 bits per weight,
 * in 1.2 s" */
static void summary(const struct gguf *g, const uint32_t *types, uint64_t bytes, double seconds)
{
	size_t by_type[QT_MAX] = { 0 }, changed = 0;
	uint64_t params = 0;
	const char *sep = ": ";

	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
		if (t->type != types[i])
			changed++, by_type[types[i]]++;
	}
	fprintf(stderr, "quantize: %zu tensors, %zu converted", gguf_n_tensors(g), changed);
	for (uint32_t q = 0; q < QT_MAX; q++)
		if (by_type[q]) {
			fprintf(stderr, "%s%s %zu", sep, qtype_info(q)->name, by_type[q]);
			sep = ", ";
		}
	fprintf(stderr, "; %.2f MB to %.2f MB, %.2f bits per weight, in %.1f s\n",
		(double)gguf_file_bytes(g) * 1e-6, (double)bytes * 1e-6,
		params ? 8.0 * (double)bytes / (double)params : 0.0, seconds);
}

static int convert_all(const struct quant_job *j, const uint32_t *types, struct state *s,
	struct moe_err *e)
{
	for (size_t i = 0; i < gguf_n_tensors(j->g); i++) {
		s->tensor = gguf_tensor_at(j->g, i)->name;
		if (quant_tensor(j, i, types[i], e))
			return -1;
	}
	return gguf_out_close(j->out, e);
}

static int refuse_again(const struct gguf *g, const uint32_t *types, struct moe_err *e)
{
	const struct gguf_tensor *t = quant_again(g, types);

	return t ? err_set(e, MOE_ERR_USAGE, "tensor %s is %s already: to quantise it again loses more "
		"than to start from the original; --allow-requantize does it", t->name,
		qtype_info(t->type)->name) : 0;
}

/* Everything between an open model and its copy under `path`. */
static int quantize(const struct gguf *g, const struct quant_mix *mix, const char *path,
	struct moe_err *e)
{
	uint32_t *types = calloc(gguf_n_tensors(g) + 1, sizeof *types);
	struct quant_job j = { .g = g, .kern = kern_pick(NULL, e), .on_bytes = on_bytes };
	struct state s = { .done = 0 };
	int64_t start = clock_mono();
	uint64_t align = 32;
	int rc = -1;

	j.ctx = &s;
	if (!types)
		err_nomem(e, gguf_n_tensors(g) * sizeof *types, "tensor types");
	if (!types || !j.kern || gguf_get_u64(g, "general.alignment", &align, e) < 0 ||
	    quant_plan(g, mix, types, e))
		goto out;
	if (quant_check(g, types, e) || (!again && refuse_again(g, types, e)))
		goto out;
	j.pool = pool_new(threads ? (int)threads : pool_default_threads(), e);
	j.out = j.pool ? gguf_out_new(align, e) : NULL;
	if (!j.out || quant_header(g, mix, types, j.out, e) || gguf_out_open(j.out, path, force, e))
		goto out;
	progress_start(&s.bar, "MiB", all_bytes(g) >> 20);
	rc = convert_all(&j, types, &s, e);
	progress_stop(&s.bar);
	if (!rc)
		summary(g, types, gguf_out_bytes(j.out), (double)(clock_mono() - start) * 1e-9);
out:
	gguf_out_free(j.out);
	pool_free(j.pool);
	free(types);
	return rc;
}

static int run(int argc, char **argv, struct moe_err *e)
{
	const struct quant_mix *mix;
	struct gguf *g;
	int rc;

	if (argc != 2)
		return err_set(e, MOE_ERR_USAGE, "two operands are needed, the model and the file to "
			"write; %d %s given", argc, argc == 1 ? "was" : "were");
	mix = find_mix(type, e);
	if (!mix)
		return -1;
	if (!force && !access(argv[1], F_OK))
		return err_set(e, MOE_ERR_USAGE, "%s is there already; --force replaces it",
			show(argv[1]).s);
	if (load_gguf(argv[0], &g, e))
		return -1;
	load_catch_interrupt();
	rc = quantize(g, mix, argv[1], e);
	if (rc)
		err_wrap(e, "%s", show(argv[0]).s);
	gguf_close(g);
	return rc && load_interrupted() ? 130 : rc;
}

static const struct opt opts[] = {
	{ "type", 0, OPT_TEXT, &type, "TYPE", "element type or mix of types (default: Q4_K_M)", 0, 0 },
	{ "force", 'f', OPT_FLAG, &force, NULL, "replace the output if it is there", 0, 0 },
	{ "allow-requantize", 0, OPT_FLAG, &again, NULL, "quantise what is quantised already", 0, 0 },
	{ "threads", 't', OPT_INT, &threads, "N", "threads (default: one per processor)", 1, 256 },
	{ 0 },
};

const struct cmd cmd_quantize = {
	"quantize", "MODEL OUTPUT", "Write a model with its weights in another element type",
	"TYPE is Q8_0, Q6_K, Q5_K_M, Q5_0, Q4_K_M, Q4_0, MXFP4_MOE, BF16, F16 or F32.\n"
	"Which tensor gets which type follows llama-quantize: norms, biases and routers stay as they are;\n"
	"Q4_K_M and Q5_K_M give some layers more bits. All metadata are kept. A split model becomes one\n"
	"file. The output has the same bytes for any number of threads.\n", opts, run,
};
