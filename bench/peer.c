/*
 * peer.c - this engine and llama.cpp side by side: same file, same threads, same tokens, in turns.
 *
 *	peer [-t THREADS] [-n PAIRS] [-p PREFILL] [-d DECODE] [-D DEPTH] [-k f16|q8_0] [-i ISA]
 *		[-c] [-m] [-q] [-s] MODEL.gguf LIB_DIR
 *
 * Each pair runs both, and which goes first alternates, so that what else the machine does meets
 * both. Prints medians of tokens per second and the median of the pairs' ratios with its quartiles.
 * Our side logs routing at `routes` (to a file that is deleted) unless -q is given; the other logs
 * nothing. -D decodes behind a context of that length, which grows from pair to pair; -p 0 leaves
 * prefill out; -k says what keys and values are kept in, -i which kernels ours uses. Our weights
 * are copied to large pages, as the commands do where they fit; -m leaves them mapped. Of a prompt
 * both want the last token's logits and leave the last layer's experts of all others out, which in
 * a file of two layers is almost half of the work. -c takes processor seconds of the whole process
 * instead of the clock's, which with -t 1 is fair on a busy machine, too. -s measures the start
 * instead: each time a new process, from exec to the logits of a short prompt, tokenizer loaded,
 * and its peak memory. bench/peer.sh builds and runs it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ggml-backend.h>
#include <llama.h>

#include <moescope/trace.h>

#include "base/rng.h"
#include "gguf/gguf.h"
#include "model/model.h"
#include "tok/tok.h"

enum { PREFILL, DECODE, N_PHASE };
#define MAX_PAIRS 199
#define BATCH 512
#define START_CTX 4096
#define START_TOKENS 8

static int threads = 2, pairs = 9, n_pre = 512, n_dec = 64, depth, quiet, cpu, q8, start, mapped;
static const char *isa;
static int32_t *ids;

struct ours { struct gguf *g; struct model *m; struct session *s; struct moe_trace *t; uint64_t seq;
	};
struct theirs { struct llama_model *m; struct llama_context *c; };

static void die(const char *what, const struct moe_err *e)
{
	fprintf(stderr, "peer: %s%s%s\n", what, e ? ": " : "", e ? e->msg : "");
	exit(4);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint32_t context(void)
{
	int then = start ? START_CTX : depth + 3 + pairs * n_dec;

	return (uint32_t)(n_pre > then && !start ? n_pre : then);
}

static int keep(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	(void)pos, (void)e;
	*(float *)ctx = row[0];
	return 0;
}

static void ours_open(struct ours *o, const char *path, const char *db)
{
	struct session_opt so = { .n_threads = (uint32_t)threads, .n_batch = BATCH, .n_ctx = context(),
		.kv_type = q8 ? SESSION_KV_Q8_0 : SESSION_KV_F16, .isa = isa };
	struct moe_trace_opt to = { .detail = MOE_DETAIL_ROUTES };
	struct moe_run_desc d = { .command = "bench", .engine = "moescope" };
	struct moe_err e;

	if (!(o->g = gguf_open(path, &e)) ||
	    (!mapped && gguf_to_memory(o->g, gguf_read_whole, &e)) || !(o->m = model_open(o->g, &e)) ||
	    !(o->s = session_new(o->m, &so, &e)))
		die("moescope", &e);
	if (!start)
		gguf_copy_wait(o->g);
	if (quiet || !model_info(o->m)->n_moe_layer)
		return;
	d.model_name = model_info(o->m)->name;
	d.layers = model_info(o->m)->layers;
	d.n_moe_layer = model_info(o->m)->n_moe_layer;
	d.n_layer = model_info(o->m)->n_layer;
	o->t = moe_trace_open(db, &to, &d, &e);
	if (!o->t || session_add_hook(o->s, moe_trace_hook(o->t), &e))
		die("moescope", &e);
}

static void ours_eval(struct ours *o, const int32_t *tok, size_t n, enum moe_phase phase)
{
	float first = 0;
	struct session_want want = { 0, keep, &first };
	struct moe_err e;

	if (session_eval(o->s, tok, n, phase, &want, &e))
		die("moescope", &e);
	if (!isfinite(first))
		die("moescope computes no number", NULL);
}

static void ours_begin(struct ours *o)
{
	struct moe_seq_info info = { .seq = ++o->seq, .domain = "bench" };
	struct moe_err e;

	if (session_begin(o->s, &info, &e))
		die("moescope", &e);
}

static void ours_end(struct ours *o)
{
	struct moe_seq_result res = { .seq = o->seq };
	struct moe_err e;

	if (session_end(o->s, &res, &e))
		die("moescope", &e);
}

static double ours_first(struct ours *o, int n)
{
	int64_t t0;

	ours_begin(o);
	t0 = now();
	ours_eval(o, ids, (size_t)n, MOE_PREFILL);
	return (double)(now() - t0) * 1e-9;
}

static double ours_decode(struct ours *o, int n)
{
	int64_t t0 = now();

	for (int i = 0; i < n; i++)
		ours_eval(o, ids + i, 1, MOE_DECODE);
	return (double)(now() - t0) * 1e-9;
}

static void silent(enum ggml_log_level level, const char *text, void *ctx)
{
	(void)ctx;
	if (level == GGML_LOG_LEVEL_ERROR)
		fputs(text, stderr);
}

static void theirs_open(struct theirs *p, const char *path, const char *libs)
{
	struct llama_model_params mp;
	struct llama_context_params cp;

	llama_log_set(silent, NULL);
	ggml_backend_load_all_from_path(libs);
	llama_backend_init();
	mp = llama_model_default_params();
	mp.n_gpu_layers = 0;
	p->m = llama_model_load_from_file(path, mp);
	if (!p->m)
		die("llama.cpp does not load the model", NULL);
	cp = llama_context_default_params();
	cp.n_ctx = context();
	cp.n_batch = cp.n_ubatch = BATCH;
	cp.type_k = cp.type_v = q8 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
	cp.n_threads = cp.n_threads_batch = threads;
	p->c = llama_init_from_model(p->m, cp);
	if (!p->c)
		die("llama.cpp does not make a context", NULL);
}

static void theirs_eval(struct theirs *p, int32_t *tok, int n)
{
	for (int at = 0; at < n; at += BATCH)
		if (llama_decode(p->c, llama_batch_get_one(tok + at, n - at < BATCH ? n - at : BATCH)))
			die("llama.cpp fails", NULL);
	llama_synchronize(p->c);
}

static double theirs_first(struct theirs *p, int n)
{
	int64_t t0;

	llama_memory_clear(llama_get_memory(p->c), 1);
	t0 = now();
	theirs_eval(p, ids, n);
	t0 = now() - t0;
	if (!isfinite(llama_get_logits_ith(p->c, -1)[0]))
		die("llama.cpp computes no number", NULL);
	return (double)t0 * 1e-9;
}

static double theirs_decode(struct theirs *p, int n)
{
	int64_t t0 = now();

	for (int i = 0; i < n; i++)
		theirs_eval(p, ids + i, 1);
	return (double)(now() - t0) * 1e-9;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double quartile(double *x, int q)
{
	qsort(x, (size_t)pairs, sizeof *x, by_value);
	return x[(pairs - 1) * q / 4];
}

static void options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "t:n:p:d:D:k:i:cmqs")) != -1) {
		int *dst = c == 't' ? &threads : c == 'n' ? &pairs : c == 'p' ? &n_pre : c == 'd' ? &n_dec :
			c == 'D' ? &depth : NULL;

		if (dst)
			*dst = atoi(optarg);
		quiet |= c == 'q';
		mapped |= c == 'm';
		isa = c == 'i' ? optarg : isa;
		cpu |= c == 'c';
		start |= c == 's';
		q8 |= c == 'k' && !strcmp(optarg, "q8_0");
	}
	if (argc - optind == 2 && threads > 0 && pairs > 0 && pairs <= MAX_PAIRS && n_pre >= 0 &&
	    n_dec > 0 && depth >= 0)
		return;
	fprintf(stderr, "usage: peer [-t THREADS] [-n PAIRS] [-p PREFILL] [-d DECODE] [-D DEPTH] "
		"[-k f16|q8_0] [-i ISA] [-c] [-m] [-q] [-s] MODEL.gguf LIB_DIR\n");
	exit(2);
}

static void print_phase(int k, double *ours, double *theirs)
{
	static const char *const name[] = { "prefill", "decode" };
	double n = k == PREFILL ? n_pre : n_dec, ratio[MAX_PAIRS], us, them;

	for (int i = 0; i < pairs; i++)
		ratio[i] = theirs[i] / ours[i];
	us = n / quartile(ours, 2);
	them = n / quartile(theirs, 2);
	printf("  %-7s %5.0f", name[k], n);
	if (k == DECODE && depth)
		printf(" after %d", depth);
	printf(" tokens: moescope %8.1f/s, llama.cpp %8.1f/s, ratio %.3f (quartiles %.3f - %.3f)\n", us,
		them, quartile(ratio, 2), quartile(ratio, 1), quartile(ratio, 3));
}

/* Pairs of one phase; what comes before the first is not counted.
 * The context of a decoding grows. */
