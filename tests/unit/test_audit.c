/*
 * test_audit.c - the log's parts: hashes, tree, notes, records.
 *
 * Expected values: FIPS 180-4's examples and libsodium for SHA-256; the leaves and roots of the
 * reference tree of RFC 6962's implementations (certificate-transparency-go) for the tree; the
 * example of C2SP's signed-note page and RFC 8032, section 7.1, TEST 1 for signatures.
 */
#include "test_util.h"

#include <sodium.h>
#include <unistd.h>

#include "audit/mac.h"
#include "audit/leaf.h"
#include "audit/note.h"
#include "audit/tree.h"
#include "base/rng.h"

static void unhex(const char *hex, unsigned char *out, size_t n)
{
	size_t len;

	assert_int_equal(sodium_hex2bin(out, n, hex, strlen(hex), NULL, &len, NULL), 0);
	assert_int_equal(len, n);
}

/* ---- SHA-256 ---- */

static void test_sha_vectors(void **state)
{
	static const struct { const char *in, *hex; } v[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};
	unsigned char want[32], got[32];

	(void)state;
	for (int fast = 0; fast < 2; fast++) {
		sha_fast(fast);
		for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
			unhex(v[i].hex, want, 32);
			sha_of(v[i].in, strlen(v[i].in), got);
			assert_memory_equal(got, want, 32);
		}
	}
	sha_fast(1);
}

static void test_sha_against_libsodium(void **state)
{
	unsigned char in[1000], want[32], got[32];
	struct rng r;
	struct sha s;

	(void)state;
	rng_seed(&r, 7);
	for (size_t i = 0; i < sizeof in; i++)
		in[i] = (unsigned char)rng_below(&r, 256);
	for (size_t n = 0; n <= sizeof in; n++) {
		crypto_hash_sha256(want, in, n);
		sha_init(&s);
		for (size_t at = 0, part; at < n; at += part) { /* in random pieces */
			part = 1 + rng_below(&r, 150);
			part = part < n - at ? part : n - at;
			sha_add(&s, in + at, part);
		}
		sha_end(&s, got);
		assert_memory_equal(got, want, 32);
	}
}

/* ---- the tree ---- */

static const char *const rfc_leaf[8] = { "", "00", "10", "2021", "3031", "40414243",
	"5051525354555657", "606162636465666768696a6b6c6d6e6f" };
