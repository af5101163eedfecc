/*
 * http.c - see http.h.
 *
 * libmicrohttpd gives every connection a thread, so a handler may wait for its answer. While it
 * waits nobody watches the socket: it looks itself whether the client is still there, and the
 * library's clock for idle connections is stopped meanwhile. What that clock does not see, heads
 * that come in drops, a sweeper ends; bodies have a least speed.
 */
#include "serve/http.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define HEAD_BYTES ((size_t)64 << 10)   /* of a request's line and headers */
#define BODY_SPEED (16 << 10)           /* bytes a second, at least, beyond the time limit */
#define LOOK_MS 200                     /* how often a waiting handler looks for its client */
#define PIECE_BYTES ((size_t)16 << 10)
#define STOP_S      5 /* for answers that are on their way when the server stops */

struct conn { /* one connection, also between requests */
	int fd, busy;   /* busy: a request is being answered */
	int64_t since;  /* that it is not */
	struct conn *next;
};

struct http {
	struct http_opt opt;
	const struct http_about *about;
	struct MHD_Daemon *daemon;
	int fd;
	char url[128];
	int local;
	pthread_mutex_t lock; /* conns, stopping */
	pthread_mutex_t parse; /* a body becomes a request, one at a time: it takes much memory */
	pthread_cond_t changed;
	struct conn *conns;
	size_t n_conn;
	int stopping, sweeping;
	pthread_t sweeper;
	atomic_int exchanges;
};

enum stage { FIRST, PIECES, OVER };

/* One request and its answer. */
struct exchange {
	struct http *h;
	struct MHD_Connection *mc;
	struct conn *conn;
	const struct route *route;
	const char *id;        /* of /v1/models/ID */
	int64_t started;
	struct buf body;
	size_t got;            /* bytes of it, kept or not */
	struct refusal why;    /* status 0 = it is not refused so far */
	struct job *job;       /* NULL = the model has nothing to do */
	int status, domain;
	enum stage stage;      /* of a stream */
	size_t sent;           /* of the job's text */
	struct buf out;
	size_t out_at;
};

typedef enum MHD_Result handler(struct exchange *x);
static handler do_chat, do_text, do_models, do_model, do_health, do_metrics;

/* To add a path, do this: a row and a function; docs/SERVE.md. A path that ends in / takes a name
 * behind it. */
static const struct route { const char *method, *path; handler *run; int open; } routes[] = {
	{ "POST", "/v1/chat/completions", do_chat, 0 },
	{ "POST", "/v1/completions", do_text, 0 },
	{ "GET", "/v1/models", do_models, 0 },
	{ "GET", "/v1/models/", do_model, 0 },
	{ "GET", "/metrics", do_metrics, 0 },
	{ "GET", "/health", do_health, 1 }, /* open: without a key, too */
};

/* ---- answers ---- */

