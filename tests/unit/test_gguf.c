/*
 * test_gguf.c - the GGUF reader against files that are built here byte by byte, so that no writer
 * of ours can share a mistake with it: what is read, every cut, every byte changed, size and time.
 */
#include <fcntl.h>
#include <glob.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <time.h>
#include <unistd.h>

#include "gguf/write.h"
#include "gguf_try.h"

#include "base/qtype.h"
#include "base/rng.h"

/* ---- the happy path ---- */

/* One key of every kind, arrays of every element kind, two tensors. Ends with the last byte of the
 * last tensor, so that no truncation of it is a valid file. */
static void full_file(struct bytes *b, uint32_t version)
{
	static const float f32 = 1.5f;
	static const double f64 = -2.25;
	static const uint8_t ones[8] = { 255, 255, 255, 255, 255, 255, 255, 255 };
	static const uint64_t ne3[3] = { 64, 2, 3 };
	int i;

	head(b, version, 2, 24);
	kv_str(b, "general.architecture", "test");
	kv_u32(b, "general.alignment", 64);
	kv_raw(b, "k.u8", GGUF_U8, ones, 1);
	kv_raw(b, "k.i8", GGUF_I8, ones, 1);
	kv_raw(b, "k.u16", GGUF_U16, ones, 2);
	kv_raw(b, "k.i16", GGUF_I16, ones, 2);
	kv_raw(b, "k.u32", GGUF_U32, ones, 4);
	kv_raw(b, "k.i32", GGUF_I32, ones, 4);
	kv_raw(b, "k.u64", GGUF_U64, ones, 8);
	kv_raw(b, "k.i64", GGUF_I64, ones, 8);
	kv_raw(b, "k.f32", GGUF_F32, &f32, 4);
	kv_raw(b, "k.f64", GGUF_F64, &f64, 8);
	kv_raw(b, "k.true", GGUF_BOOL, "\1", 1);
	kv_raw(b, "k.false", GGUF_BOOL, "\0", 1);
	kv_str(b, "k.empty", "");
	kv_array(b, "a.str", GGUF_STR, 21);
	for (i = 0; i < 21; i++)
		put_strn(b, "abcdefghijklmnopqrstu", (size_t)i);
	kv_array(b, "a.f32", GGUF_F32, 3);
	for (i = 0; i < 3; i++)
		put(b, &f32, 4);
	kv_array(b, "a.i32", GGUF_I32, 2);
	put(b, ones, 8);
	kv_array(b, "a.u8", GGUF_U8, 5);
	put(b, ones, 5);
	kv_array(b, "a.bool", GGUF_BOOL, 2);
	put(b, "\1\0", 2);
	kv_array(b, "a.none", GGUF_STR, 0);
	kv_array(b, "a.nested", GGUF_ARR, 2);
	put_u32(b, GGUF_U8);
	put_u64(b, 3);
	put(b, "xyz", 3);
	put_u32(b, GGUF_STR);
	put_u64(b, 2);
	put_str(b, "in");
	put_str(b, "side");
	kv_raw(b, "k.utf8 \xc3\xa9", GGUF_U8, "\7", 1);
	kv_array(b, "a.f64", GGUF_F64, 1);
	put(b, &f64, 8);
	tensor4(b, "second", 3, ne3, QT_Q8_0, 64);
	tensor(b, "first", 4, 1, QT_F32, 0);
	data(b, 64, 64 + 2 * 34 * 6);
	b->p[b->n - 1] = 0x5a;
}