static void measure(int phase, struct ours *o, struct theirs *p, double t[2][N_PHASE][MAX_PAIRS])
{
	for (int i = -1; i < pairs; i++)
		for (int j = 0; j < 2; j++) {
			int us = (i + j) & 1;
			double s;

			if (phase == DECODE) {
				s = us ? ours_decode(o, i < 0 ? 2 : n_dec) : theirs_decode(p, i < 0 ? 2 : n_dec);
			} else {
				s = us ? ours_first(o, n_pre) : theirs_first(p, n_pre);
				if (us)
					ours_end(o);
			}
			if (i >= 0)
				t[us][phase][i] = s;
		}
}

/* ---- the start ---- */

enum { WALL, CPU, RSS, N_START }; /* seconds, seconds, bytes */

/* In a process of its own: the moment at which the first logits are there goes to standard
 * output. */
static void first_token(int us, const char *path, const char *libs)
{
	static int32_t some[START_TOKENS] = { 70, 71, 72, 73, 74, 75, 76, 77 };
	struct ours o = { 0 };
	struct theirs p = { 0 };
	struct tok *tok = NULL;
	struct moe_err e;
	int64_t at;

	quiet = 1;
	if (us) {
		ours_open(&o, path, NULL);
		tok = tok_load(o.g, &e);
		if (!tok)
			die("moescope", &e);
		ours_begin(&o);
		ours_eval(&o, some, START_TOKENS, MOE_PREFILL);
	} else {
		theirs_open(&p, path, libs);
		theirs_eval(&p, some, START_TOKENS);
		if (!llama_get_logits_ith(p.c, -1))
			die("llama.cpp gives no logits", NULL);
	}
	at = now();
	if (write(STDOUT_FILENO, &at, sizeof at) != sizeof at)
		_exit(4);
	_exit(0);
}