/* Takes b's bytes. extra: name, value, ..., NULL. */
static enum MHD_Result reply(struct exchange *x, int status, const char *type, struct buf *b,
	const char *const *extra)
{
	static char nothing[] =
		"{\"error\": {\"message\": \"out of memory\", \"type\": \"server_error\", \"param\": null, "
		"\"code\": \"out_of_memory\"}}";
	struct MHD_Response *r;
	enum MHD_Result rc;

	if (b->failed || !b->data) {
		buf_free(b);
		status = 500;
		r = MHD_create_response_from_buffer(sizeof nothing - 1, nothing, MHD_RESPMEM_PERSISTENT);
	} else {
		r = MHD_create_response_from_buffer(b->len, b->data, MHD_RESPMEM_MUST_FREE);
		if (!r)
			buf_free(b);
	}
	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, "Content-Type", type);
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	for (; extra && extra[0]; extra += 2)
		MHD_add_response_header(r, extra[0], extra[1]);
	x->status = status;
	rc = MHD_queue_response(x->mc, (unsigned)status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result reply_json(struct exchange *x, struct buf *b, const char *const *extra)
{
	buf_char(b, '\n'); /* for people at a terminal */
	return reply(x, 200, "application/json", b, extra);
}

static enum MHD_Result reply_error(struct exchange *x, const struct refusal *why)
{
	const char *extra[5] = { NULL };
	char seconds[24];
	struct buf b;

	if (why->status == 429 || why->status == 503) {
		double s = meter_mean(x->h->about->meter) * (double)(queue_length(x->h->about->queue) + 1);

		snprintf(seconds, sizeof seconds, "%d", s < 1 ? 1 : s > 120 ? 120 : (int)s + 1);
		extra[0] = "Retry-After";
		extra[1] = seconds;
	} else if (why->status == 401) {
		extra[0] = "WWW-Authenticate";
		extra[1] = "Bearer";
	} else if (why->status == 405) {
		extra[0] = "Allow";
		extra[1] = strcmp(x->route->method, "GET") ? x->route->method : "GET, HEAD";
	}
	buf_init(&b, 1 << 16);
	answer_error(&b, why);
	buf_char(&b, '\n');
	return reply(x, why->status, "application/json", &b, extra);
}

/* ---- small answers ---- */

static enum MHD_Result do_models(struct exchange *x)
{
	struct buf b;

	buf_init(&b, 1 << 16);
	answer_models(&b, &x->h->about->model);
	return reply_json(x, &b, NULL);
}

static enum MHD_Result do_model(struct exchange *x)
{
	struct refusal why = { 0 };
	struct buf b;

	if (strcmp(x->id, x->h->about->model.id)) {
		refuse(&why, 404, "model_not_found", "model", "no model '%.80s'; there is '%s'", x->id,
			x->h->about->model.id);
		return reply_error(x, &why);
	}
	buf_init(&b, 1 << 16);
	answer_model(&b, &x->h->about->model);
	return reply_json(x, &b, NULL);
}

static enum MHD_Result do_health(struct exchange *x)
{
	struct buf b;

	buf_init(&b, 1 << 10);
	buf_str(&b, "{\"status\": \"ok\"}");
	return reply_json(x, &b, NULL);
}

static enum MHD_Result do_metrics(struct exchange *x)
{
	struct http *h = x->h;
	struct meter_now now = { .queued = queue_length(h->about->queue),
		.queue_most = queue_most(h->about->queue) };
	struct buf b;

	pthread_mutex_lock(&h->lock);
	now.connections = h->n_conn;
	pthread_mutex_unlock(&h->lock);
	buf_init(&b, (size_t)64 << 20);
	meter_page(h->about->meter, &now, &b);
	return reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", &b, NULL);
}

/* ---- what the model answers ---- */

static void idle_clock(struct exchange *x, int on)
{
	MHD_set_connection_option(x->mc, MHD_CONNECTION_OPTION_TIMEOUT, on ? x->h->opt.timeout_s : 0u);
}

static int has_left(const struct exchange *x)
{
	char c;
	ssize_t n = recv(x->conn->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	return !n || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/* Until the job is further than `state` and `seen`: 0, and its lock is held; -1 = the client
 * left. */
static int await(struct exchange *x, enum job_state state, size_t seen)
{
	struct job *j = x->job;
	int left = 0;

	idle_clock(x, 0);
	while (!left) {
		job_wait(j, state, seen, LOOK_MS);
		if (j->state != state || j->text.len > seen)
			break;
		job_unlock(j);
		left = has_left(x);
	}
	idle_clock(x, 1);
	if (!left)
		return 0;
	job_leave(j);
	queue_drop(x->h->about->queue, j);
	x->status = 499;
	return -1;
}

static ssize_t stream(void *cls, uint64_t pos, char *to, size_t most)
{
	struct exchange *x = cls;
	const struct answer_model *m = &x->h->about->model;
	struct job *j = x->job;
	int64_t now = clock_wall() / 1000000000;
	size_t n;

	(void)pos;
	if (x->out_at == x->out.len) {
		x->out_at = 0;
		buf_clear(&x->out);
		if (x->stage == OVER)
			return MHD_CONTENT_READER_END_OF_STREAM;
		if (x->stage == FIRST) {
			job_lock(j);
			answer_first(&x->out, m, j, now);
			job_unlock(j);
			x->stage = PIECES;
		} else {
			if (await(x, JOB_RUNS, x->sent))
				return MHD_CONTENT_READER_END_WITH_ERROR;
			if (j->text.len > x->sent) {
				answer_piece(&x->out, m, j, now, x->sent);
				x->sent = j->text.len;
			} else {
				x->stage = OVER;
				if (j->state == JOB_DONE)
					answer_last(&x->out, m, j, now);
				else
					answer_broken(&x->out, &j->why);
				x->status = j->state == JOB_DONE ? 200 : j->why.status;
			}
			job_unlock(j);
		}
		if (x->out.failed)
			return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	n = x->out.len - x->out_at < most ? x->out.len - x->out_at : most;
	memcpy(to, x->out.data + x->out_at, n);
	x->out_at += n;
	return (ssize_t)n;
}

static enum MHD_Result reply_stream(struct exchange *x, const char *seq)
{
	struct MHD_Response *r = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, PIECE_BYTES, stream, x, NULL);
	enum MHD_Result rc;

	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, "Content-Type", "text/event-stream; charset=utf-8");
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "X-Accel-Buffering", "no"); /* to proxies: as it comes */
	MHD_add_response_header(r, "X-Moescope-Seq", seq);
	x->status = 200;
	rc = MHD_queue_response(x->mc, 200, r);
	MHD_destroy_response(r);
	return rc;
}

/* The job is in the queue. */
static enum MHD_Result answer(struct exchange *x)
{
	struct job *j = x->job;
	enum job_state state;
	struct refusal why;
	char seq[24];
	const char *const extra[] = { "X-Moescope-Seq", seq, NULL };
	struct buf b;

	if (await(x, JOB_WAITS, SIZE_MAX))
		return MHD_NO;
	state = j->state;
	why = j->why;
	snprintf(seq, sizeof seq, "%" PRIu64, j->seq);
	job_unlock(j);
	if (state == JOB_FAILED)
		return reply_error(x, &why);
	if (j->req.stream)
		return reply_stream(x, seq);
	if (await(x, JOB_RUNS, SIZE_MAX))
		return MHD_NO;
	job_unlock(j); /* it is over: nobody changes it any more */
	if (j->state == JOB_FAILED)
		return reply_error(x, &j->why);
	buf_init(&b, (size_t)1 << 31);
	answer_whole(&b, &x->h->about->model, j, clock_wall() / 1000000000);
	return reply_json(x, &b, extra);
}

/* The header goes before the body. */
static int find_domain(struct exchange *x, struct refusal *why)
{
	const char *name = MHD_lookup_connection_value(x->mc, MHD_HEADER_KIND, "X-Moescope-Domain");
	const char *from = name ? "X-Moescope-Domain" : "moescope_domain";
	struct domains *d = x->h->about->domains;
	struct moe_err e = { 0 };

	if (!name)
		name = x->job->req.domain;
	if (name && domains_check(name, &e))
		return refuse(why, 400, "invalid_domain", from, "%s", e.msg);
	x->job->domain = domains_find(d, name, &x->job->domain_full);
	x->job->domain_name = domains_name(d, x->job->domain);
	return 0;
}

/* From the body to tokens; what is not needed any more is freed. */
static int understand(struct exchange *x, enum request_kind kind, struct refusal *why)
{
	const struct http_about *a = x->h->about;
	struct job *j = x->job;
	int rc;

	pthread_mutex_lock(&x->h->parse);
	rc = request_parse(&j->req, kind, x->body.data, x->body.len, &a->defaults, why);
	buf_free(&x->body);
	if (!rc)
		rc = request_encode(&j->req, a->tok, a->row, a->n_vocab, a->n_ctx, &j->ids, &j->n_ids, why);
	if (!rc)
		rc = request_settle(&j->req, why);
	else
		request_free(&j->req);
	pthread_mutex_unlock(&x->h->parse);
	return rc;
}

static int prepare(struct exchange *x, enum request_kind kind, struct refusal *why)
{
	const struct http_about *a = x->h->about;
	struct moe_err e = { 0 };
	struct job *j;
	int64_t room, most;

	x->job = j = job_new(&e);
	if (!j)
		return refuse(why, 500, "out_of_memory", NULL, "%s", e.msg);
	if (understand(x, kind, why) || find_domain(x, why))
		return -1;
	room = (int64_t)(a->n_ctx - j->n_ids) + 1; /* the last token is not fed */
	most = j->req.most >= 0 ? j->req.most : kind == REQUEST_CHAT ? a->most_chat : a->most_text;
	j->most = most < 0 || most > room ? room : most;
	return queue_put(a->queue, j, why);
}

static enum MHD_Result ask_model(struct exchange *x, enum request_kind kind)
{
	struct refusal why = { 0 };

	if (!x->body.data) {
		refuse(&why, 400, "invalid_json", NULL, "the body is empty, expected a JSON object");
		return reply_error(x, &why);
	}
	if (prepare(x, kind, &why)) {
		job_release(x->job);
		x->job = NULL;
		return reply_error(x, &why);
	}
	x->domain = (int)x->job->domain;
	return answer(x);
}

static enum MHD_Result do_chat(struct exchange *x)
{
	return ask_model(x, REQUEST_CHAT);
}

static enum MHD_Result do_text(struct exchange *x)
{
	return ask_model(x, REQUEST_TEXT);
}

/* ---- requests ---- */

static void find_route(struct exchange *x, const char *url, const char *method)
{
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
		size_t n = strlen(routes[i].path);
		int deep = routes[i].path[n - 1] == '/';

		if (deep ? strncmp(url, routes[i].path, n) || !url[n] : strcmp(url, routes[i].path))
			continue;
		x->route = &routes[i];
		x->id = url + n;
		if (strcmp(method, routes[i].method) &&
			(strcmp(method, "HEAD") || strcmp(routes[i].method, "GET")))
			refuse(&x->why, 405, "method_not_allowed", NULL, "%s is for %s, not %.20s",
				routes[i].path, routes[i].method, method);
		return;
	}
	refuse(&x->why, 404, "unknown_url", NULL, "no such path: %.20s %.100s", method, url);
}