static void test_scalars(void **state)
{
	struct bytes b = { 0 };
	struct moe_err e = { 0 };
	struct gguf_str s;
	uint8_t *copy;
	struct gguf *g;
	uint64_t u;
	double d;
	int v;

	(void)state;
	full_file(&b, 3);
	g = accepted(&b, &copy);
	assert_int_equal(gguf_version(g), 3);
	assert_string_equal(gguf_path(g), "test.gguf");
	assert_int_equal(gguf_get_u64(g, "k.u8", &u, &e), 1);
	assert_int_equal(u, 255);
	assert_int_equal(gguf_get_u64(g, "k.u16", &u, &e), 1);
	assert_int_equal(u, 65535);
	assert_int_equal(gguf_get_u64(g, "k.u32", &u, &e), 1);
	assert_int_equal(u, UINT32_MAX);
	assert_int_equal(gguf_get_u64(g, "k.u64", &u, &e), 1);
	assert_true(u == UINT64_MAX);
	assert_int_equal(gguf_get_u64(g, "k.i16", &u, &e), -1);
	assert_non_null(strstr(e.msg, "key k.i16 is -1, must not be negative"));
	assert_int_equal(gguf_get_u64(g, "k.i64", &u, &e), -1);
	assert_int_equal(gguf_get_u64(g, "k.f32", &u, &e), -1);
	assert_non_null(strstr(e.msg, "key k.f32 is of kind f32, not an integer"));
	assert_int_equal(gguf_get_u64(g, "k.true", &u, &e), -1);
	assert_int_equal(gguf_get_u64(g, "no.such", &u, &e), 0);
	assert_int_equal(gguf_get_f64(g, "k.f32", &d, &e), 1);
	assert_true(d == 1.5);
	assert_int_equal(gguf_get_f64(g, "k.f64", &d, &e), 1);
	assert_true(d == -2.25);
	assert_int_equal(gguf_get_f64(g, "k.i8", &d, &e), 1);
	assert_true(d == -1);
	assert_int_equal(gguf_get_f64(g, "k.i64", &d, &e), 1);
	assert_true(d == -1);
	assert_int_equal(gguf_get_f64(g, "k.u64", &d, &e), 1);
	assert_true(d == 18446744073709551616.0);
	assert_int_equal(gguf_get_f64(g, "k.empty", &d, &e), -1);
	assert_int_equal(gguf_get_f64(g, "no.such", &d, &e), 0);
	assert_int_equal(gguf_get_bool(g, "k.true", &v, &e), 1);
	assert_int_equal(v, 1);
	assert_int_equal(gguf_get_bool(g, "k.false", &v, &e), 1);
	assert_int_equal(v, 0);
	assert_int_equal(gguf_get_bool(g, "k.u8", &v, &e), -1);
	assert_int_equal(gguf_get_bool(g, "no.such", &v, &e), 0);
	assert_int_equal(gguf_get_str(g, "general.architecture", &s, &e), 1);
	assert_int_equal(s.n, 4);
	assert_memory_equal(s.s, "test", 4);
	assert_int_equal(gguf_get_str(g, "k.empty", &s, &e), 1);
	assert_int_equal(s.n, 0);
	assert_int_equal(gguf_get_str(g, "a.str", &s, &e), -1);
	assert_int_equal(gguf_get_str(g, "no.such", &s, &e), 0);
	assert_int_equal(gguf_get_u64(g, "k.utf8 \xc3\xa9", &u, &e), 1);
	assert_int_equal(u, 7);
	gguf_close(g);
	free(copy);
}

static void test_arrays(void **state)
{
	static const uint8_t order[] = { 20, 0, 7, 8, 9, 15, 16, 1, 19 };
	struct bytes b = { 0 };
	struct moe_err e = { 0 };
	enum gguf_kind kind;
	struct gguf_str s;
	struct gguf *g;
	uint8_t *copy;
	uint64_t n;
	size_t i;
	double d;

	(void)state;
	full_file(&b, 2);
	g = accepted(&b, &copy);
	assert_int_equal(gguf_version(g), 2);
	assert_int_equal(gguf_get_arr(g, "a.str", &kind, &n, &e), 1);
	assert_int_equal(kind, GGUF_STR);
	assert_int_equal(n, 21);
	for (i = 0; i < sizeof order; i++) {
		assert_int_equal(gguf_arr_str(g, "a.str", order[i], &s), 1);
		assert_int_equal(s.n, order[i]);
		assert_memory_equal(s.s, "abcdefghijklmnopqrstu", s.n);
	}
	assert_int_equal(gguf_arr_str(g, "a.str", 21, &s), -1);
	assert_int_equal(gguf_arr_str(g, "a.str", UINT64_MAX, &s), -1);
	assert_int_equal(gguf_arr_str(g, "a.none", 0, &s), -1);
	assert_int_equal(gguf_arr_str(g, "a.f32", 0, &s), -1);
	assert_int_equal(gguf_arr_str(g, "k.u8", 0, &s), -1);
	assert_int_equal(gguf_arr_str(g, "no.such", 0, &s), 0);
	assert_int_equal(gguf_arr_f64(g, "a.f32", 2, &d), 1);
	assert_true(d == 1.5);
	assert_int_equal(gguf_arr_f64(g, "a.i32", 1, &d), 1);
	assert_true(d == -1);
	assert_int_equal(gguf_arr_f64(g, "a.u8", 4, &d), 1);
	assert_true(d == 255);
	assert_int_equal(gguf_arr_f64(g, "a.u8", 5, &d), -1);
	assert_int_equal(gguf_arr_f64(g, "a.bool", 0, &d), 1);
	assert_true(d == 1);
	assert_int_equal(gguf_arr_f64(g, "a.bool", 1, &d), 1);
	assert_true(d == 0);
	assert_int_equal(gguf_arr_f64(g, "a.f64", 0, &d), 1);
	assert_true(d == -2.25);
	assert_int_equal(gguf_arr_f64(g, "a.str", 0, &d), -1);
	assert_int_equal(gguf_arr_f64(g, "a.nested", 0, &d), -1);
	assert_int_equal(gguf_arr_f64(g, "no.such", 0, &d), 0);
	assert_int_equal(gguf_get_arr(g, "a.nested", &kind, &n, &e), 1);
	assert_int_equal(kind, GGUF_ARR);
	assert_int_equal(n, 2);
	assert_int_equal(gguf_get_arr(g, "k.u8", &kind, &n, &e), -1);
	assert_int_equal(gguf_get_arr(g, "no.such", &kind, &n, &e), 0);
	gguf_close(g);
	free(copy);
}

