/*
 * test_gguf_hostile.c - headers and tensor records that lie: each is refused, with one clear error.
 */
#include "gguf_try.h"

#include "base/qtype.h"

/* ---- hostile headers ---- */

static void test_magic_and_version(void **state)
{
	static const uint32_t bad[] = { 0, 1, 4, 5, 0xffffffff };
	struct bytes b = { 0 };
	char want[64];
	size_t i;

	(void)state;
	put(&b, "GGML", 4);
	data(&b, 1, 60);
	refused(&b, "not a GGUF file|47 47 4d 4c");
	put(&b, "FUGG", 4);
	data(&b, 1, 60);
	refused(&b, "big-endian");
	put(&b, "GGUF\0\0\0\3", 8);
	data(&b, 1, 60);
	refused(&b, "big-endian");
	refused(&b, "file has 0 bytes, a GGUF header has 24");
	put(&b, "GGUF", 4);
	refused(&b, "file has 4 bytes");
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		head(&b, bad[i], 0, 0);
		snprintf(want, sizeof want, "version %u is not supported, 2 and 3 are", bad[i]);
		refused(&b, want);
	}
	head(&b, 3, 0, 0);
	must_open(&b);
}

static void test_counts(void **state)
{
	static const uint64_t bad[] = { UINT64_MAX, 1ull << 63, 0x7fffffff, 0xffffffff,
		65537, 262145, 30 };
	struct bytes b = { 0 };
	char want[64];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(want, sizeof want, "counts %llu metadata pairs", (unsigned long long)bad[i]);
		head(&b, 3, 0, bad[i]);
		data(&b, 1, 400);
		refused(&b, want);
		snprintf(want, sizeof want, "counts %llu tensors", (unsigned long long)bad[i]);
		head(&b, 3, bad[i], 0);
		data(&b, 1, 800);
		refused(&b, want);
	}
	head(&b, 3, 0, 65537);
	data(&b, 1, 65537 * 16);
	refused(&b, "65537 metadata pairs, at most 65536");
	head(&b, 3, 262145, 0);
	data(&b, 1, 262145 * 34);
	refused(&b, "262145 tensors, at most 262144");
	head(&b, 3, 262144, 0);
	data(&b, 1, 262144 * 34);
	refused(&b, "tensor 0 of 262144: tensor name at offset 24 is empty");
}

static void test_string_lengths(void **state)
{
	static const uint64_t bad[] = { UINT64_MAX, 1ull << 63, (1ull << 63) - 1, 0xffffffff,
		0x7fffffff, (16u << 20) + 1, 1000 };
	struct bytes b = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		head(&b, 3, 0, 1); /* key */
		put_u64(&b, bad[i]);
		data(&b, 1, 100);
		refused(&b, "key at offset 24|bytes");
		head(&b, 3, 0, 1); /* value */
		put_str(&b, "k");
		put_u32(&b, GGUF_STR);
		put_u64(&b, bad[i]);
		data(&b, 1, 100);
		refused(&b, "key k|string at offset|bytes");
		head(&b, 3, 0, 1); /* array element */
		kv_array(&b, "k", GGUF_STR, 3);
		put_str(&b, "ok");
		put_u64(&b, bad[i]);
		data(&b, 1, 100);
		refused(&b, "key k|element 1 of 3|bytes");
		head(&b, 3, 1, 0); /* tensor name */
		put_u64(&b, bad[i]);
		data(&b, 1, 100);
		refused(&b, "tensor name at offset 24|bytes");
	}
}