/* All that the head of a request tells. */
static void look_at_head(struct exchange *x, const char *url, const char *method)
{
	const struct keys *keys = x->h->about->keys;
	const char *length = MHD_lookup_connection_value(x->mc, MHD_HEADER_KIND, "Content-Length");

	find_route(x, url, method);
	if (MHD_lookup_connection_value(x->mc, MHD_HEADER_KIND, "Origin"))
		refuse(&x->why, 403, "cross_origin", NULL,
			"requests of web pages are not answered (header Origin)");
	else if (keys && (!x->route || !x->route->open) &&
	    !keys_allow(keys, MHD_lookup_connection_value(x->mc, MHD_HEADER_KIND, "Authorization")))
		refuse(&x->why, 401, "invalid_api_key", NULL,
			"this server wants a key: Authorization: Bearer KEY");
	else if (!x->why.status && length && strtoull(length, NULL, 10) > x->h->opt.body_most)
		refuse(&x->why, 413, "body_too_large", NULL, "the body has %.20s bytes, the limit is %zu",
			length, x->h->opt.body_most);
}

/* A piece of the body: what is too much is read and forgotten, so that the client gets to its
 * answer. */
static enum MHD_Result take(struct exchange *x, const char *data, size_t n)
{
	size_t most = x->h->opt.body_most;
	int64_t limit = x->h->opt.timeout_s + (int64_t)(x->got / BODY_SPEED);

