/*
 * npz.c - a run as NumPy arrays: a zip archive of stored .npy members (numpy.load reads it).
 *
 *	layers i32 [L], n_expert i32 [L], k i32 [L]   the MoE layers
 *	tokens u64 [L]                                decisions of a layer
 *	counts u64 [L][E]                             picks; E = most experts of a layer, rest 0
 *	weight_sums, prob_sums f64 [L][E]             sums of gate weights and of the router's softmax
 *	lse2, entropy, confidence, margin f64 [L]     sums as in the table load
 *	n_margin, n_nan u64 [L]
 *
 * and, unless the run was logged at detail `counts`, a row per token in order of sequence and
 * position
 *
 *	sequence u64 [T], document, domain i64 [T]    engine's number; sequence.id; domain.id or 0
 *	position u32 [T], token i32 [T], phase u8 [T]
 *	experts u16 [T][K], weights f32 [T][K]        K = picks of a token over all layers in turn
 *	margins f32 [T][L], flags u8 [T][L]
 *	logits f32 [T][sum of n_expert]               detail `full` only
 *
 * Memory is bounded: every array is a pass of its own. Sizes and checksums are put in place
 * afterwards, so the output must be a file. Sizes are written in 64 bits (zip64).
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "exchange/exchange.h"

enum { MEMBERS = 40, HEADER = 128 };

struct member {
	char name[24];
	uint32_t crc;
	uint64_t at, bytes;
};

struct npz {
	FILE *f;
	struct member m[MEMBERS];
	size_t n;
	uint32_t table[256];
	uint64_t at; /* bytes written */
};

/* ---- zip ---- */

static void crc_table(uint32_t *t)
{
	for (uint32_t i = 0; i < 256; i++) {
		t[i] = i;
		for (int b = 0; b < 8; b++)
			t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0xedb88320 : 0);
	}
}

static void put(struct npz *z, const void *p, size_t n)
{
	z->at += fwrite(p, 1, n, z->f);
}

static void put_le(struct npz *z, uint64_t x, int bytes)
{
	put(z, &x, (size_t)bytes); /* this machine is little-endian: layout.h */
}

static void data(struct npz *z, const void *p, size_t n)
{
	struct member *m = &z->m[z->n - 1];
	const unsigned char *b = p;
	uint32_t c = ~m->crc;

	for (size_t i = 0; i < n; i++)
		c = z->table[(c ^ b[i]) & 255] ^ c >> 8;
	m->crc = ~c;
	m->bytes += n;
	put(z, p, n);
}

/* Local header: sizes in the zip64 field, checksum and sizes again when they are known. */
static void local_header(struct npz *z, const struct member *m)
{
	size_t len = strlen(m->name);

	put_le(z, 0x04034b50, 4);
	put_le(z, 45, 2);
	put_le(z, 0, 2);
	put_le(z, 0, 2);
	put_le(z, 0x00210000, 4); /* 1980-01-01: the same run gives the same bytes */
	put_le(z, m->crc, 4);
	put_le(z, 0xffffffff, 4);
	put_le(z, 0xffffffff, 4);
	put_le(z, len, 2);
	put_le(z, 20, 2);
	put(z, m->name, len);
	put_le(z, 1, 2);
	put_le(z, 16, 2);
	put_le(z, m->bytes, 8);
	put_le(z, m->bytes, 8);
}

static void central_header(struct npz *z, const struct member *m)
{
	size_t len = strlen(m->name);

	put_le(z, 0x02014b50, 4);
	put_le(z, 45, 2);
	put_le(z, 45, 2);
	put_le(z, 0, 2);
	put_le(z, 0, 2);
	put_le(z, 0x00210000, 4);
	put_le(z, m->crc, 4);
	put_le(z, 0xffffffff, 4);
	put_le(z, 0xffffffff, 4);
	put_le(z, len, 2);
	put_le(z, 28, 2);
	put_le(z, 0, 8); /* comment, disk, attributes */
	put_le(z, 0, 2);
	put_le(z, 0xffffffff, 4);
	put(z, m->name, len);
	put_le(z, 1, 2);
	put_le(z, 24, 2);
	put_le(z, m->bytes, 8);
	put_le(z, m->bytes, 8);
	put_le(z, m->at, 8);
}

static void finish(struct npz *z)
{
	uint64_t from = z->at, bytes, end;

	for (size_t i = 0; i < z->n; i++)
		central_header(z, &z->m[i]);
	bytes = z->at - from;
	end = z->at;
	put_le(z, 0x06064b50, 4);
	put_le(z, 44, 8);
	put_le(z, 45, 2);
	put_le(z, 45, 2);
	put_le(z, 0, 8);
	put_le(z, z->n, 8);
	put_le(z, z->n, 8);
	put_le(z, bytes, 8);
	put_le(z, from, 8);
	put_le(z, 0x07064b50, 4);
	put_le(z, 0, 4);
	put_le(z, end, 8);
	put_le(z, 1, 4);
	put_le(z, 0x06054b50, 4);
	put_le(z, 0, 4);
	put_le(z, z->n, 2);
	put_le(z, z->n, 2);
	put_le(z, 0xffffffff, 4);
	put_le(z, 0xffffffff, 4);
	put_le(z, 0, 2);
}

