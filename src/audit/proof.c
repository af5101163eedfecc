/*
 * proof.c - see proof.h. The reader takes exactly what proof_*() write: an object of strings, whole
 * numbers and lists of strings, each key once; anything else is refused.
 */
#include "audit/proof.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "audit/payload.h"
#include "base/err.h"
#include "base/utf8.h"
#include "event/event.h"

/* ---- writing ---- */

void proof_string(struct buf *b, const char *s, size_t n)
{
	uint32_t c;

	buf_char(b, '"');
	for (size_t i = 0, len; i < n; i += len) {
		len = utf8_decode(s + i, n - i, &c);
		if (!len) {
			len = 1;
			c = 0xfffd;
		}
		if (c == '"' || c == '\\')
			buf_printf(b, "\\%c", (int)c);
		else if (c == '\n')
			buf_str(b, "\\n");
		else if (c >= 0x20 && c < 0x7f)
			buf_char(b, (char)c);
		else if (c < 0x10000)
			buf_printf(b, "\\u%04x", c);
		else
			buf_printf(b, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
	}
	buf_char(b, '"');
}

static void add_base64(struct buf *b, const char *key, const void *p, size_t n)
{
	buf_printf(b, ",\n \"%s\": \"", key);
	base64_add(b, p, n);
	buf_char(b, '"');
}

static void add_path(struct buf *b, const unsigned char (*path)[SHA_BYTES], int n)
{
	buf_str(b, ",\n \"path\": [");
	for (int i = 0; i < n; i++) {
		buf_str(b, i ? ", \"" : "\"");
		base64_add(b, path[i], SHA_BYTES);
		buf_char(b, '"');
	}
	buf_char(b, ']');
}

static void add_note(struct buf *b, const char *key, const char *note, size_t n)
{
	buf_printf(b, ",\n \"%s\": ", key);
	proof_string(b, note, n);
}

static void begin(struct buf *b, const char *kind)
{
	buf_printf(b, "{\"format\": \"moescope-proof/1\", \"kind\": \"%s\"", kind);
}

static int read_note(const char *note, size_t n, struct checkpoint *c, struct moe_err *e)
{
	size_t text, used;

	return note_shape(note, n, &text, &used, e) || checkpoint_read(c, note, text, e) ? -1 : 0;
}

int proof_inclusion(sqlite3 *db, uint64_t index, int64_t token, int open, const void *payload,
	size_t n_payload, struct buf *out, struct moe_err *e)
{
	unsigned char path[TREE_PATH_MAX][SHA_BYTES];
	struct log_nodes nodes = { 0 };
	struct tree_source src;
	struct log_row row = { 0 };
	struct checkpoint c;
	char *note = NULL;
	size_t n_note;
	int n, bad = -1;

	if (log_note(db, UINT64_MAX, &note, &n_note, e) || log_nodes_open(&nodes, db, e))
		goto out;
	if (!note || read_note(note, n_note, &c, e)) {
		bad = note ? -1
				: err_set(e, MOE_ERR_INPUT, "the log has no checkpoint to prove anything under");
		goto out;
	}
	if (index >= c.size) {
		err_set(e, MOE_ERR_INPUT, "leaf %" PRIu64 " is not under a checkpoint yet: the newest has %"
			PRIu64 " leaves (`audit checkpoint` makes one)", index, c.size);
		goto out;
	}
	src = log_source(&nodes);
	n = tree_path(&src, index, c.size, path, e);
	if (n < 0 || log_read(db, index, &row, e))
		goto out;
	begin(out, "inclusion");
	buf_printf(out, ", \"index\": %" PRIu64 ", \"size\": %" PRIu64, index, c.size);
	if (token >= 0)
		buf_printf(out, ", \"token\": %" PRId64, token);
	add_base64(out, "leaf", row.header, LEAF_BYTES);
	add_path(out, (const void *)path, n);
	add_note(out, "checkpoint", note, n_note);
	if (open && row.has_salt) {
		add_base64(out, "salt", row.salt, LEAF_SALT);
		add_base64(
			out, "payload", payload ? payload : row.payload, payload ? n_payload : row.n_payload);
	}
	buf_str(out, "}\n");
	bad = out->failed ? err_nomem(e, out->len, "a proof") : 0;
out:
	log_row_free(&row);
	log_nodes_close(&nodes);
	free(note);
	return bad;
}

/* The note of exactly this size. */
static int note_of(sqlite3 *db, uint64_t size, char **note, size_t *n, struct moe_err *e)
{
	struct checkpoint c;

	if (log_note(db, size, note, n, e) || (*note && read_note(*note, *n, &c, e)))
		return -1;
	return *note && c.size == size ? 0 : err_set(e, MOE_ERR_USAGE, "no checkpoint of %" PRIu64
		" leaves was signed%s", size, *note ? "" : "; nor a smaller one");
}

int proof_consistency(sqlite3 *db, uint64_t from, uint64_t to, struct buf *out, struct moe_err *e)
{
	unsigned char path[TREE_CONSISTENCY_MAX][SHA_BYTES];
	struct log_nodes nodes = { 0 };
	struct tree_source src;
	char *a = NULL, *b = NULL;
	size_t n_a, n_b;
	int n, bad = -1;

	if (note_of(db, from, &a, &n_a, e) || note_of(db, to, &b, &n_b, e) ||
		log_nodes_open(&nodes, db, e))
		goto out;
	src = log_source(&nodes);
	n = tree_consistency(&src, from, to, path, e);
	if (n < 0)
		goto out;
	begin(out, "consistency");
	add_note(out, "from", a, n_a);
	add_note(out, "to", b, n_b);
	add_path(out, (const void *)path, n);
	buf_str(out, "}\n");
	bad = out->failed ? err_nomem(e, out->len, "a proof") : 0;
out:
	log_nodes_close(&nodes);
	free(a);
	free(b);
	return bad;
}

void proof_fork(const char *a, size_t n_a, const char *b, size_t n_b, const unsigned char *root,
	const unsigned char (*path)[SHA_BYTES], int n_path, struct buf *out)
{
	begin(out, "fork");
	add_note(out, "from", a, n_a);
	add_note(out, "to", b, n_b);
	if (n_path >= 0) {
		add_base64(out, "root", root, SHA_BYTES);
		add_path(out, path, n_path);
	}
	buf_str(out, "}\n");
}

/* ---- reading ---- */

enum {
	F_FORMAT,
	F_KIND,
	F_LEAF,
	F_CHECKPOINT,
	F_SALT,
	F_PAYLOAD,
	F_FROM,
	F_TO,
	F_ROOT,
	F_INDEX,
	F_SIZE,
	F_TOKEN,
	F_PATH,
	F_COUNT
};
static const char *const field[F_COUNT] = { "format", "kind", "leaf", "checkpoint", "salt",
	"payload", "from", "to", "root", "index", "size", "token", "path" };

struct parsed {
	char *text[F_COUNT];      /* strings, unescaped; numbers as written */
	size_t len[F_COUNT];
	int have[F_COUNT];
	unsigned char path[TREE_CONSISTENCY_MAX][SHA_BYTES];
	size_t n_path;
	const char *p, *end;
};

static void blanks(struct parsed *s)
{
	while (s->p < s->end && strchr(" \t\r\n", *s->p) && *s->p)
		s->p++;
}

static int take(struct parsed *s, char c)
{
	blanks(s);
	if (s->p == s->end || *s->p != c)
		return 0;
	s->p++;
	return 1;
}

static int hex4(const char *p, uint32_t *out)
{
	*out = 0;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (d < 0)
			return -1;
		*out = *out << 4 | (unsigned)d;
	}
	return 0;
}