static void test_array_counts(void **state)
{
	static const uint64_t bad[] = { UINT64_MAX, 1ull << 63, 1ull << 62, (1ull << 61) + 1,
		0xffffffff, 1000 };
	struct bytes b = { 0 };
	uint32_t kind;
	size_t i;

	(void)state;
	for (kind = GGUF_U8; kind <= GGUF_F64; kind++)
		for (i = 0; i < sizeof bad / sizeof *bad; i++) {
			head(&b, 3, 0, 1);
			kv_array(&b, "k", kind, bad[i]);
			data(&b, 1, 100);
			refused(&b, "key k: array at offset|elements of|bytes remain");
		}
	head(&b, 3, 0, 1); /* more strings than an index is built for */
	kv_array(&b, "k", GGUF_STR, (4u << 20) + 1);
	data(&b, 1, 8 * ((4u << 20) + 1));
	refused(&b, "key k|4194305 elements|4194304 in all");
}

static void test_nested_arrays(void **state)
{
	struct bytes b = { 0 };
	int i;

	(void)state;
	head(&b, 3, 0, 1);
	put_str(&b, "deep");
	put_u32(&b, GGUF_ARR);
	for (i = 0; i < 10000; i++) {
		put_u32(&b, GGUF_ARR);
		put_u64(&b, 1);
	}
	put_u32(&b, GGUF_U8);
	put_u64(&b, 0);
	refused(&b, "key deep|nested more than 4 deep");
	head(&b, 3, 0, 2); /* wide, and the key after it is found */
	kv_array(&b, "wide", GGUF_ARR, 1000);
	for (i = 0; i < 1000; i++) {
		put_u32(&b, GGUF_U16);
		put_u64(&b, (uint64_t)(i % 3));
		put(&b, "123456", (size_t)(i % 3) * 2);
	}
	kv_u32(&b, "after", 1);
	must_open(&b);
	head(&b, 3, 0, 1);
	kv_array(&b, "odd", GGUF_ARR, 1);
	put_u32(&b, 77);
	put_u64(&b, 1);
	data(&b, 1, 50);
	refused(&b, "key odd|unknown kind 77");
}

static void test_kinds(void **state)
{
	static const uint32_t bad[] = { 13, 14, 255, 0x7fffffff, 0xffffffff };
	struct bytes b = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		head(&b, 3, 0, 1);
		kv_raw(&b, "k", bad[i], "12345678", 8);
		refused(&b, "key k: unknown kind");
		head(&b, 3, 0, 1);
		kv_array(&b, "k", bad[i], 1);
		data(&b, 1, 20);
		refused(&b, "key k|elements of unknown kind");
	}
	head(&b, 3, 0, 1);
	kv_raw(&b, "k", GGUF_BOOL, "\2", 1);
	refused(&b, "key k: boolean|is 2");
	head(&b, 3, 0, 1);
	kv_array(&b, "k", GGUF_BOOL, 3);
	put(&b, "\0\1\377", 3);
	refused(&b, "key k: boolean|is 255");
}

static void test_keys(void **state)
{
	char longest[514];
	struct bytes b = { 0 };

	(void)state;
	head(&b, 3, 0, 1);
	kv_u32(&b, "", 1);
	refused(&b, "key at offset 24 is empty");
	head(&b, 3, 0, 1);
	put_strn(&b, "a\0b", 3);
	put_u32(&b, GGUF_U8);
	put(&b, "1", 1);
	refused(&b, "a NUL at byte 1");
	head(&b, 3, 0, 1);
	kv_u32(&b, "a\xff\x1b[2J", 1);
	refused(&b, "invalid UTF-8 at byte 1|a\\xff\\x1b[2J");
	head(&b, 3, 0, 1);
	kv_u32(&b, "\xed\xa0\x80", 1); /* a surrogate */
	refused(&b, "invalid UTF-8 at byte 0");
	memset(longest, 'k', sizeof longest);
	head(&b, 3, 0, 1);
	put_strn(&b, longest, 513);
	put_u32(&b, GGUF_U8);
	put(&b, "1", 1);
	refused(&b, "513 bytes, at most 512");
	head(&b, 3, 0, 1);
	put_strn(&b, longest, 512);
	put_u32(&b, GGUF_U8);
	put(&b, "1", 1);
	must_open(&b);
	head(&b, 3, 0, 3);
	kv_u32(&b, "one", 1);
	kv_u32(&b, "two", 1);
	kv_u32(&b, "one", 2);
	refused(&b, "key one is there twice");
}