static void start_one(int us, char **argv, int argc, double out[N_START])
{
	struct rusage use;
	int64_t at, t0;
	int fd[2], status;
	pid_t pid;

	if (pipe(fd))
		die("no pipe", NULL);
	t0 = now();
	pid = fork();
	if (pid < 0)
		die("no process", NULL);
	if (!pid) {
		char *copy[argc + 1];

		memcpy(copy, argv, (size_t)argc * sizeof *copy);
		copy[argc] = NULL;
		setenv("MOESCOPE_PEER_START", us ? "us" : "them", 1);
		dup2(fd[1], STDOUT_FILENO);
		execv("/proc/self/exe", copy);
		_exit(4);
	}
	close(fd[1]);
	if (read(fd[0], &at, sizeof at) != sizeof at || wait4(pid, &status, 0, &use) != pid || status)
		die("a start failed", NULL);
	close(fd[0]);
	out[WALL] = (double)(at - t0) * 1e-9;
	out[CPU] = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
		1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
	out[RSS] = 1024.0 * (double)use.ru_maxrss;
}

static void starts(int argc, char **argv)
{
	static const struct { const char *name, *unit; double scale; } what[N_START] = {
		{ "start to first token", "ms", 1e3 }, { "processor time", "ms", 1e3 },
		{ "peak memory", "MB", 1e-6 } };
	static double t[2][N_START][MAX_PAIRS], ratio[MAX_PAIRS];
	double one[N_START];

	for (int i = -1; i < pairs; i++) /* the first pair warms the file cache */
		for (int j = 0; j < 2; j++) {
			start_one((i + j) & 1, argv, argc, one);
			for (int k = 0; k < N_START && i >= 0; k++)
				t[(i + j) & 1][k][i] = one[k];
		}
	printf("%s, %d threads, %d pairs, a prompt of %d tokens, context of %d\n", argv[optind],
		threads, pairs, START_TOKENS, START_CTX);
	for (int k = 0; k < N_START; k++) {
		for (int i = 0; i < pairs; i++)
			ratio[i] = t[1][k][i] / t[0][k][i];
		printf("  %-20s moescope %8.1f %s, llama.cpp %8.1f %s, ratio %.3f (quartiles %.3f - "
			"%.3f)\n", what[k].name, what[k].scale * quartile(t[1][k], 2), what[k].unit,
			what[k].scale * quartile(t[0][k], 2), what[k].unit, quartile(ratio, 2),
			quartile(ratio, 1), quartile(ratio, 3));
	}
}