static size_t put_utf8(char *o, uint32_t c)
{
	if (c < 0x80) {
		o[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		o[0] = (char)(0xc0 | c >> 6);
		o[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		o[0] = (char)(0xe0 | c >> 12);
		o[1] = (char)(0x80 | (c >> 6 & 0x3f));
		o[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	o[0] = (char)(0xf0 | c >> 18);
	o[1] = (char)(0x80 | (c >> 12 & 0x3f));
	o[2] = (char)(0x80 | (c >> 6 & 0x3f));
	o[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* A string's inside, unescaped, malloced. NULL if it is none. */
static char *string(struct parsed *s, size_t *n)
{
	char *out, *o;

	if (!take(s, '"'))
		return NULL;
	out = o = malloc((size_t)(s->end - s->p) + 1);
	while (out && s->p < s->end && *s->p != '"') {
		uint32_t c, low;

		if ((unsigned char)*s->p < 0x20)
			goto bad;
		if (*s->p != '\\') {
			*o++ = *s->p++;
			continue;
		}
		if (s->end - s->p < 2)
			goto bad;
		s->p += 2;
		switch (s->p[-1]) {
		case '"': case '\\': case '/': *o++ = s->p[-1]; break;
		case 'n': *o++ = '\n'; break;
		case 'u':
			if (s->end - s->p < 4 || hex4(s->p, &c))
				goto bad;
			s->p += 4;
			if (c >= 0xd800 && c < 0xdc00) {
				if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' ||
					hex4(s->p + 2, &low) || low < 0xdc00 || low > 0xdfff)
					goto bad;
				s->p += 6;
				c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			} else if (c >= 0xdc00 && c < 0xe000) {
				goto bad;
			}
			o += put_utf8(o, c);
			break;
		default: goto bad;
		}
	}
	if (!out || !take(s, '"'))
		goto bad;
	*o = 0;
	*n = (size_t)(o - out);
	return out;
bad:
	free(out);
	return NULL;
}

static int list(struct parsed *s)
{
	if (!take(s, '['))
		return -1;
	if (take(s, ']'))
		return 0;
	do {
		size_t n;
		char *t = string(s, &n);
		int len = t && s->n_path < TREE_CONSISTENCY_MAX ?
			base64_read(t, n, s->path[s->n_path], SHA_BYTES) : -1;

		free(t);
		if (len != SHA_BYTES)
			return -1;
		s->n_path++;
	} while (take(s, ','));
	return take(s, ']') ? 0 : -1;
}

static int number(struct parsed *s, int f)
{
	const char *at = (blanks(s), s->p);

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	if (s->p == at || s->p - at > 20)
		return -1;
	s->len[f] = (size_t)(s->p - at);
	s->text[f] = strndup(at, s->len[f]);
	return s->text[f] ? 0 : -1;
}

static int parse(struct parsed *s, const char *json, size_t n)
{
	s->p = json;
	s->end = json + n;
	if (!take(s, '{'))
		return -1;
	do {
		size_t len;
		char *key = string(s, &len);
		int f = 0;

		while (key && f < F_COUNT && strcmp(key, field[f]))
			f++;
		free(key);
		if (!key || f == F_COUNT || s->have[f]++ || !take(s, ':'))
			return -1;
		if (f == F_PATH ? list(s) : f >= F_INDEX ? number(s, f) :
			!(s->text[f] = string(s, &s->len[f])))
			return -1;
	} while (take(s, ','));
	if (!take(s, '}'))
		return -1;
	blanks(s);
	return s->p == s->end ? 0 : -1;
}

/* ---- checking ---- */

static int open_note(const struct parsed *s, int f, const struct note_key *keys, size_t n_key,
	struct checkpoint *c, struct moe_err *e)
{
	size_t text, used;

	if (!s->text[f])
		return err_set(e, MOE_ERR_INPUT, "the proof lacks '%s'", field[f]);
	if (note_open(s->text[f], s->len[f], keys, n_key, &text, &used, e) < 0 ||
		checkpoint_read(c, s->text[f], text, e))
		return err_wrap(e, "its %s", field[f]);
	if (used != s->len[f])
		return err_set(e, MOE_ERR_INPUT, "its %s has something behind the note", field[f]);
	for (size_t i = 0; i < n_key; i++)
		if (!strcmp(keys[i].name, c->origin))
			return 0;
	return err_set(e, MOE_ERR_INPUT, "its %s is of log '%s', which no key that was given names",
		field[f], c->origin);
}

static void say_time(struct buf *b, uint64_t ns)
{
	time_t t = (time_t)(ns / 1000000000u);
	struct tm tm;
	char s[40];

	if (gmtime_r(&t, &tm) && strftime(s, sizeof s, "%Y-%m-%dT%H:%M:%SZ", &tm))
		buf_str(b, s);
}

/* Decisions of one position, or how many there are. */
static int say_events(struct buf *b, const unsigned char *p, size_t n, const char *token,
	struct moe_err *e)
{
	unsigned long long want = token ? strtoull(token, NULL, 10) : 0;
	struct event_store *store = malloc(sizeof *store);
	struct moe_event ev;
	size_t count = 0, used;
	int bad = store ? 0 : err_nomem(e, sizeof *store, "decisions");

	for (size_t at = 0; !bad && at < n; at += used, count++) {
		bad = event_decode(p + at, n - at, store, &ev, &used, e);
		if (bad || !token || ev.pos != want)
			continue;
		buf_printf(b, "  position %u, token %d, layer %d:", ev.pos, ev.token, ev.layer);
		for (int k = 0; k < ev.k; k++)
			buf_printf(b, " E%d (%.4f)", ev.experts[k], (double)ev.weights[k]);
		buf_printf(b, ", margin %.4g%s\n", (double)ev.margin,
			ev.flags & MOE_EV_EDITED ? ", edited by a hook" : "");
	}
	if (!bad)
		buf_printf(b, "  the batch holds %zu decisions\n", count);
	free(store);
	return bad ? -1 : 0;
}

static void say_record(struct buf *b, const char *p, size_t n)
{
	size_t at = 0;
	struct record_line l;

	while (record_next(p, n, &at, &l) == 1)
		buf_printf(b, "  %.*s %.*s\n", (int)l.n_key, l.key, (int)l.n_value, l.value);
}

static int check_opening(const struct parsed *s, const struct leaf *l, struct buf *what,
	struct moe_err *e)
{
	unsigned char salt[LEAF_SALT], sum[SHA_BYTES], *payload;
	int n, bad;

	if (!s->text[F_SALT] || !s->text[F_PAYLOAD]) {
		buf_str(what, "  what it commits to is not shown\n");
		return 1;
	}
	payload = malloc(s->len[F_PAYLOAD] + 1);
	if (!payload)
		return err_nomem(e, s->len[F_PAYLOAD], "a payload");
	n = base64_read(s->text[F_PAYLOAD], s->len[F_PAYLOAD], payload, s->len[F_PAYLOAD]);
	if (n < 0 || base64_read(s->text[F_SALT], s->len[F_SALT], salt, sizeof salt) != LEAF_SALT) {
		bad = err_set(e, MOE_ERR_INPUT, "salt or payload is not base64");
	} else {
		leaf_commit(salt, payload, (size_t)n, sum);
		bad = memcmp(sum, l->commit, SHA_BYTES) ? err_set(e, MOE_ERR_INPUT,
			"the payload is not the one that the leaf commits to") : 0;
	}
	if (!bad && l->kind == LEAF_BATCH && l->flags & LEAF_SEALED)
		buf_str(what, "  the payload is encrypted\n");
	else if (!bad && l->kind == LEAF_BATCH && !(l->flags & LEAF_SUMS))
		bad = say_events(what, payload, (size_t)n, s->text[F_TOKEN], e);
	else if (!bad)
		say_record(what, (char *)payload, (size_t)n);
	free(payload);
	return bad ? 0 : 1;
}

static int check_inclusion(const struct parsed *s, const struct note_key *keys, size_t n_key,
	struct buf *what, struct moe_err *e)
{
	unsigned char raw[LEAF_BYTES], hash[SHA_BYTES];
	struct checkpoint c;
	struct leaf l;

	if (open_note(s, F_CHECKPOINT, keys, n_key, &c, e))
		return 0;
	if (!s->text[F_LEAF] ||
		base64_read(s->text[F_LEAF], s->len[F_LEAF], raw, sizeof raw) != LEAF_BYTES ||
		leaf_get(&l, raw, LEAF_BYTES)) {
		err_set(e, MOE_ERR_INPUT, "its leaf is not one");
		return 0;
	}
	if ((s->text[F_INDEX] && strtoull(s->text[F_INDEX], NULL, 10) != l.index) ||
		(s->text[F_SIZE] && strtoull(s->text[F_SIZE], NULL, 10) != c.size)) {
		err_set(e, MOE_ERR_INPUT, "index or size is not that of the leaf and the checkpoint");
		return 0;
	}
	tree_leaf(raw, LEAF_BYTES, hash);
	if (!tree_check_path(l.index, c.size, hash, (const void *)s->path, s->n_path, c.root)) {
		err_set(e, MOE_ERR_INPUT, "the path does not lead from leaf %" PRIu64 " to the root of the "
			"checkpoint of %" PRIu64 " leaves", l.index, c.size);
		return 0;
	}
	buf_printf(what, "leaf %" PRIu64 " of log '%s' (%s of run %" PRIu64, l.index, c.origin,
		leaf_kind_name(l.kind), l.run);
	if (l.seq)
		buf_printf(what, ", sequence %" PRIu64, l.seq);
	if (l.kind == LEAF_BATCH)
		buf_printf(what, ", positions %" PRIu64 " to %" PRIu64, l.first, l.first + l.n - 1);
	buf_str(what, "), written ");
	say_time(what, l.wall);
	buf_printf(what, ", is under the checkpoint of %" PRIu64 " leaves\n", c.size);
	return check_opening(s, &l, what, e);
}

static int check_two(const struct parsed *s, const struct note_key *keys, size_t n_key, int fork,
	struct buf *what, struct moe_err *e)
{
	unsigned char root[SHA_BYTES];
	struct checkpoint a, b;

	if (open_note(s, F_FROM, keys, n_key, &a, e) || open_note(s, F_TO, keys, n_key, &b, e))
		return 0;
	if (strcmp(a.origin, b.origin)) {
		err_set(e, MOE_ERR_INPUT, "its checkpoints are of two logs");
		return 0;
	}
	if (!fork) {
		if (!tree_check_consistency(a.size, b.size, (const void *)s->path, s->n_path, a.root,
				b.root)) {
			err_set(e, MOE_ERR_INPUT,
				"the path does not show that the log of %" PRIu64 " leaves continues "
				"that of %" PRIu64,
				b.size, a.size);
			return 0;
		}
		buf_printf(what,
			"log '%s': the first %" PRIu64 " of its %" PRIu64 " leaves are those of the "
			"earlier checkpoint\n",
			a.origin, a.size, b.size);
		return 1;
	}
	if (a.size == b.size)
		memcpy(root, b.root, sizeof root);
	else if (!s->text[F_ROOT] ||
		base64_read(s->text[F_ROOT], s->len[F_ROOT], root, sizeof root) != SHA_BYTES ||
		!tree_check_consistency(a.size, b.size, (const void *)s->path, s->n_path, root, b.root)) {
		err_set(
			e, MOE_ERR_INPUT, "it does not show which root the larger log has at the smaller size");
		return 0;
	}
	if (!memcmp(root, a.root, sizeof root)) {
		err_set(e, MOE_ERR_INPUT, "the two checkpoints do not contradict each other");
		return 0;
	}
	buf_printf(what, "FORK: of log '%s' the key signed two different first %" PRIu64 " leaves\n",
		a.origin, a.size);
	return 1;
}

int proof_check(const char *json, size_t n, const struct note_key *keys, size_t n_key,
	struct buf *what, struct moe_err *e)
{
	struct parsed *s = calloc(1, sizeof *s);
	int rc = -1;

	if (!s)
		return err_nomem(e, sizeof *s, "a proof");
	if (parse(s, json, n) || !s->text[F_FORMAT] || !s->text[F_KIND])
		err_set(e, MOE_ERR_INPUT, "not a proof: at byte %zu", s->p ? (size_t)(s->p - json) : 0);
	else if (strcmp(s->text[F_FORMAT], "moescope-proof/1"))
		err_set(e, MOE_ERR_INPUT, "a proof of format '%s', this program reads moescope-proof/1",
			s->text[F_FORMAT]);
	else if (!strcmp(s->text[F_KIND], "inclusion"))
		rc = check_inclusion(s, keys, n_key, what, e);
	else if (!strcmp(s->text[F_KIND], "consistency") || !strcmp(s->text[F_KIND], "fork"))
		rc = check_two(s, keys, n_key, s->text[F_KIND][0] == 'f', what, e);
	else
		err_set(e, MOE_ERR_INPUT, "a proof of kind '%s' is unknown", s->text[F_KIND]);
	for (int i = 0; i < F_COUNT; i++)
		free(s->text[i]);
	free(s);
	return rc;
}
