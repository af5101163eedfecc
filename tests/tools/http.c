/*
 * http.c - a small HTTP client for tests, and the wrong things that a good one does not do.
 *
 * usage: http [OPTIONS] PORT PATH      127.0.0.1; the answer's head goes to stderr, its body to
 * stdout
 *
 *	-H 'NAME: VALUE'   a header          -d TEXT, -D FILE   a body: POST
 *	-X METHOD                            --chunked          send it in chunks, without a length
 *	--leave N          close the connection after N bytes of the answer's body (0: after sending)
 *	--drip MS          send byte after byte, so many milliseconds apart
 *	--raw FILE         send these bytes as they are; what comes back is printed as it is
 *	--slow             read nothing for two seconds, then everything
 *
 * Exit status: 0 an answer came whole (or --leave), 1 it did not, 2 wrong usage. Nothing takes
 * longer than 120 seconds.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

static struct buf out, in, headers, body;
static long leave = -1, drip;
static int slow;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "http: %s\n", what);
	exit(1);
}

static void pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static int dial(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a))
		die("cannot connect");
	return fd;
}

/* An error is not the end: the answer may be there already. */
static void send_all(int fd)
{
	for (size_t at = 0; at < out.len;) {
		ssize_t n = send(fd, out.data + at, drip ? 1 : out.len - at, MSG_NOSIGNAL);

		if (n < 0)
			return;
		at += (size_t)n;
		if (drip)
			pause_ms(drip);
	}
}

/* More bytes into `in`: 0 = the end. */
static int more(int fd)
{
	char piece[65536];
	ssize_t n = recv(fd, piece, sizeof piece, 0);

	if (n <= 0)
		return 0;
	buf_add(&in, piece, (size_t)n);
	return 1;
}

/* The value of a header in the head [n], or NULL. */
static const char *header(size_t n, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = in.data;
		 (p = memchr(p, '\n', n - (size_t)(p - in.data))) && ++p < in.data + n;)
		if (!strncasecmp(p, name, len) && p[len] == ':')
			return p + len + 1 + strspn(p + len + 1, " ");
	return NULL;
}

static void body_out(const char *s, size_t n)
{
	static long given;

	if (leave >= 0 && given + (long)n >= leave) {
		fwrite(s, 1, (size_t)(leave - given), stdout);
		exit(0); /* closes the connection */
	}
	given += (long)n;
	fwrite(s, 1, n, stdout);
	fflush(stdout);
}

static int chunks(int fd, size_t at)
{
	for (;;) {
		char *line, *end;
		size_t n;

		while (!(end = in.len > at ? memchr(in.data + at, '\n', in.len - at) : NULL))
			if (!more(fd))
				return 1;
		line = in.data + at;
		n = strtoul(line, NULL, 16);
		at = (size_t)(end + 1 - in.data);
		while (in.len < at + n + 2)
			if (!more(fd))
				return 1;
		if (!n)
			return 0;
		body_out(in.data + at, n);
		at += n + 2;
	}
}

static int answer(int fd, int head_only)
{
	char *end;
	const char *v;
	size_t n;

	for (;;) {
		while (!(end = in.data ? strstr(in.data, "\r\n\r\n") : NULL))
			if (!more(fd))
				return 1;
		n = (size_t)(end + 4 - in.data);
		fwrite(in.data, 1, n, stderr);
		if (strncmp(in.data, "HTTP/1.1 100", 12))
			break;
		memmove(in.data, in.data + n, in.len - n + 1);
		in.len -= n;
	}
	if (leave == 0)
		return 0;
	if (head_only)
		return 0;
	v = header(n, "Transfer-Encoding");
	if (v && !strncasecmp(v, "chunked", 7))
		return chunks(fd, n);
	v = header(n, "Content-Length");
	while (v && in.len < n + strtoul(v, NULL, 10)) {
		if (!more(fd))
			return 1;
		v = header(n, "Content-Length");
	}
	body_out(in.data + n, in.len - n);
	return 0;
}

static void add_file(struct buf *b, const char *path)
{
	FILE *f = fopen(path, "rb");
	char piece[65536];
	size_t n;

	if (!f)
		die("cannot read the file");
	while ((n = fread(piece, 1, sizeof piece, f)) > 0)
		buf_add(b, piece, n);
	fclose(f);
}

static void add_body(int chunked)
{
	if (!chunked) {
		buf_printf(&out, "Content-Length: %zu\r\n\r\n", body.len);
		buf_add(&out, body.data, body.len);
		return;
	}
	buf_str(&out, "Transfer-Encoding: chunked\r\n\r\n");
	for (size_t at = 0, n; at < body.len; at += n) {
		n = body.len - at < 1000 ? body.len - at : 1000;
		buf_printf(&out, "%zx\r\n", n);
		buf_add(&out, body.data + at, n);
		buf_str(&out, "\r\n");
	}
	buf_str(&out, "0\r\n\r\n");
}

int main(int argc, char **argv)
{
	const char *method = NULL, *raw = NULL;
	int fd, i, chunked = 0, has_body = 0;

	alarm(120);
	buf_init(&out, (size_t)1 << 30);
	buf_init(&in, (size_t)1 << 30);
	buf_init(&headers, 1 << 24);
	buf_init(&body, (size_t)1 << 30);
	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		const char *a = argv[i];

		if (!strcmp(a, "--chunked"))
			chunked = 1;
		else if (!strcmp(a, "--slow"))
			slow = 1;
		else if (++i >= argc)
			return 2;
		else if (!strcmp(a, "-H"))
			buf_printf(&headers, "%s\r\n", argv[i]);
		else if (!strcmp(a, "-d"))
			has_body = 1, buf_str(&body, argv[i]);
		else if (!strcmp(a, "-D"))
			has_body = 1, add_file(&body, argv[i]);
		else if (!strcmp(a, "-X"))
			method = argv[i];
		else if (!strcmp(a, "--leave"))
			leave = atol(argv[i]);
		else if (!strcmp(a, "--drip"))
			drip = atol(argv[i]);
		else if (!strcmp(a, "--raw"))
			raw = argv[i];
		else
			return 2;
	}
	if (argc - i != 2 - (raw != NULL))
		return 2;
	fd = dial(atoi(argv[i]));
	if (raw) {
		add_file(&out, raw);
		send_all(fd);
		while (more(fd))
			;
		fwrite(in.data ? in.data : "", 1, in.len, stdout);
		return in.len ? 0 : 1;
	}
	if (!method)
		method = has_body ? "POST" : "GET";
	buf_printf(
		&out, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n", method, argv[i + 1]);
	buf_add(&out, headers.data ? headers.data : "", headers.len);
	if (has_body)
		add_body(chunked);
	else
		buf_str(&out, "\r\n");
	send_all(fd);
	if (slow)
		pause_ms(2000);
	return leave == 0 ? 0 : answer(fd, !strcmp(method, "HEAD"));
}