static void test_alignment(void **state)
{
	static const uint32_t bad[] = { 0, 1, 2, 3, 4, 12, 13, 24, 33, 131072, 1u << 30, 0x80000000u };
	static const uint32_t good[] = { 8, 16, 32, 4096, 65536 };
	struct bytes b = { 0 };
	char want[64];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		head(&b, 3, 1, 1);
		kv_u32(&b, "general.alignment", bad[i]);
		tensor(&b, "t", 4, 1, QT_F32, 0);
		data(&b, 32, 16);
		snprintf(want, sizeof want, "general.alignment is %u", bad[i]);
		refused(&b, want);
	}
	for (i = 0; i < sizeof good / sizeof *good; i++) {
		head(&b, 3, 1, 1);
		kv_u32(&b, "general.alignment", good[i]);
		tensor(&b, "t", 4, 1, QT_F32, 0);
		data(&b, good[i], 16);
		must_open(&b);
	}
	head(&b, 3, 0, 1);
	kv_str(&b, "general.alignment", "32");
	refused(&b, "general.alignment is of kind string, not u32");
	head(&b, 3, 0, 1);
	kv_raw(&b, "general.alignment", GGUF_U64, "\x20\0\0\0\0\0\0\0", 8);
	refused(&b, "general.alignment is of kind u64, not u32");
}

/* ---- hostile tensors ---- */

static void test_dimensions(void **state)
{
	static const uint32_t counts[] = { 0, 5, 6, 0x7fffffff, 0xffffffff };
	static const uint64_t sizes[] = { 0, 1ull << 31, (1ull << 31) + 32, (1ull << 32) + 32,
		1ull << 63, UINT64_MAX };
	struct bytes b = { 0 };
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof counts / sizeof *counts; i++) {
		static const uint64_t ne[8] = { 4, 1, 1, 1, 1, 1, 1, 1 };

		head(&b, 3, 1, 0);
		tensor4(&b, "t", counts[i], ne, QT_F32, 0);
		data(&b, 32, 64);
		refused(&b, "tensor t: has|dimensions, not 1..4");
	}
	for (i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (k = 0; k < 4; k++) {
			uint64_t ne[4] = { 32, 1, 1, 1 };

			ne[k] = sizes[i];
			head(&b, 3, 1, 0);
			tensor4(&b, "t", 4, ne, QT_F32, 0);
			data(&b, 32, 256);
			refused(&b, "tensor t: dimension|not 1..2147483647");
		}
}

/* Each dimension is allowed, but not their product. */
static void test_products(void **state)
{
	static const uint64_t ne[][4] = {
		{ 0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff }, { 1 << 30, 1 << 30, 1 << 30, 1 << 30 },
		{ 32, 1 << 30, 1 << 30, 16 }, { 1 << 16, 1 << 16, 1 << 16, 1 << 16 },
		{ 1 << 16, 1 << 16, 1 << 16, 1 << 14 }, { 1 << 20, 1 << 20, 1 << 20, 1 }, { 64, 1, 1, 1 },
	};
	struct bytes b = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof ne / sizeof *ne; i++) {
		head(&b, 3, 1, 0);
		tensor4(&b, "t", 4, ne[i], QT_F64, 0);
		data(&b, 32, 64 * 8 - 1);
		refused(&b, "tensor t");
	}
}

static void test_types(void **state)
{
	static const uint32_t bad[] = { 4, 5, 31, 32, 33, 36, 37, 38, 43, 255, 0x7fffffff, 0xffffffff };
	struct bytes b = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		head(&b, 3, 1, 0);
		tensor(&b, "t", 32, 1, bad[i], 0);
		data(&b, 32, 4096);
		refused(&b, "tensor t: type|unknown or was removed");
	}
	head(&b, 3, 1, 0);
	tensor(&b, "t", 33, 1, QT_Q8_0, 0);
	data(&b, 32, 4096);
	refused(&b, "tensor t: row of 33 elements is not a multiple of the 32 of a block of Q8_0");
	head(&b, 3, 1, 0);
	tensor(&b, "t", 32, 8, QT_Q4_K, 0);
	data(&b, 32, 4096);
	refused(&b, "tensor t: row of 32 elements is not a multiple of the 256");
}

