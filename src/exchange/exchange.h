/*
 * exchange.h - traces in other programs' forms: in and out.
 *
 * One table of formats (exchange.c). What comes in becomes an ordinary run with state `imported`;
 * what goes out comes from the reader, so that it holds what `stat` and `routing` hold. Files are
 * untrusted and read twice, first to check every line and to learn the shape, then to write: a file
 * with a mistake changes nothing. Memory is bounded by the model's shape and the number of
 * sequences, not by the length of the file. docs/TRACE.md has the forms.
 */
#ifndef EXCHANGE_EXCHANGE_H
#define EXCHANGE_EXCHANGE_H

#include <stdio.h>

#include "trace/reader.h"

struct exchange_in {
	const char *path;     /* the file */
	const char *db;       /* the database to add a run to */
	const char *domain;   /* of all of it; NULL = what the file says */
	const char *model;    /* name of the model; NULL = the file's name */
	long long top_k;      /* picks per token, for forms that do not say; 0 = not given */
	long long n_expert;   /* experts of a layer; 0 = the largest id + 1 */
	long long run;        /* only rows of this run; 0 = the file must hold one run only */
	enum moe_weights weights;
	int sums;             /* decisions are not kept, whatever the form says of them */
	const struct moe_trace_sink *sink; /* who must know what is stored; NULL = nobody */
};

struct exchange_done { int64_t run; uint64_t rows, tokens; uint32_t layers; };

struct exchange_out {
	struct reader *r;
	struct load_filter f; /* run must be known */
	FILE *to;             /* can be moved in, if the format says so */
};

struct exchange_format {
	const char *name, *what;
	const char *ending;   /* of file names, with the dot */
	int seeks;            /* does it need an output that can be moved in? */
	int (*detect)(const char *head, size_t n); /* are these a file's first bytes? NULL = never */
	int (*import)(const struct exchange_in *in, struct exchange_done *done, struct moe_err *e);
	int (*export)(const struct exchange_out *out, struct moe_err *e);
};

const struct exchange_format *exchange_find(const char *name);  /* NULL if there is none */
const struct exchange_format *exchange_at(size_t i);            /* NULL after the last */

/* By its first bytes; NULL and why if no format knows them. */
const struct exchange_format *exchange_detect(const char *path, struct moe_err *e);

/* The functions of the table. */
int counts_csv_detect(const char *head, size_t n);
int counts_csv_import(const struct exchange_in *in, struct exchange_done *done, struct moe_err *e);
int counts_csv_export(const struct exchange_out *out, struct moe_err *e);
int decisions_csv_detect(const char *head, size_t n);
int decisions_csv_import(const struct exchange_in *in, struct exchange_done *done,
	struct moe_err *e);
int decisions_csv_export(const struct exchange_out *out, struct moe_err *e);
int decisions_jsonl_detect(const char *head, size_t n);
int decisions_jsonl_import(const struct exchange_in *in, struct exchange_done *done,
	struct moe_err *e);
int decisions_jsonl_export(const struct exchange_out *out, struct moe_err *e);
int npz_export(const struct exchange_out *out, struct moe_err *e);

#endif
