/*
 * fuzz_gguf.c - any bytes opened as a GGUF file: refused with a message, or every key, element and
 * tensor can be read. See fuzz.h. Input that starts with "PART" is a split model in memory: a byte
 * with the number of parts, then for each a u32 with its length and its bytes (the last may be
 * cut).
 */
#include <stdlib.h>

#include "base/qtype.h"
#include "fuzz.h"

static volatile uint64_t sink; /* what is read must not be optimised away */

static void check(int ok)
{
	if (!ok)
		abort();
}

static void read_text(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sink += (uint8_t)s[i];
}

static void read_array(const struct gguf *g, const char *key)
{
	enum gguf_kind kind;
	struct gguf_str s;
	uint64_t n, i;
	double d;

	check(gguf_get_arr(g, key, &kind, &n, NULL) == 1);
	for (i = 0; i < n && i < 4096; i++)
		if (kind == GGUF_STR) {
			check(gguf_arr_str(g, key, i, &s) == 1);
			read_text(s.s, s.n);
		} else {
			check(gguf_arr_f64(g, key, i, &d) == (kind == GGUF_ARR ? -1 : 1));
		}
	check(gguf_arr_str(g, key, n, &s) == -1);
	check(gguf_arr_f64(g, key, n, &d) == -1);
}

static void read_kv(const struct gguf *g, size_t i)
{
	const char *key = gguf_kv_name(g, i);
	enum gguf_kind kind = gguf_kv_kind(g, i);
	struct gguf_str s;
	struct moe_err e;
	uint64_t u;
	double d;
	int b;

	read_text(key, strlen(key) + 1);
	check(gguf_get_bool(g, key, &b, &e) == (kind == GGUF_BOOL ? 1 : -1));
	check(gguf_get_str(g, key, &s, &e) == (kind == GGUF_STR ? 1 : -1));
	if (kind == GGUF_STR)
		read_text(s.s, s.n);
	if (kind == GGUF_ARR)
		read_array(g, key);
	gguf_get_u64(g, key, &u, &e);
	gguf_get_f64(g, key, &d, &e);
}

#define MAX_PARTS 8

static struct gguf *open_input(const uint8_t *p, size_t size, struct moe_err *e)
{
	struct gguf_part part[MAX_PARTS];
	const uint8_t *end = p + size;
	size_t n;

	if (size < 5 || memcmp(p, "PART", 4))
		return gguf_open_memory(p, size, "fuzz", e);
	n = p[4] % MAX_PARTS + 1;
	p += 5;
	for (size_t i = 0; i < n; i++) {
		uint32_t len = 0;

		if (end - p >= 4) {
			memcpy(&len, p, 4);
			p += 4;
		}
		if (len > (size_t)(end - p))
			len = (uint32_t)(end - p);
		part[i] = (struct gguf_part){ "part", p, len };
		p += len;
	}
	return gguf_open_parts(part, n, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct moe_err e = { 0 };
	struct gguf *g = open_input(data, size, &e);
	size_t i;

	if (!g) {
		check(e.code != MOE_OK && e.msg[0] && memchr(e.msg, 0, sizeof e.msg));
		return 0;
	}
	for (i = 0; i < gguf_n_kv(g); i++)
		read_kv(g, i);
	for (i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		check(gguf_tensor_find(g, t->name) == t && qtype_info(t->type));
		check(t->part < gguf_n_parts(g));
		check(t->n_bytes <= gguf_part_at(g, t->part).bytes &&
			t->offset <= gguf_part_at(g, t->part).bytes - t->n_bytes);
		check(gguf_holds(g, t->data));
		read_text(t->data, t->n_bytes);
	}
	gguf_close(g);
	return 0;
}

/* Part no of 3: its length, then the file. */
static void split_part(struct bytes *b, uint16_t no)
{
	static const uint16_t count = 3;
	static const char *const names[] = { "a.weight", "b.weight", "c.weight" };
	struct bytes f = { 0 };

	head(&f, 3, 1, 3 + !no);
	if (!no)
		kv_str(&f, "general.architecture", "fuzz");
	kv_raw(&f, "split.no", GGUF_U16, &no, 2);
	kv_raw(&f, "split.count", GGUF_U16, &count, 2);
	kv_u32(&f, "split.tensors.count", 3);
	tensor(&f, names[no], 32, 1, QT_Q4_0, 0);
	data(&f, 32, 18);
	put_u32(b, (uint32_t)f.n);
	put(b, f.p, f.n);
	free(f.p);
}

int fuzz_seed(unsigned i, struct bytes *b)
{
	static const uint64_t ne[4] = { 32, 2, 2, 1 };
	uint32_t kind;

	switch (i) {
	case 0:
		head(b, 3, 0, 0);
		return 1;
	case 1: /* every scalar kind, every array kind */
		head(b, 2, 0, 26);
		for (kind = 0; kind < 26; kind++) {
			char key[] = { 'k', (char)('a' + kind), 0 };

			if (kind >= 13) {
				kv_array(b, key, kind - 13, 2);
				put(b, "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
					kind - 13 == GGUF_STR ? 16 : kind - 13 == GGUF_ARR ? 24 :
					2 * (size_t)"\1\1\2\2\4\4\4\1\0\0\10\10\10"[kind - 13]);
			} else if (kind == GGUF_ARR) {
				kv_array(b, key, GGUF_U8, 3);
				put(b, "abc", 3);
			} else {
				put_str(b, key);
				put_u32(b, kind);
				put(b, "\1\0\0\0\0\0\0\0A", kind == GGUF_STR ? 9 :
					(size_t)"\1\1\2\2\4\4\4\1\0\0\10\10\10"[kind]);
			}
		}
		return 1;
	case 2: /* tensors */
		head(b, 3, 3, 2);
		kv_str(b, "general.architecture", "fuzz");
		kv_u32(b, "general.alignment", 32);
		tensor4(b, "a.weight", 4, ne, QT_Q8_0, 0);
		tensor(b, "b.weight", 8, 2, QT_F32, 160);
		tensor(b, "c.weight", 256, 1, QT_Q6_K, 224);
		data(b, 32, 224 + 210);
		return 1;
	case 3: /* split */
		put(b, "PART\2", 5);
		for (uint16_t no = 0; no < 3; no++)
			split_part(b, no);
		return 1;
	default:
		return 0;
	}
}