/* ---- arrays ---- */

/* Begin member `name`; columns 0 = one dimension. type: NumPy's, as "<u8". */
static void begin(struct npz *z, const char *name, const char *type, uint64_t rows,
	uint64_t columns)
{
	struct member *m = &z->m[z->n++];
	char head[HEADER], shape[64];

	*m = (struct member){ .at = z->at };
	snprintf(m->name, sizeof m->name, "%s.npy", name);
	local_header(z, m);
	if (columns)
		snprintf(shape, sizeof shape, "(%llu, %llu)", (unsigned long long)rows,
			(unsigned long long)columns);
	else
		snprintf(shape, sizeof shape, "(%llu,)", (unsigned long long)rows);
	memset(head, ' ', sizeof head);
	memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10); /* version 1.0, 118 bytes follow */
	head[10 + snprintf(head + 10, sizeof head - 10, "{'descr': '%s', 'fortran_order': False, "
		"'shape': %s, }", type, shape)] = ' ';
	head[HEADER - 1] = '\n';
	data(z, head, sizeof head);
}

/* The member is whole: put its checksum and sizes into its header. */
static int end(struct npz *z, struct moe_err *e)
{
	uint64_t at = z->at;

	if (fseeko(z->f, (off_t)z->m[z->n - 1].at, SEEK_SET))
		return err_errno(e, "moving in the output");
	local_header(z, &z->m[z->n - 1]);
	if (fseeko(z->f, 0, SEEK_END))
		return err_errno(e, "moving in the output");
	z->at = at;
	return ferror(z->f) ? err_errno(e, "writing the output") : 0;
}

static int array(struct npz *z, const char *name, const char *type, const void *p, size_t size,
	uint64_t rows, uint64_t columns, struct moe_err *e)
{
	begin(z, name, type, rows, columns);
	data(z, p, size * rows * (columns ? columns : 1));
	return end(z, e);
}

/* ---- counts ---- */

static int sums(struct npz *z, const struct load_set *s, struct moe_err *e)
{
	static const struct { const char *name, *type; size_t at; } wide[] = {
		{ "counts", "<u8", offsetof(struct layer_load, counts) },
		{ "weight_sums", "<f8", offsetof(struct layer_load, weights) },
		{ "prob_sums", "<f8", offsetof(struct layer_load, probs) },
	}, narrow[] = {
		{ "tokens", "<u8", offsetof(struct layer_load, tokens) },
		{ "lse2", "<f8", offsetof(struct layer_load, lse2) },
		{ "entropy", "<f8", offsetof(struct layer_load, entropy) },
		{ "confidence", "<f8", offsetof(struct layer_load, confidence) },
		{ "margin", "<f8", offsetof(struct layer_load, margin) },
		{ "n_margin", "<u8", offsetof(struct layer_load, n_margin) },
		{ "n_nan", "<u8", offsetof(struct layer_load, n_nan) },
	};
	static const uint64_t zero[MOE_MAX_EXPERT];
	int32_t shape[3][MOE_MAX_LAYER];
	size_t most = 0;

	for (size_t i = 0; i < s->n; i++) {
		shape[0][i] = s->layer[i].layer;
		shape[1][i] = s->layer[i].n_expert;
		shape[2][i] = s->layer[i].k;
		most = s->layer[i].n_expert > most ? s->layer[i].n_expert : most;
	}
	for (int i = 0; i < 3; i++)
		if (array(z, ((const char *[]){ "layers", "n_expert", "k" })[i], "<i4", shape[i], 4, s->n,
		    0, e))
			return -1;
	for (size_t a = 0; a < sizeof narrow / sizeof *narrow; a++) {
		begin(z, narrow[a].name, narrow[a].type, s->n, 0);
		for (size_t i = 0; i < s->n; i++)
			data(z, (const char *)&s->layer[i] + narrow[a].at, 8);
		if (end(z, e))
			return -1;
	}
	for (size_t a = 0; a < sizeof wide / sizeof *wide; a++) {
		begin(z, wide[a].name, wide[a].type, s->n, most);
		for (size_t i = 0; i < s->n; i++) {
			const void *const *p = (const void *)((const char *)&s->layer[i] + wide[a].at);

			data(z, *p, s->layer[i].n_expert * 8u);
			data(z, zero, (most - s->layer[i].n_expert) * 8);
		}
		if (end(z, e))
			return -1;
	}
	return 0;
}

/* ---- tokens ---- */

enum column { SEQUENCE, DOCUMENT, DOMAIN, POSITION, TOKEN, PHASE, EXPERTS, WEIGHTS, MARGINS, FLAGS,
	LOGITS, N_COLUMN };