static void test_listing(void **state)
{
	const struct gguf_tensor *t;
	struct bytes b = { 0 };
	struct gguf *g;
	uint8_t *copy;
	size_t n;

	(void)state;
	full_file(&b, 3);
	n = b.n;
	g = accepted(&b, &copy);
	assert_int_equal(gguf_file_bytes(g), n);
	assert_int_equal(gguf_n_kv(g), 24);
	assert_string_equal(gguf_kv_name(g, 0), "general.architecture");
	assert_string_equal(gguf_kv_name(g, 23), "a.f64");
	assert_null(gguf_kv_name(g, 24));
	assert_int_equal(gguf_kv_kind(g, 1), GGUF_U32);
	assert_int_equal(gguf_kv_kind(g, 15), GGUF_ARR);
	assert_int_equal(gguf_n_tensors(g), 2);
	t = gguf_tensor_at(g, 0);
	assert_string_equal(t->name, "second");
	assert_int_equal(t->n_dims, 3);
	assert_int_equal(t->ne[0], 64);
	assert_int_equal(t->ne[1], 2);
	assert_int_equal(t->ne[2], 3);
	assert_int_equal(t->ne[3], 1);
	assert_int_equal(t->type, QT_Q8_0);
	assert_int_equal(t->n_bytes, 2 * 34 * 6);
	assert_int_equal(t->offset + t->n_bytes, n);
	assert_int_equal(((const uint8_t *)t->data)[t->n_bytes - 1], 0x5a);
	assert_ptr_equal(gguf_tensor_find(g, "second"), t);
	assert_ptr_equal(gguf_tensor_find(g, "first"), gguf_tensor_at(g, 1));
	assert_int_equal(gguf_tensor_at(g, 1)->offset % 64, 0);
	assert_null(gguf_tensor_find(g, "third"));
	assert_null(gguf_tensor_find(g, ""));
	assert_null(gguf_tensor_at(g, 2));
	gguf_close(g);
	gguf_close(NULL);
	free(copy);
}

static void test_every_truncation(void **state)
{
	struct bytes b = { 0 };
	struct moe_err e;
	uint8_t *copy;
	size_t n;

	(void)state;
	full_file(&b, 3);
	for (n = 0; n < b.n; n++) {
		struct gguf *g = open_copy(b.p, n, &copy, &e);

		if (g)
			fail_msg("accepted %zu of %zu bytes", n, b.n);
		assert_int_equal(e.code, MOE_ERR_INPUT);
		assert_true(strlen(e.msg) > 20);
		free(copy);
	}
	must_open(&b);
}

/* Any byte changed to any of some values, and any aligned 8 bytes to extreme numbers: no crash.
 * What is still accepted must have its tensors inside. */
