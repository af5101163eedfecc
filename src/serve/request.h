/*
 * request.h - what a client asks for: the body of POST /v1/chat/completions and /v1/completions.
 *
 * A pure function of the bytes. A table of fields (request.c) says what each may hold; a field that
 * would change the answer and that this server cannot honour is refused by name, a field that it
 * does not know is ignored, null is the same as nothing. Bytes are untrusted: invalid UTF-8, NUL
 * characters (also as \u0000) and fields given twice are refused.
 */
#ifndef SERVE_REQUEST_H
#define SERVE_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "model/sampler.h"
#include "serve/stop.h"
#include "tok/chat.h"

enum request_kind { REQUEST_CHAT, REQUEST_TEXT };

/* Why a request is refused, as HTTP and the body say it. */
struct refusal {
	int status;       /* of HTTP; 0 = it is not refused */
	char code[40];    /* "context_length_exceeded"; "" = null */
	char param[64];   /* the field; "" = null */
	char msg[512];    /* UTF-8, one line, printable */
};
/* Fill in; returns -1. */
int refuse(struct refusal *r, int status, const char *code, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

struct request {
	enum request_kind kind;
	struct chat_message *message; /* [n_message]; text is borrowed from json */
	size_t n_message;
	const char *text;      /* the prompt, or NULL: */
	int32_t *ids;          /* [n_ids] the prompt as tokens */
	size_t n_ids;
	int64_t most;          /* tokens to generate; -1 = not said */
	struct sampler_opt sampler;
	int has_seed, has_logprobs, ignore_end, stream, want_usage;
	int logprobs;          /* log probabilities, and so many alternatives; -1 = not asked for */
	struct stop stop;      /* texts are borrowed from json, or own */
	const char *domain, *user; /* NULL = not said; as those */
	void *json;
	char *own;
};

/* body [n], and a NUL behind it. defaults: what a request that does not say is sampled with. 0, or
 * -1 + why; free in both cases. */
int request_parse(struct request *r, enum request_kind kind, const char *body, size_t n,
	const struct sampler_opt *defaults, struct refusal *why);
void request_free(struct request *r);

/* The prompt as tokens, into *ids (malloced): through the template, where what messages say is text
 * whatever it spells. A prompt of no text starts where documents start. row NULL: the model has no
 * template. -1 + why, where it does not fit into n_ctx too. Thread-safe. */
int request_encode(const struct request *r, const struct tok *tok, const struct chat_row *row,
	size_t n_vocab, size_t n_ctx, int32_t **ids, size_t *n, struct refusal *why);

/* The prompt was encoded: it is forgotten, and the rest takes little memory then. -1 + why. */
int request_settle(struct request *r, struct refusal *why);

#endif