static const struct { const char *name, *type; } columns[N_COLUMN] = {
	[SEQUENCE] = { "sequence", "<u8" }, [DOCUMENT] = { "document", "<i8" },
	[DOMAIN] = { "domain", "<i8" }, [POSITION] = { "position", "<u4" },
	[TOKEN] = { "token", "<i4" }, [PHASE] = { "phase", "|u1" }, [EXPERTS] = { "experts", "<u2" },
	[WEIGHTS] = { "weights", "<f4" }, [MARGINS] = { "margins", "<f4" },
	[FLAGS] = { "flags", "|u1" }, [LOGITS] = { "logits", "<f4" },
};

static void rows_of(struct npz *z, enum column which, const struct cursor_chunk *c)
{
	static const uint8_t zero[MOE_MAX_LAYER];

	switch (which) {
	case EXPERTS: data(z, c->experts, c->n * c->k_row * 2); return;
	case WEIGHTS: data(z, c->weights, c->n * c->k_row * 4); return;
	case MARGINS: data(z, c->margins, c->n * c->n_layer * 4); return;
	case TOKEN: data(z, c->tokens, c->n * 4u); return;
	case LOGITS: data(z, c->logits, c->logits ? c->n * c->e_row * 4 : 0); return;
	default: break;
	}
	for (uint32_t t = 0; t < c->n; t++) {
		uint32_t pos = c->pos + t;

		switch (which) {
		case SEQUENCE: data(z, &c->seq, 8); break;
		case DOCUMENT: data(z, &c->document, 8); break;
		case DOMAIN: data(z, &c->domain, 8); break;
		case POSITION: data(z, &pos, 4); break;
		case PHASE: data(z, &c->phase, 1); break;
		case FLAGS: data(z, c->flags ? c->flags + t * c->n_layer : zero, c->n_layer); break;
		default: break;
		}
	}
}

/* One array over all tokens. `count` tokens were promised; a live run may have grown since. */
static int column(struct npz *z, const struct exchange_out *out, enum column which, uint64_t count,
	uint64_t width, struct moe_err *e)
{
	struct cursor *cur = cursor_open(out->r, &out->f, e);
	struct cursor_chunk c;
	uint64_t n = 0;
	int got;

	if (!cur)
		return -1;
	begin(z, columns[which].name, columns[which].type, count, width);
	while ((got = cursor_next(cur, &c, e)) > 0) {
		n += c.n;
		if (n > count || (which == LOGITS && !c.logits)) {
			got = err_set(e, MOE_ERR_INPUT, n > count ? "the run grew while it was read: export it "
				"when it is done" : "chunk %lld has no logits", (long long)c.id);
			break;
		}
		rows_of(z, which, &c);
	}
	cursor_close(cur);
	if (got < 0 || end(z, e))
		return -1;
	return n == count ? 0 : err_set(e, MOE_ERR_INPUT, "%llu tokens, expected %llu",
		(unsigned long long)n, (unsigned long long)count);
}

static int tokens(struct npz *z, const struct exchange_out *out, const struct run_info *u,
	struct moe_err *e)
{
	struct cursor *cur = cursor_open(out->r, &out->f, e);
	struct cursor_chunk c;
	uint64_t n = 0, width[N_COLUMN] = { 0 };
	int got;

	if (!cur)
		return -1;
	while ((got = cursor_next(cur, &c, e)) > 0)
		n += c.n;
	cursor_close(cur);
	if (got < 0)
		return -1;
	for (uint32_t i = 0; i < u->n_moe_layer; i++) {
		width[EXPERTS] += u->layers[i].k;
		width[LOGITS] += u->layers[i].n_expert;
	}
	width[WEIGHTS] = width[EXPERTS];
	width[MARGINS] = width[FLAGS] = u->n_moe_layer;
	for (int i = 0; i < N_COLUMN; i++) {
		if (i == LOGITS && strcmp(u->detail, "full"))
			continue;
		if (column(z, out, (enum column)i, n, width[i], e))
			return -1;
	}
	return 0;
}

int npz_export(const struct exchange_out *out, struct moe_err *e)
{
	struct npz *z = calloc(1, sizeof *z);
	struct run_info *u = malloc(sizeof *u);
	struct load_set s = { 0 };
	int bad = -1;

	if (!z || !u) {
		err_nomem(e, sizeof *z + sizeof *u, "an export");
		goto out;
	}
	z->f = out->to;
	crc_table(z->table);
	if (reader_run(out->r, out->f.run, u, e) || reader_load(out->r, &out->f, &s, e))
		goto out;
	if (sums(z, &s, e) || (strcmp(u->detail, "counts") && tokens(z, out, u, e)))
		goto out;
	finish(z);
	bad = fflush(z->f) || ferror(z->f) ? err_errno(e, "writing the output") : 0;
out:
	load_set_free(&s);
	free(u);
	free(z);
	return bad;
}