static void test_every_byte_changed(void **state)
{
	static const uint64_t extreme[] = { UINT64_MAX, 1ull << 63, INT64_MAX, UINT32_MAX, 0x7fffffff,
		0x80000000u, 0, 1 };
	struct bytes b = { 0 };
	struct moe_err e;
	uint8_t *copy;
	size_t at, k;

	(void)state;
	full_file(&b, 3);
	for (at = 0; at + 8 <= b.n; at++)
		for (k = 0; k < sizeof extreme / sizeof *extreme; k++) {
			uint8_t old[8];
			struct gguf *g;

			memcpy(old, b.p + at, 8);
			memcpy(b.p + at, &extreme[k], 8);
			g = open_copy(b.p, b.n, &copy, &e);
			for (size_t i = 0; g && i < gguf_n_tensors(g); i++) {
				const struct gguf_tensor *t = gguf_tensor_at(g, i);

				assert_true(t->n_bytes <= b.n && t->offset <= b.n - t->n_bytes);
				assert_ptr_equal(t->data, copy + t->offset);
			}
			if (!g)
				assert_true(e.code == MOE_ERR_INPUT && e.msg[0]);
			gguf_close(g);
			free(copy);
			memcpy(b.p + at, old, 8);
		}
	free(b.p);
}

/* ---- size and time ---- */

static void test_many_keys_and_tensors(void **state)
{
	struct bytes b = { 0 };
	struct gguf *g;
	char name[600];
	uint8_t *copy;
	uint64_t u;
	int64_t start;
	size_t i;

	(void)state;
	head(&b, 3, 20000, 65536);
	for (i = 0; i < 65536; i++) {
		snprintf(name, sizeof name, "%0200zu", i * 7919 % 65536);
		kv_u32(&b, name, (uint32_t)i);
	}
	for (i = 0; i < 20000; i++) {
		snprintf(name, sizeof name, "%0200zu", i * 7919 % 65536);
		tensor(&b, name, 8, 1, QT_F32, 32 * i);
	}
	data(&b, 32, 32 * 20000);
	start = clock_mono();
	g = accepted(&b, &copy);
	assert_true(clock_mono() - start < 5000000000); /* finds what is quadratic */
	for (i = 0; i < 65536; i += 101) {
		snprintf(name, sizeof name, "%0200zu", i * 7919 % 65536);
		assert_int_equal(gguf_get_u64(g, name, &u, NULL), 1);
		assert_int_equal(u, i);
	}
	for (i = 0; i < 20000; i += 101) {
		snprintf(name, sizeof name, "%0200zu", i * 7919 % 65536);
		assert_ptr_equal(gguf_tensor_find(g, name), gguf_tensor_at(g, i));
	}
	gguf_close(g);
	free(copy);
}

static void test_long_string_array(void **state)
{
	struct bytes b = { 0 };
	struct gguf_str s;
	struct gguf *g;
	char text[32];
	uint8_t *copy;
	uint64_t i;

	(void)state;
	head(&b, 3, 0, 1);
	kv_array(&b, "k", GGUF_STR, 300000);
	for (i = 0; i < 300000; i++) {
		snprintf(text, sizeof text, "%llu", (unsigned long long)i);
		put_str(&b, text);
	}
	g = accepted(&b, &copy);
	for (i = 0; i < 300000; i++) {
		snprintf(text, sizeof text, "%llu", (unsigned long long)i);
		assert_int_equal(gguf_arr_str(g, "k", i, &s), 1);
		assert_int_equal(s.n, strlen(text));
		assert_memory_equal(s.s, text, s.n);
	}
	gguf_close(g);
	free(copy);
}

/* The claim is file size + 64 MiB: under a limit of the file's mapping, that, and what the process
 * had before, the largest index must still open. Address space stands for memory; sanitizers
 * reserve terabytes of it, so they skip this. */