static void test_offsets(void **state)
{
	static const uint64_t outside[] = { 64, 96, 1ull << 62, UINT64_MAX - 31, (1ull << 63) };
	struct bytes b = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof outside / sizeof *outside; i++) {
		head(&b, 3, 1, 0);
		tensor(&b, "t", 4, 1, QT_F32, outside[i]);
		data(&b, 32, 64);
		refused(&b, "tensor t has 16 bytes at|file has");
	}
	for (i = 1; i < 32; i += 5) {
		head(&b, 3, 1, 0);
		tensor(&b, "t", 4, 1, QT_F32, i);
		data(&b, 32, 64);
		refused(&b, "tensor t has offset|not a multiple of 32");
	}
	head(&b, 3, 1, 0); /* ends one byte after the file */
	tensor(&b, "t", 4, 2, QT_F32, 32);
	data(&b, 32, 63);
	refused(&b, "tensor t has 32 bytes at|file has 159");
	head(&b, 3, 1, 0); /* no data at all, not even the padding */
	tensor(&b, "t", 4, 2, QT_F32, 0);
	refused(&b, "tensor t has 32 bytes at");
}

static void test_overlap(void **state)
{
	struct bytes b = { 0 };

	(void)state;
	head(&b, 3, 2, 0);
	tensor(&b, "a", 16, 1, QT_F32, 32);
	tensor(&b, "b", 12, 1, QT_F32, 0);
	data(&b, 32, 128);
	refused(&b, "tensors b and a overlap");
	head(&b, 3, 2, 0);
	tensor(&b, "a", 4, 1, QT_F32, 0);
	tensor(&b, "b", 4, 1, QT_F32, 0);
	data(&b, 32, 128);
	refused(&b, "overlap");
	head(&b, 3, 3, 0);
	tensor(&b, "a", 4, 1, QT_F32, 0);
	tensor(&b, "b", 4, 1, QT_F32, 32);
	tensor(&b, "a", 4, 1, QT_F32, 64);
	data(&b, 32, 128);
	refused(&b, "tensor a is there twice");
	head(&b, 3, 2, 0); /* a gap is allowed */
	tensor(&b, "a", 8, 1, QT_F32, 64);
	tensor(&b, "b", 8, 1, QT_F32, 0);
	data(&b, 32, 96);
	must_open(&b);
}

static void test_names(void **state)
{
	char name[514];
	struct bytes b = { 0 };

	(void)state;
	memset(name, 'n', sizeof name);
	name[513] = 0;
	head(&b, 3, 1, 0);
	tensor(&b, name, 4, 1, QT_F32, 0);
	data(&b, 32, 64);
	refused(&b, "513 bytes, at most 512");
	name[512] = 0;
	head(&b, 3, 1, 0);
	tensor(&b, name, 4, 1, QT_F32, 0);
	data(&b, 32, 64);
	must_open(&b);
	name[64] = 0; /* more than other readers take */
	head(&b, 3, 1, 0);
	tensor(&b, name, 4, 1, QT_F32, 0);
	data(&b, 32, 64);
	must_open(&b);
	head(&b, 3, 1, 0);
	tensor(&b, "", 4, 1, QT_F32, 0);
	data(&b, 32, 64);
	refused(&b, "tensor name at offset 24 is empty");
	head(&b, 3, 1, 0);
	tensor(&b, "\xc3", 4, 1, QT_F32, 0);
	data(&b, 32, 64);
	refused(&b, "invalid UTF-8");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_magic_and_version),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_string_lengths),
		cmocka_unit_test(test_array_counts),
		cmocka_unit_test(test_nested_arrays),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_dimensions),
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_offsets),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