	if (x->got + n > most && !x->why.status)
		refuse(&x->why, 413, "body_too_large", NULL, "the body has more than %zu bytes", most);
	x->got += n;
	if (x->got > 8 * most + PIECE_BYTES || clock_mono() - x->started > limit * 1000000000) {
		x->status = x->why.status ? x->why.status : 408;
		return MHD_NO;
	}
	if (x->why.status)
		buf_free(&x->body);
	else
		buf_add(&x->body, data, n);
	return MHD_YES;
}

static void conn_busy(struct http *h, struct conn *c, int busy)
{
	pthread_mutex_lock(&h->lock);
	c->busy = busy;
	c->since = clock_mono();
	pthread_mutex_unlock(&h->lock);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url,
	const char *method, const char *version, const char *data, size_t *n, void **state)
{
	struct exchange *x = *state;
	size_t got = *n;

	(void)version;
	if (!x) {
		struct conn *c =
			MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

		x = *state = c ? calloc(1, sizeof *x) : NULL;
		if (!x)
			return MHD_NO;
		x->h = cls;
		x->mc = mc;
		x->conn = c;
		x->started = clock_mono();
		x->domain = -1;
		buf_init(&x->body, x->h->opt.body_most);
		buf_init(&x->out, (size_t)1 << 31);
		atomic_fetch_add(&x->h->exchanges, 1);
		conn_busy(x->h, x->conn, 1);
		look_at_head(x, url, method);
		if (x->why.status && MHD_lookup_connection_value(mc, MHD_HEADER_KIND, "Expect"))
			return reply_error(x, &x->why); /* the client waits before it sends its body */
		return MHD_YES;
	}
	if (got) {
		*n = 0;
		return take(x, data, got);
	}
	return x->why.status ? reply_error(x, &x->why) : x->route->run(x);
}