static void test_memory(void **state)
{
	struct bytes b = { 0 };
	struct rlimit old, limit;
	unsigned long pages = 0;
	struct gguf *g;
	uint8_t *copy;
	char name[96];
	FILE *f;
	size_t i;

	(void)state;
#if defined(__SANITIZE_ADDRESS__)
	skip();
#endif
	head(&b, 3, GGUF_MAX_TENSORS, 1);
	kv_array(&b, "k", GGUF_STR, 400000);
	for (i = 0; i < 400000; i++)
		put_str(&b, "");
	for (i = 0; i < GGUF_MAX_TENSORS; i++) { /* a long name, as real ones are at most */
		snprintf(name, sizeof name, "blk.%zu.a_name_of_sixty_three_bytes_in_all_as_real_ones_"
			"may_have", i);
		name[63] = 0;
		tensor(&b, name, 8, 1, QT_F32, 32 * i);
	}
	data(&b, 32, 32 * GGUF_MAX_TENSORS);
	f = fopen("/proc/self/statm", "r");
	if (!f || fscanf(f, "%lu", &pages) != 1)
		skip();
	fclose(f);
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	limit = old;
	limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + b.n + (64u << 20);
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	g = accepted(&b, &copy);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_int_equal(gguf_n_tensors(g), GGUF_MAX_TENSORS);
	gguf_close(g);
	free(copy);
}

/* Names that fill the memory an index may take are refused, not kept. */
static void test_names_beyond_memory(void **state)
{
	struct bytes b = { 0 };
	char name[GGUF_MAX_NAME + 1];

	(void)state;
	head(&b, 3, 120000, 0);
	for (size_t i = 0; i < 120000; i++) {
		snprintf(name, sizeof name, "%0512zu", i);
		tensor(&b, name, 8, 1, QT_F32, 32 * i);
	}
	data(&b, 32, 32 * 120000);
	refused(&b, "bytes of names|56 MiB of memory");
}

/* ---- files ---- */

static void test_files(void **state)
{
	char dir[] = "/tmp/test_gguf.XXXXXX", path[64];
	struct bytes b = { 0 };
	struct moe_err e;
	struct gguf *g;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_null(gguf_open(dir, &e));
	assert_non_null(strstr(e.msg, "it is a directory, not a regular file"));
	assert_null(gguf_open("/dev/zero", &e));
	assert_non_null(strstr(e.msg, "it is a device, not a regular file"));
	snprintf(path, sizeof path, "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_null(gguf_open(path, &e)); /* must not wait for a writer */
	assert_non_null(strstr(e.msg, "it is a FIFO, not a regular file"));
	unlink(path);
	snprintf(path, sizeof path, "%s/a\033]0;x.gguf", dir);
	assert_null(gguf_open(path, &e));
	assert_int_equal(e.code, MOE_ERR_INPUT);
	assert_non_null(strstr(e.msg, "No such file"));
	assert_null(strchr(e.msg, '\033'));
	f = fopen(path, "wb");
	assert_non_null(f);
	fclose(f);
	assert_null(gguf_open(path, &e));
	assert_non_null(strstr(e.msg, "file has 0 bytes"));
	full_file(&b, 3);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(b.p, 1, b.n, f), b.n);
	assert_int_equal(fclose(f), 0);
	g = gguf_open(path, &e);
	if (!g)
		fail_msg("%s", e.msg);
	assert_int_equal(((const uint8_t *)gguf_tensor_find(g, "second")->data)[2 * 34 * 6 - 1], 0x5a);
	assert_string_equal(gguf_path(g), path);
	gguf_close(g);
	unlink(path);
	rmdir(dir);
	free(b.p);
}

