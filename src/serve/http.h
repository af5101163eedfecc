/*
 * http.h - the server: connections, paths, limits (libmicrohttpd, a thread for each connection).
 *
 *	POST /v1/chat/completions, /v1/completions   parsed and encoded here, then queued
 *	GET  /v1/models, /v1/models/ID, /health, /metrics
 *
 * Plain HTTP: TLS belongs in front of it. Requests that a browser sends for another site (they have
 * a header Origin) are refused. Every error is an answer of OpenAI's shape, but those of HTTP
 * itself. The threads of connections read what `about` points to and never change it.
 */
#ifndef SERVE_HTTP_H
#define SERVE_HTTP_H

#include "serve/answer.h"
#include "serve/keys.h"
#include "serve/meter.h"

/* Borrowed until http_close(). */
struct http_about {
	struct answer_model model;
	const struct tok *tok;
	const struct chat_row *row;    /* NULL = the model has no template */
	size_t n_vocab, n_ctx;
	struct sampler_opt defaults;
	/* Tokens of an answer where a request does not say; -1 = up to the context. */
	int64_t most_chat, most_text;
	struct queue *queue;
	struct domains *domains;
	struct meter *meter;
	const struct keys *keys;       /* NULL = everybody may ask */
};

struct http_opt {
	const char *host;
	int port;             /* 0 = any that is free */
	size_t body_most;     /* bytes */
	unsigned connections;
	unsigned timeout_s;   /* of a request's bytes, and of a client that reads nothing */
};

struct http;
/* Listens; who connects waits until http_start(). */
struct http *http_open(const struct http_opt *o, struct moe_err *e);
int http_start(struct http *h, const struct http_about *about, struct moe_err *e);
/* The address that it is bound to, "http://127.0.0.1:8080"; lives as long as h. */
const char *http_url(const struct http *h);
/* It cannot be reached from other machines. */
int http_is_local(const struct http *h);
/* No new connections, and the queue is closed; those that are there get a few seconds to take their
 * answers. No job may be running. NULL is fine. */
void http_close(struct http *h);

#endif