int main(int argc, char **argv)
{
	static double t[2][N_PHASE][MAX_PAIRS];
	static const char *const suffix[] = { "", "-wal", "-shm", "-lock" };
	struct ours o = { 0 };
	struct theirs p = { 0 };
	const char *tmp = getenv("TMPDIR");
	char db[4096], path[4096 + 8];
	struct rng r;
	int fd, n_ids;
	double filled[2];

	options(argc, argv);
	if (start && getenv("MOESCOPE_PEER_START"))
		first_token(!strcmp(getenv("MOESCOPE_PEER_START"), "us"), argv[optind], argv[optind + 1]);
	if (start) {
		starts(argc, argv);
		return 0;
	}
	snprintf(db, sizeof db, "%s/moescope-peer-XXXXXX", tmp ? tmp : "/tmp");
	fd = mkstemp(db);
	if (fd < 0)
		die("no temporary file", NULL);
	close(fd);
	unlink(db);
	ours_open(&o, argv[optind], db);
	theirs_open(&p, argv[optind], argv[optind + 1]);
	n_ids = (n_pre > depth ? n_pre : depth) + n_dec + 1;
	ids = malloc((size_t)n_ids * sizeof *ids);
	if (!ids)
		die("no memory", NULL);
	rng_seed(&r, 1);
	for (int i = 0; i < n_ids; i++)
		ids[i] = (int32_t)rng_below(&r, model_info(o.m)->n_vocab);
	filled[1] = ours_first(&o, depth + 1);
	filled[0] = theirs_first(&p, depth + 1);
	measure(DECODE, &o, &p, t);
	ours_end(&o);
	if (n_pre)
		measure(PREFILL, &o, &p, t);
	printf("%s, %s, keys and values %s, %d threads, %d pairs%s%s\n", model_info(o.m)->name,
		model_info(o.m)->quant, q8 ? "Q8_0" : "F16", threads, pairs,
		cpu ? ", processor seconds" : "", o.t ? ", routes logged" : "");
	for (int k = n_pre ? PREFILL : DECODE; k < N_PHASE; k++)
		print_phase(k, t[1][k], t[0][k]);
	if (depth)
		printf("  filling %5d tokens: moescope %8.1f/s, llama.cpp %8.1f/s, once\n", depth + 1,
			(depth + 1) / filled[1], (depth + 1) / filled[0]);
	if (o.t)
		moe_trace_close(o.t, MOE_RUN_DONE, NULL);
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "%s%s", db, suffix[i]);
		unlink(path);
	}
	session_free(o.s);
	model_close(o.m);
	gguf_close(o.g);
	llama_free(p.c);
	llama_model_free(p.m);
	free(ids);
	return 0;
}