static const char *const rfc_root[9] = {
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

#define MANY 300
static unsigned char leaf_hash[MANY][SHA_BYTES];

/* The definition of RFC 6962, section 2.1, word for word. */
static void mth(size_t at, size_t n, unsigned char out[SHA_BYTES])
{
	unsigned char both[2][SHA_BYTES];
	size_t k = 1;

	if (n == 1) {
		memcpy(out, leaf_hash[at], SHA_BYTES);
		return;
	}
	while (k * 2 < n)
		k *= 2;
	mth(at, k, both[0]);
	mth(at + k, n - k, both[1]);
	tree_node(both[0], both[1], out);
}

static int node_of(void *ctx, unsigned level, uint64_t index, unsigned char out[SHA_BYTES],
	struct moe_err *e)
{
	(void)ctx, (void)e;
	assert_true(((index + 1) << level) <= MANY);
	mth((size_t)(index << level), (size_t)1 << level, out);
	return 0;
}

static void test_rfc6962_roots(void **state)
{
	struct tree t = { 0 };
	unsigned char want[32], got[32], raw[16];

	(void)state;
	for (int n = 0; n <= 8; n++) {
		unhex(rfc_root[n], want, 32);
		tree_root(&t, got);
		assert_memory_equal(got, want, 32);
		if (n == 8)
			break;
		unhex(rfc_leaf[n], raw, strlen(rfc_leaf[n]) / 2);
		tree_leaf(raw, strlen(rfc_leaf[n]) / 2, leaf_hash[n]);
		assert_int_equal(tree_add(&t, leaf_hash[n], NULL, NULL, NULL), 0);
	}
}

static void test_rfc6962_proofs(void **state)
{
	struct tree_source src = { node_of, NULL };
	unsigned char path[TREE_CONSISTENCY_MAX][32], root[9][32], raw[16];
	struct moe_err e;

	(void)state;
	for (int n = 0; n <= 8; n++) {
		unhex(rfc_root[n], root[n], 32);
		if (n < 8) {
			unhex(rfc_leaf[n], raw, strlen(rfc_leaf[n]) / 2);
			tree_leaf(raw, strlen(rfc_leaf[n]) / 2, leaf_hash[n]);
		}
	}
	assert_int_equal(tree_path(&src, 0, 1, path, &e), 0);
	assert_int_equal(tree_path(&src, 2, 3, path, &e), 1);
	assert_memory_equal(path[0], root[2], 32);
	assert_int_equal(tree_consistency(&src, 1, 1, path, &e), 0);
	for (uint64_t n = 1; n <= 8; n++)
		for (uint64_t m = 1; m <= n; m++) {
			int k = tree_consistency(&src, m, n, path, &e);

			assert_true(tree_check_consistency(m, n, (const void *)path, (size_t)k, root[m], root[n]));
		}
	/* what must fail */
	assert_true(tree_check_consistency(0, 0, NULL, 0, root[0], root[0]));
	assert_false(tree_check_consistency(0, 5, NULL, 0, root[0], root[5]));
	assert_false(tree_check_consistency(6, 5, NULL, 0, root[6], root[5]));
	assert_false(tree_check_consistency(5, 5, (const void *)path, 1, root[5], root[5]));
	assert_false(tree_check_path(UINT64_MAX, 8, leaf_hash[0], (const void *)path, 3, root[8]));
}

/* Proofs of every leaf and size up to MANY by the definition, and each of them spoiled. */
static void test_proofs_by_definition(void **state)
{
	struct tree_source src = { node_of, NULL };
	unsigned char path[TREE_CONSISTENCY_MAX][32], root[MANY + 1][32];
	struct tree t = { 0 };
	struct moe_err e;
	struct rng r;

	(void)state;
	rng_seed(&r, 1);
	for (size_t i = 0; i < MANY; i++)
		tree_leaf(&i, sizeof i, leaf_hash[i]);
	for (uint64_t n = 1; n <= MANY; n++) {
		mth(0, n, root[n]);
		tree_add(&t, leaf_hash[n - 1], NULL, NULL, NULL);
		tree_root(&t, path[0]);
		assert_memory_equal(path[0], root[n], 32);
		assert_int_equal(tree_root_at(&src, n, path[0], &e), 0);
		assert_memory_equal(path[0], root[n], 32);
	}
	for (uint64_t n = 1; n <= MANY; n += 1 + rng_below(&r, 7))
		for (uint64_t i = 0; i < n; i += 1 + rng_below(&r, 5)) {
			int k = tree_path(&src, i, n, path, &e);
			uint64_t other = rng_below(&r, (uint32_t)n);

			assert_true(k >= 0);
			assert_true(tree_check_path(i, n, leaf_hash[i], (const void *)path, (size_t)k, root[n]));
			assert_false(tree_check_path(i, n, leaf_hash[i], (const void *)path, (size_t)k + 1, root[n]));
			if (other != i)
				assert_false(tree_check_path(other, n, leaf_hash[i], (const void *)path, (size_t)k,
					root[n]));
			if (k) {
				assert_false(tree_check_path(i, n, leaf_hash[i], (const void *)path, (size_t)k - 1,
					root[n]));
				path[rng_below(&r, (uint32_t)k)][rng_below(&r, 32)] ^= 1;
				assert_false(tree_check_path(i, n, leaf_hash[i], (const void *)path, (size_t)k, root[n]));
			}
		}
	for (uint64_t n = 2; n <= MANY; n += 1 + rng_below(&r, 7))
		for (uint64_t m = 1; m < n; m += 1 + rng_below(&r, 5)) {
			int k = tree_consistency(&src, m, n, path, &e);

			assert_true(k > 0);
			assert_true(tree_check_consistency(m, n, (const void *)path, (size_t)k, root[m], root[n]));
			assert_false(tree_check_consistency(m, n, (const void *)path, (size_t)k - 1, root[m], root[n]));
			assert_false(tree_check_consistency(m, n, (const void *)path, (size_t)k + 1, root[m], root[n]));
			path[rng_below(&r, (uint32_t)k)][rng_below(&r, 32)] ^= 1;
			assert_false(tree_check_consistency(m, n, (const void *)path, (size_t)k, root[m], root[n]));
		}
}

/* ---- notes ---- */

static const char c2sp_key[] = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
static const char c2sp_note[] = "This is an example message.\n\n"
	"\xe2\x80\x94 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXm"
	"RKuwHjG1Yu72IneyaQM=\n";

static void test_signed_note(void **state)
{
	struct note_key k;
	struct moe_err e;
	char text[NOTE_KEY_TEXT], bad[sizeof c2sp_note];
	size_t n, used;

	(void)state;
	ok_or_fail(!note_key_read(&k, c2sp_key, strlen(c2sp_key), &e), &e);
	assert_string_equal(k.name, "example.com/foo");
	note_key_text(&k, text);
	assert_string_equal(text, c2sp_key);
	ok_or_fail(note_open(c2sp_note, strlen(c2sp_note), &k, 1, &n, &used, &e) == 0, &e);
	assert_int_equal(n, strlen("This is an example message.\n"));
	assert_int_equal(used, strlen(c2sp_note));
	for (size_t i = 0; i < strlen(c2sp_note); i++) { /* every byte counts, but for base64's last bits */
		memcpy(bad, c2sp_note, sizeof bad);
		bad[i] ^= 1;
		assert_true(note_open(bad, strlen(c2sp_note), &k, 1, &n, &used, &e) < 0);
	}
	for (size_t i = 0; i < strlen(c2sp_note); i++)
		assert_true(note_open(c2sp_note, i, &k, 1, &n, &used, &e) < 0);
	for (size_t i = 0; i < strlen(c2sp_key); i++) { /* a key that was copied wrongly is noticed */
		char key[sizeof c2sp_key];

		memcpy(key, c2sp_key, sizeof key);
		key[i] ^= 1;
		assert_true(note_key_read(&k, key, strlen(key), &e) < 0);
	}
}

static void test_rfc8032(void **state)
{
	unsigned char seed[32], pub[32], sig[64], want[64];
	struct note_secret s;

	(void)state;
	unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", seed, 32);
	unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", pub, 32);
	unhex("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
	      "d25bf5f0595bbe24655141438e7a100b", want, 64);
	note_secret_of(&s, "test", seed);
	assert_memory_equal(s.key.pub, pub, 32);
	crypto_sign_detached(sig, NULL, (const unsigned char *)"", 0, s.secret);
	assert_memory_equal(sig, want, 64);
}

static void test_checkpoint(void **state)
{
	struct checkpoint c = { "example.org/log", 12345, 3, { 1, 2, 3 } }, d;
	unsigned char seed[32] = { 9 };
	struct note_secret s;
	struct buf text, note;
	struct moe_err e;
	size_t n, used;

	(void)state;
	buf_init(&text, NOTE_MAX);
	buf_init(&note, NOTE_MAX);
	note_secret_of(&s, "example.org/log", seed);
	checkpoint_text(&c, &text);
	assert_string_equal(text.data,
		"example.org/log\n12345\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nepoch 3\n");
	note_sign(&s, text.data, text.len, &note);
	ok_or_fail(note_open(note.data, note.len, &s.key, 1, &n, &used, &e) == 0, &e);
	ok_or_fail(!checkpoint_read(&d, note.data, n, &e), &e);
	assert_int_equal(d.size, 12345);
	assert_int_equal(d.epoch, 3);
	assert_memory_equal(d.root, c.root, 32);
	assert_string_equal(d.origin, c.origin);
	assert_true(checkpoint_read(&d, "a\n01\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nepoch 3\n",
		60, &e) < 0);
	buf_free(&text);
	buf_free(&note);
}

/* ---- leaves ---- */

static void test_leaf_bytes(void **state)
{
	struct leaf l = { .index = 1, .run = 2, .seq = 3, .first = 4, .wall = 5, .mono = 6,
		.kind = LEAF_BATCH, .flags = LEAF_LOGITS, .n = 7 }, back;
	unsigned char out[LEAF_BYTES], want[LEAF_BYTES] = "moescope-leaf/1\n", sum[32], by_hand[32],
		salt[32] = { 0xaa };
	char data[16 + 32 + 8 + 3] = "moescope-data/1\n";

	(void)state;
	memset(l.boot, 0x11, 16);
	memset(l.descriptor, 0x22, 32);
	memset(l.commit, 0x33, 32);
	leaf_put(&l, out);
	memset(want + 16, 0, LEAF_BYTES - 16);
	want[23] = 1, want[25] = 6, want[27] = 4, want[31] = 7;
	want[39] = 2, want[47] = 3, want[55] = 4, want[63] = 5, want[71] = 6;
	memset(want + 72, 0x11, 16);
	memset(want + 88, 0x22, 32);
	memset(want + 120, 0x33, 32);
	assert_memory_equal(out, want, LEAF_BYTES);
	assert_int_equal(leaf_get(&back, out, sizeof out), 0);
	assert_memory_equal(&back, &l, sizeof l);
	assert_int_equal(leaf_get(&back, out, sizeof out - 1), -1);
	memcpy(data + 16, salt, 32);
	memcpy(data + 48, "\0\0\0\0\0\0\0\3abc", 11);
	crypto_hash_sha256(by_hand, (unsigned char *)data, sizeof data);
	leaf_commit(salt, "abc", 3, sum);
	assert_memory_equal(sum, by_hand, 32);
}

static void test_records(void **state)
{
	struct buf b;
	char out[64];

	(void)state;
	buf_init(&b, 4096);
	record_begin(&b, "access");
	record_text(&b, "who", "a\\b\nc\xc3\xa4");
	record_text(&b, "none", NULL);
	record_int(&b, "n", -5);
	assert_string_equal(b.data, "moescope-record/1 access\nwho a\\x5cb\\x0ac\\xc3\\xa4\nn -5\n");
	assert_int_equal(record_get(b.data, b.len, "who", out, sizeof out), 0);
	assert_string_equal(out, "a\\b\nc\xc3\xa4");
	assert_int_equal(record_get(b.data, b.len, "wh", out, sizeof out), -1);
	assert_int_equal(record_get_int(b.data, b.len, "n", 0), -5);
	record_kind(b.data, b.len, out, sizeof out);
	assert_string_equal(out, "access");
	buf_free(&b);
}

static int start(void **state)
{
	(void)state;
	return sodium_init() < 0;
}

/* RFC 8439, section 2.5.2 and appendix A.3 (vectors 2, 7, 8, 9, 11: carries and the modulus), and
 * libsodium over lengths around the vectors' groups with keys and messages of extreme bits. */
static void test_mac(void **state)
{
	static const struct { const char *key, *msg, *tag; } vec[] = {
		{ "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b",
			"43727970746f6772617068696320466f72756d2052657365617263682047726f7570",
			"a8061dc1305136c6c22b8baf0c0127a9" },
		{ "0000000000000000000000000000000036e5f6b5c5e06070f0efca96227a863e", "",
			"36e5f6b5c5e06070f0efca96227a863e" },
		{ "0200000000000000000000000000000000000000000000000000000000000000",
			"ffffffffffffffffffffffffffffffff", "03000000000000000000000000000000" },
		{ "02000000000000000000000000000000ffffffffffffffffffffffffffffffff",
			"02000000000000000000000000000000", "03000000000000000000000000000000" },
		{ "0100000000000000000000000000000000000000000000000000000000000000",
			"fffffffffffffffffffffffffffffffff0ffffffffffffffffffffffffffffff"
			"11000000000000000000000000000000", "05000000000000000000000000000000" },
		{ "0100000000000000000000000000000000000000000000000000000000000000",
			"fffffffffffffffffffffffffffffffffbfefefefefefefefefefefefefefefe"
			"01010101010101010101010101010101", "00000000000000000000000000000000" },
		{ "0100000000000000040000000000000000000000000000000000000000000000",
			"e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000"
			"000000000000000001000000000000000000000000000000",
			"14000000000000005500000000000000" },
	};
	static unsigned char msg[4200];
	unsigned char key[MAC_KEY], want[MAC_BYTES], got[MAC_BYTES];
	struct rng r;

	(void)state;
	for (int fast = 0; fast < 2; fast++) {
		mac_fast(fast);
		for (size_t i = 0; i < sizeof vec / sizeof vec[0]; i++) {
			size_t n = 0;

			assert_int_equal(sodium_hex2bin(key, sizeof key, vec[i].key, 64, NULL, NULL, NULL), 0);
			assert_int_equal(
				sodium_hex2bin(want, sizeof want, vec[i].tag, 32, NULL, NULL, NULL), 0);
			assert_int_equal(
				sodium_hex2bin(msg, sizeof msg, vec[i].msg, strlen(vec[i].msg), NULL, &n, NULL), 0);
			mac_of(msg, n, key, got);
			assert_memory_equal(got, want, sizeof want);
		}
	}
	rng_seed(&r, 7);
	for (size_t i = 0; i < 3000; i++) {
		size_t n = i < 400 ? i : rng_below(&r, sizeof msg);
		unsigned all = (unsigned)rng_below(&r, 4); /* 1, 3: every bit of the key, the message */

		memset(key, 0xff, sizeof key);
		memset(msg, 0xff, n);
		for (size_t k = 0; k < sizeof key && !(all & 1); k++)
			key[k] = (unsigned char)rng_below(&r, 256);
		for (size_t k = 0; k < n && !(all & 2); k++)
			msg[k] = (unsigned char)rng_below(&r, 256);
		mac_of(msg, n, key, got);
		crypto_onetimeauth(want, msg, n, key);
		assert_memory_equal(got, want, sizeof want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mac),
		cmocka_unit_test(test_sha_vectors),
		cmocka_unit_test(test_sha_against_libsodium),
		cmocka_unit_test(test_rfc6962_roots),
		cmocka_unit_test(test_rfc6962_proofs),
		cmocka_unit_test(test_proofs_by_definition),
		cmocka_unit_test(test_signed_note),
		cmocka_unit_test(test_rfc8032),
		cmocka_unit_test(test_checkpoint),
		cmocka_unit_test(test_leaf_bytes),
		cmocka_unit_test(test_records),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