/* Files of an independent writer, where the tree has them. */
static void test_committed_files(void **state)
{
	struct moe_err e;
	struct gguf_str s;
	glob_t found;
	struct gguf *g = gguf_open("tests/data/vocab-4096.gguf", &e);

	(void)state;
	if (!g)
		fail_msg("%s", e.msg);
	assert_int_equal(gguf_n_tensors(g), 0);
	assert_int_equal(gguf_arr_str(g, "tokenizer.ggml.tokens", 4093, &s), 1);
	assert_int_equal(s.n, 13);
	assert_memory_equal(s.s, "<|endoftext|>", 13);
	gguf_close(g);
	if (glob("tests/data/models/*.gguf", 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		g = gguf_open(found.gl_pathv[i], &e);
		if (!g)
			fail_msg("%s", e.msg);
		assert_true(gguf_n_tensors(g) > 0);
		gguf_close(g);
	}
	globfree(&found);
}

/* ---- weights in large pages ---- */

enum { BIG = 40 << 20, SMALL = 1 << 20 };

static int not_second(const struct gguf *g, const struct gguf_tensor *t)
{
	(void)g;
	return strcmp(t->name, "b.second") != 0;
}

static uint32_t word_at(size_t tensor, size_t i)
{
	return (uint32_t)(i * 2654435761u) ^ (uint32_t)tensor << 28;
}

/* A file of three tensors of words. */
static void write_words(const char *path)
{
	static const char *const name[] = { "a.first", "b.second", "c.third" };
	static const uint64_t bytes[] = { BIG, 3 * SMALL, BIG / 2 };
	static uint32_t block[SMALL / 4];
	struct gguf_out *out;
	struct moe_err e;

	out = gguf_out_new(32, &e);
	assert_non_null(out);
	for (int i = 0; i < 3; i++)
		assert_int_equal(gguf_out_tensor(out, name[i], 0, 1, (uint64_t[]){ bytes[i] / 4 }, &e), 0);
	assert_int_equal(gguf_out_open(out, path, 1, &e), 0);
	for (size_t i = 0; i < 3; i++)
		for (size_t at = 0; at < bytes[i]; at += SMALL) {
			for (size_t k = 0; k < SMALL / 4; k++)
				block[k] = word_at(i, at / 4 + k);
			assert_int_equal(gguf_out_data(out, block, SMALL, &e), 0);
		}
	assert_int_equal(gguf_out_close(out, &e), 0);
	gguf_out_free(out);
}

static void check_words(const struct gguf *g)
{
	for (size_t i = 0; i < 3; i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		const uint32_t *p = t->data;

		for (size_t k = 0; k < t->n_bytes / 4; k += 61)
			if (p[k] != word_at(i, k))
				fail_msg("%s, word %zu", t->name, k);
	}
}

/* Bytes of a tensor that are anonymous memory now, as the kernel counts them. */
static size_t moved_bytes(const struct gguf_tensor *t)
{
	uintptr_t lo = (uintptr_t)t->data, hi = lo + t->n_bytes, from, to, inode;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	size_t sum = 0;

	assert_non_null(f);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, &inode) == 3 && !inode && from < hi && to > lo)
			sum += (to < hi ? to : hi) - (from > lo ? from : lo);
	fclose(f);
	return sum;
}

/* The same bytes at the same addresses before, meanwhile and after; the file is not asked any more. */
static void test_to_memory(void **state)
{
	char path[] = "/tmp/moescope-words-XXXXXX";
	const void *at[3];
	struct moe_err e;
	struct gguf *g;

	(void)state;
	close(mkstemp(path));
	write_words(path);
	g = gguf_open(path, &e);
	if (!g || gguf_to_memory(g, not_second, &e))
		fail_msg("%s", e.msg);
	for (size_t i = 0; i < 3; i++)
		at[i] = gguf_tensor_at(g, i)->data;
	check_words(g);
	assert_int_equal(moved_bytes(gguf_tensor_at(g, 0)), 0);
	gguf_copy_begin(g);
	for (int i = 0; i < 5; i++)
		check_words(g);
	assert_true(gguf_copy_wait(g) >= 4); /* of 16 MiB at most */
	check_words(g);
	for (size_t i = 0; i < 3; i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		assert_ptr_equal(t->data, at[i]);
		if (i == 1)
			assert_int_equal(moved_bytes(t), 0);
		else /* all but what shares a large page with a neighbour */
			assert_true(moved_bytes(t) >= t->n_bytes - (4 << 20));
	}
	gguf_close(g);
	unlink(path);
}

/* Closing gives up a copy wherever it is. */
static void test_to_memory_ends_early(void **state)
{
	char path[] = "/tmp/moescope-words-XXXXXX";
	struct moe_err e;

	(void)state;
	close(mkstemp(path));
	write_words(path);
	for (int i = 0; i < 12; i++) {
		struct timespec pause = { 0, i * 500000 };
		struct gguf *g = gguf_open(path, &e);

		if (!g || gguf_to_memory(g, not_second, &e))
			fail_msg("%s", e.msg);
		if (i)
			gguf_copy_begin(g);
		nanosleep(&pause, NULL);
		gguf_close(g);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scalars),
		cmocka_unit_test(test_arrays),
		cmocka_unit_test(test_listing),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_every_byte_changed),
		cmocka_unit_test(test_many_keys_and_tensors),
		cmocka_unit_test(test_long_string_array),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_names_beyond_memory),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_committed_files),
		cmocka_unit_test(test_to_memory),
		cmocka_unit_test(test_to_memory_ends_early),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