static void on_completed(void *cls, struct MHD_Connection *mc, void **state,
	enum MHD_RequestTerminationCode how)
{
	struct exchange *x = *state;
	struct http *h = cls;

	(void)mc;
	if (!x)
		return;
	*state = NULL;
	if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK && (!x->status || x->status == 200))
		x->status = 499;
	if (x->job) {
		job_leave(x->job);
		queue_drop(h->about->queue, x->job);
	}
	meter_request(h->about->meter, x->status, x->domain,
		x->job && x->status == 200 ? (double)(clock_mono() - x->job->arrived) * 1e-9 : -1);
	job_release(x->job);
	buf_free(&x->body);
	buf_free(&x->out);
	conn_busy(h, x->conn, 0);
	free(x);
	atomic_fetch_sub(&h->exchanges, 1);
}

/* ---- connections ---- */

static void on_connection(void *cls, struct MHD_Connection *mc, void **context,
	enum MHD_ConnectionNotificationCode what)
{
	struct http *h = cls;
	struct conn *c = *context;

	pthread_mutex_lock(&h->lock);
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		c = *context = calloc(1, sizeof *c);
		if (c) {
			c->fd = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
			c->since = clock_mono();
			c->next = h->conns;
			h->conns = c;
			h->n_conn++;
		}
	} else if (c) { /* before its socket is closed */
		struct conn **p = &h->conns;

		while (*p != c)
			p = &(*p)->next;
		*p = c->next;
		h->n_conn--;
		free(c);
		*context = NULL;
	}
	pthread_mutex_unlock(&h->lock);
}

