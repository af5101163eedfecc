/*
 * load.h - what commands that run a model share: opening it by name, its options, Ctrl-C, the
 * descriptor that goes into the trace.
 *
 * A model is a path, or "sample:NAME" for one that is embedded in the program.
 */
#ifndef CMD_LOAD_H
#define CMD_LOAD_H

#include <moescope/trace.h>

#include "cmd/cmd.h"
#include "model/model.h"
#include "tok/tok.h"

#define LOAD_ADAPTERS 8
#define LOAD_SESSIONS 4

struct adapter { struct gguf *gguf; double scale; char path[1024]; };

struct loaded {
	struct gguf *gguf;
	struct model *model;
	struct tok *tok;
	struct adapter adapter[LOAD_ADAPTERS]; /* in the model; engine.c */
	struct aware *aware[LOAD_SESSIONS];    /* hooks of sessions; engine.c */
	size_t n_adapter, n_aware;
	int warned;                            /* of a context longer than the trained one */
};

/* A GGUF file; if it is cut while it is in use, the process says so and ends. */
struct gguf *load_file(const char *path, struct moe_err *e);
int load_gguf(const char *name, struct gguf **out, struct moe_err *e);
void load_free(struct loaded *l);

/* Options of every command that makes a session; LOAD_OPTS(v) are their rows for a table. */
struct load_opts {
	long long ctx, batch, threads;
	const char *isa, *cache, *policy, *aware;
	int kv_type, activations, where;
	struct opt_list lora;
};
#define LOAD_OPTS(v) \
	{ "ctx", 'c', OPT_INT, &(v).ctx, "N", "context in tokens (default: as trained, at most 4096)", \
	  1, 1 << 24 }, \
	{ "batch", 'b', OPT_INT, &(v).batch, "N", "tokens evaluated together in prefill (default 512)", \
	  1, 65536 }, \
	{ "threads", 't', OPT_INT, &(v).threads, "N", "threads (default: one per processor)", 1, 256 }, \
	{ "activations", 0, OPT_ENUM, &(v).activations, "int8|f32", \
	  "what quantised weights are multiplied with (default int8)", 0, 0 }, \
	{ "kv-type", 0, OPT_ENUM, &(v).kv_type, "f16|f32|q8_0", "what keys and values are kept in (default f16)", \
	  0, 0 }, \
	{ "load", 0, OPT_ENUM, &(v).where, "auto|map|copy", \
	  "weights stay in the mapped file, or are copied to large pages (default: if they fit)", 0, 0 }, \
	{ "lora", 0, OPT_LIST, &(v).lora, "FILE[:SCALE]", "add a low-rank adapter to the weights; repeatable", \
	  0, 0 }, \
	{ "expert-cache", 0, OPT_TEXT, &(v).cache, "SIZE", "experts stay in the file, SIZE of memory holds those " \
	  "in use: 4G, 512M, 25%", 0, 0 }, \
	{ "expert-policy", 0, OPT_TEXT, &(v).policy, "NAME", "which: lru (default), lfu, or static:TRACE", 0, 0 }, \
	{ "cache-aware", 0, OPT_TEXT, &(v).aware, "KEEP,RANK", "CHANGES ROUTING: keep the KEEP best experts, take " \
	  "the rest from memory up to RANK", 0, 0 }, \
	{ "isa", 0, OPT_TEXT, &(v).isa, "NAME", \
	  "kernels: amx, avx512, avx2 (x86), dotprod, neon (ARM) or " \
	  "plain (default: the best)", 0, 0 }

enum { LOAD_AUTO, LOAD_MAP, LOAD_COPY }; /* where */

/* Model and tokenizer. Weights are copied into memory of large pages, behind the first results, if o wants
 * that: by default where the system has such pages and half of its free memory holds the weights, and not
 * with an expert cache, whose experts stay in the file. o NULL: they stay mapped. */
int load_model(const char *name, const struct load_opts *o, struct loaded *l, struct moe_err *e);
struct session_opt load_session_opt(const struct load_opts *o);

/* The run's descriptor for the trace; strings are borrowed from l, s and static storage. */
void load_describe(const struct loaded *l, const struct session *s, const char *command,
	struct moe_run_desc *out);

/* Ctrl-C and SIGTERM: after load_catch_interrupt the first one only sets this; a second one ends
 * the program in two seconds, if it has not ended by then, and a third one at once. */
void load_catch_interrupt(void);
int load_interrupted(void);

/* Embedded files: models ("sample:balanced") and the default corpus (models/texts/NAME.txt). */
struct embedded { const char *name; const unsigned char *data, *end; };
extern const struct embedded embed_models[], embed_texts[]; /* end with name NULL */

#endif