/* Ends connections whose next request does not come to an end of its head. */
static void *sweep(void *arg)
{
	struct http *h = arg;

	pthread_mutex_lock(&h->lock);
	while (!h->stopping) {
		int64_t now = clock_mono();
		struct timespec until = { (time_t)(now / 1000000000) + 1, (long)(now % 1000000000) };

		for (struct conn *c = h->conns; c; c = c->next)
			if (!c->busy && now - c->since > h->opt.timeout_s * INT64_C(1000000000))
				shutdown(c->fd, SHUT_RDWR);
		pthread_cond_timedwait(&h->changed, &h->lock, &until);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* ---- start and stop ---- */

static int is_local(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
	return a->sa_family == AF_INET6 &&
		IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static int listen_on(struct http *h, struct moe_err *e)
{
	struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
	struct sockaddr_storage bound;
	socklen_t len = sizeof bound;
	char port[8], host[64];
	int rc, on = 1;

	snprintf(port, sizeof port, "%d", h->opt.port);
	rc = getaddrinfo(h->opt.host, port, &want, &list);
	if (rc)
		return err_set(e, MOE_ERR_USAGE, "--host %s: %s", h->opt.host, gai_strerror(rc));
	h->fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (h->fd >= 0)
		setsockopt(h->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	rc = h->fd < 0 || bind(h->fd, list->ai_addr, list->ai_addrlen) || listen(h->fd, 128) ||
		getsockname(h->fd, (struct sockaddr *)&bound, &len);
	freeaddrinfo(list);
	if (rc)
		return err_errno(e, "listening on %s port %d", h->opt.host, h->opt.port);
	rc = getnameinfo((struct sockaddr *)&bound, len, host, sizeof host, port, sizeof port,
		NI_NUMERICHOST | NI_NUMERICSERV);
	if (rc)
		return err_set(
			e, MOE_ERR_SYS, "naming the address of %s: %s", h->opt.host, gai_strerror(rc));
	snprintf(
		h->url, sizeof h->url, strchr(host, ':') ? "http://[%s]:%s" : "http://%s:%s", host, port);
	h->local = is_local((struct sockaddr *)&bound);
	return 0;
}

/* Paths stay as they came: none of ours has anything to decode. */
static size_t as_it_is(void *cls, struct MHD_Connection *mc, char *s)
{
	(void)cls, (void)mc;
	return strlen(s);
}

struct http *http_open(const struct http_opt *o, struct moe_err *e)
{
	struct http *h = calloc(1, sizeof *h);
	pthread_condattr_t a;

	if (!h) {
		err_nomem(e, sizeof *h, "the server");
		return NULL;
	}
	h->opt = *o;
	h->fd = -1;
	pthread_mutex_init(&h->lock, NULL);
	pthread_mutex_init(&h->parse, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&h->changed, &a);
	pthread_condattr_destroy(&a);
	if (!listen_on(h, e))
		return h;
	http_close(h);
	return NULL;
}

int http_start(struct http *h, const struct http_about *about, struct moe_err *e)
{
	h->about = about;
	h->daemon = MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD |
			MHD_USE_THREAD_PER_CONNECTION | MHD_USE_ITC,
		0, NULL, NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, h->fd, MHD_OPTION_CONNECTION_LIMIT,
		h->opt.connections, MHD_OPTION_CONNECTION_TIMEOUT, h->opt.timeout_s,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEAD_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
		h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_UNESCAPE_CALLBACK, as_it_is, NULL, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
		MHD_OPTION_END);
	if (!h->daemon)
		return err_set(e, MOE_ERR_SYS, "the server does not start on %s", h->url);
	if (pthread_create(&h->sweeper, NULL, sweep, h))
		return err_set(e, MOE_ERR_SYS, "no thread for the server");
	h->sweeping = 1;
	return 0;
}

const char *http_url(const struct http *h)
{
	return h->url;
}

int http_is_local(const struct http *h)
{
	return h->local;
}

void http_close(struct http *h)
{
	static const struct timespec pause = { 0, 10000000 };

	if (!h)
		return;
	if (h->daemon) {
		queue_close(h->about->queue);
		MHD_quiesce_daemon(h->daemon);
		for (int i = 0; i < STOP_S * 100 && atomic_load(&h->exchanges); i++)
			nanosleep(&pause, NULL);
		MHD_stop_daemon(h->daemon);
	}
	pthread_mutex_lock(&h->lock);
	h->stopping = 1;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
	if (h->sweeping)
		pthread_join(h->sweeper, NULL);
	if (h->fd >= 0)
		close(h->fd);
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->parse);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
