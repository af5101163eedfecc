/*
 * test_base.c - the ground everything stands on: buffers, error messages, text made safe, options,
 * random numbers, the thread pool, tensor types.
 *
 * Expected values come from outside: table 3-7 of the Unicode Standard for UTF-8, the published
 * outputs of splitmix64 and xoshiro256**, the block sizes of the GGUF specification.
 */
#include "test_util.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/pool.h"
#include "base/qtype.h"
#include "base/rng.h"
#include "base/text.h"

/* ---- buf ---- */

static void test_buf_grows_and_ends_with_nul(void **state)
{
	struct buf b;
	char want[4000];

	(void)state;
	buf_init(&b, 1 << 20);
	assert_null(b.data);
	for (size_t i = 0; i < sizeof want; i++) {
		want[i] = (char)('a' + i % 26);
		buf_char(&b, want[i]);
		assert_int_equal(b.data[i + 1], 0);
	}
	assert_int_equal(b.len, sizeof want);
	assert_memory_equal(b.data, want, sizeof want);
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_string_equal(b.data, "");
	buf_printf(&b, "%d-%s", 42, "x");
	buf_str(&b, "yz");
	buf_add(&b, "\0q", 2);
	buf_add(&b, NULL, 0);
	assert_int_equal(b.len, 8);
	assert_memory_equal(b.data, "42-xyz\0q", 9);
	assert_false(b.failed);
	buf_free(&b);
	assert_null(b.data);
}

static void test_buf_stops_at_its_maximum(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 10);
	buf_str(&b, "0123456789");
	assert_false(b.failed);
	assert_int_equal(b.len, 10);
	buf_char(&b, 'x');
	assert_true(b.failed);
	buf_clear(&b);
	buf_str(&b, "0123456789a");
	buf_char(&b, 'x'); /* would fit, but what was appended before it is not there */
	assert_true(b.failed);
	assert_int_equal(b.len, 0);
	buf_clear(&b);
	buf_str(&b, "0123456789");
	assert_string_equal(b.data, "0123456789");
	buf_clear(&b);
	assert_false(b.failed);
	buf_printf(&b, "%s", "01234567890");
	assert_true(b.failed);
	assert_int_equal(b.len, 0);
	buf_clear(&b);
	buf_add(&b, "x", SIZE_MAX); /* a size that would wrap around is only too large */
	assert_true(b.failed);
	buf_free(&b);
	buf_init(&b, 0);
	buf_str(&b, "");
	assert_false(b.failed);
	assert_string_equal(b.data, "");
	buf_char(&b, 'x');
	assert_true(b.failed);
	buf_free(&b);
}

/* ---- err ---- */

static void test_err_says_what_it_is_told(void **state)
{
	struct moe_err e;

	(void)state;
	assert_int_equal(err_set(&e, MOE_ERR_INPUT, "%d of %s", 3, "four"), -1);
	assert_int_equal(e.code, MOE_ERR_INPUT);
	assert_string_equal(e.msg, "3 of four");
	assert_int_equal(err_wrap(&e, "opening %s", "x"), -1);
	assert_int_equal(e.code, MOE_ERR_INPUT);
	assert_string_equal(e.msg, "opening x: 3 of four");
	errno = ENOENT;
	assert_int_equal(err_errno(&e, "opening %s", "y"), -1);
	assert_int_equal(e.code, MOE_ERR_SYS);
	assert_string_equal(e.msg, "opening y: No such file or directory");
	assert_int_equal(err_nomem(&e, 99, "z"), -1);
	assert_int_equal(e.code, MOE_ERR_SYS);
	assert_string_equal(e.msg, "out of memory (99 bytes for z)");
	assert_int_equal(err_set(NULL, MOE_ERR_SYS, "x"), -1); /* nobody listens: no crash */
	assert_int_equal(err_wrap(NULL, "x"), -1);
	assert_int_equal(err_errno(NULL, "x"), -1);
}

static void test_err_is_cut_with_dots(void **state)
{
	enum { MAX = sizeof((struct moe_err *)0)->msg - 1 };
	char text[2000];
	struct moe_err e;

	(void)state;
	for (size_t n = MAX - 2; n < MAX + 3; n++) {
		memset(text, 'a', n);
		text[n] = 0;
		err_set(&e, MOE_ERR_INPUT, "%s", text);
		if (n <= MAX) {
			assert_string_equal(e.msg, text);
		} else {
			assert_int_equal(strlen(e.msg), MAX);
			assert_memory_equal(e.msg, text, MAX - 3);
			assert_string_equal(e.msg + MAX - 3, "...");
		}
	}
	err_set(&e, MOE_ERR_INPUT, "short");
	memset(text, 'b', 1000);
	text[1000] = 0;
	err_wrap(&e, "%s", text);
	assert_int_equal(strlen(e.msg), MAX);
	assert_string_equal(e.msg + MAX - 4, "b...");
	text[MAX - 4] = 0; /* only the message behind it is cut */
	err_set(&e, MOE_ERR_INPUT, "short");
	err_wrap(&e, "%s", text);
	assert_int_equal(strlen(e.msg), MAX);
	assert_string_equal(e.msg + MAX - 4, ":...");
	errno = EIO;
	err_errno(&e, "%s", text);
	assert_string_equal(e.msg + MAX - 3, "...");
}

/* No byte of a hostile name acts on the terminal, and what is left is valid UTF-8. */
static void test_err_is_safe_on_a_terminal(void **state)
{
	static const struct { const char *in, *out; } c[] = {
		{ "a\033[2Jb", "a?[2Jb" }, { "a\r\n\tb\177", "a???b?" },
		{ "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
			"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "\x9b" "2J", "?2J" },                  /* CSI as one byte: not UTF-8 */
		{ "\xc2\x9b" "2J", "?2J" },              /* CSI as U+009B */
		{ "\xe2\x80\xae" "fdp.exe", "?fdp.exe" }, /* right-to-left override */
		/* separator, isolate, ZWSP */
		{ "a\xe2\x80\xa8" "b\xe2\x81\xa6" "c\xe2\x80\x8b" "d", "a?b?c?d" },
		{ "\xef\xbb\xbfx", "?x" },               /* byte order mark */
		{ "\xc3", "?" }, { "\xe2\x82", "??" }, { "\xc0\x80", "??" }, { "\xed\xa0\x80", "???" },
	};
	struct moe_err e;
	char text[600];

	(void)state;
	for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
		err_set(&e, MOE_ERR_INPUT, "%s", c[i].in);
		assert_string_equal(e.msg, c[i].out);
		err_wrap(&e, "%s", c[i].in);
		assert_memory_equal(e.msg, c[i].out, strlen(c[i].out));
		errno = EIO;
		err_errno(&e, "%s", c[i].in);
		assert_memory_equal(e.msg, c[i].out, strlen(c[i].out));
	}
	for (size_t shift = 0; shift < 4; shift++) { /* cut inside a character */
		uint32_t cp;

		memset(text, 'a', shift);
		for (size_t i = shift; i + 4 < sizeof text; i += 4)
			memcpy(text + i, "\xf0\x9f\x98\x80", 5);
		err_set(&e, MOE_ERR_INPUT, "%s", text);
		assert_string_equal(e.msg + strlen(e.msg) - 3, "...");
		for (size_t i = 0, n, len = strlen(e.msg); i < len; i += n) {
			n = text_decode(e.msg + i, len - i, &cp);
			assert_true(n > 0);
		}
	}
}

/* ---- text ---- */

/* Table 3-7 of the Unicode Standard: the well-formed byte sequences, and nothing else. */
static const struct { uint8_t n, lo[4], hi[4]; } well_formed[] = {
	{ 1, { 0x00 }, { 0x7f } },
	{ 2, { 0xc2, 0x80 }, { 0xdf, 0xbf } },
	{ 3, { 0xe0, 0xa0, 0x80 }, { 0xe0, 0xbf, 0xbf } },
	{ 3, { 0xe1, 0x80, 0x80 }, { 0xec, 0xbf, 0xbf } },
	{ 3, { 0xed, 0x80, 0x80 }, { 0xed, 0x9f, 0xbf } },
	{ 3, { 0xee, 0x80, 0x80 }, { 0xef, 0xbf, 0xbf } },
	{ 4, { 0xf0, 0x90, 0x80, 0x80 }, { 0xf0, 0xbf, 0xbf, 0xbf } },
	{ 4, { 0xf1, 0x80, 0x80, 0x80 }, { 0xf3, 0xbf, 0xbf, 0xbf } },
	{ 4, { 0xf4, 0x80, 0x80, 0x80 }, { 0xf4, 0x8f, 0xbf, 0xbf } },
};

static size_t expected_length(const uint8_t *s, size_t n)
{
	for (size_t r = 0; r < sizeof well_formed / sizeof well_formed[0]; r++) {
		size_t i = 0;

		while (i < well_formed[r].n && i < n && s[i] >= well_formed[r].lo[i] &&
			s[i] <= well_formed[r].hi[i])
			i++;
		if (i == well_formed[r].n)
			return i;
	}
	return 0;
}

static void decode_one(const uint8_t *s, size_t n)
{
	size_t want = expected_length(s, n), got;
	uint32_t cp = 0xffffffff;
	char back[4];

	got = text_decode((const char *)s, n, &cp);
	if (got != want)
		fail_msg("%02x %02x %02x %02x, %zu bytes: length %zu, expected %zu", s[0], s[1], s[2], s[3],
			n, got, want);
	if (want && (text_encode(cp, back) != want || memcmp(back, s, want)))
		fail_msg("%02x %02x %02x %02x: U+%04X does not encode back", s[0], s[1], s[2], s[3], cp);
}

static void test_text_decodes_strictly(void **state)
{
	/* all lead bytes against every kind of byte behind them */
	static const uint8_t kind[] = { 0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0,
		0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0xff };
	uint8_t s[4] = { 0 };

	(void)state;
	for (uint32_t x = 0; x < 1u << 24; x++) { /* every sequence of one, two and three bytes */
		s[0] = (uint8_t)(x >> 16);
		s[1] = (uint8_t)(x >> 8);
		s[2] = (uint8_t)x;
		if (!(x & 0xffff))
			decode_one(s, 1);
		if (!(x & 0xff))
			decode_one(s, 2);
		decode_one(s, 3);
		if (s[2] == 0x80) { /* the bytes behind the end must not count */
			decode_one(s, 2);
			decode_one(s, 1);
		}
	}
	for (unsigned a = 0xe0; a < 0x100; a++)
		for (unsigned b = 0; b < 0x100; b++)
			for (size_t c = 0; c < sizeof kind; c++)
				for (size_t d = 0; d < sizeof kind; d++) {
					memcpy(s, (uint8_t[]){ (uint8_t)a, (uint8_t)b, kind[c], kind[d] }, 4);
					decode_one(s, 4);
				}
}

static void test_text_encodes_every_scalar(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x10ffff; c++) {
		char s[4];
		uint32_t back;
		size_t n;

		if (c >= 0xd800 && c <= 0xdfff)
			continue;
		n = text_encode(c, s);
		assert_int_equal(n, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
		if (text_decode(s, n, &back) != n || back != c)
			fail_msg("U+%04X does not come back", c);
	}
}

static void escapes(const char *in, size_t n, enum text_for where, const char *want)
{
	struct buf b;

	buf_init(&b, 1 << 16);
	text_escape(&b, in, n, where);
	assert_false(b.failed);
	assert_string_equal(b.data ? b.data : "", want);
	buf_free(&b);
}

static void test_text_escapes_for_each_place(void **state)
{
	static const char esc[] = "\033]0;title\007", osc52[] = "\033]52;c;cm0gLXJm\033\\";
	static const char marks[] = "e\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81";

	(void)state;
	escapes("", 0, TEXT_TERMINAL, "");
	escapes("plain \xc3\xa9\xe6\xbc\xa2\xf0\x9f", 13, TEXT_TERMINAL,
		"plain \xc3\xa9\xe6\xbc\xa2\\xf0\\x9f"); /* an emoji that ends too early */
	escapes(esc, sizeof esc - 1, TEXT_TERMINAL, "\\x1b]0;title\\x07");
	escapes(osc52, sizeof osc52 - 1, TEXT_TERMINAL, "\\x1b]52;c;cm0gLXJm\\x1b\\");
	escapes("\x9b" "2J", 3, TEXT_TERMINAL, "\\x9b2J");
	escapes("\xc2\x9b" "2J", 4, TEXT_TERMINAL, "\\x9b2J");
	escapes("a\0b\r\n\t\177", 7, TEXT_TERMINAL, "a\\x00b\\x0d\\x0a\\x09\\x7f");
	escapes("\xe2\x80\xae" "abc", 6, TEXT_TERMINAL, "\\u202eabc");
	escapes("\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\x8b\xef\xbb\xbf", 12, TEXT_TERMINAL,
		"\\u2028\\u2029\\u200b\\ufeff");
	escapes("\xc0\x80\xed\xa0\x80", 5, TEXT_TERMINAL, "\\xc0\\x80\\xed\\xa0\\x80");
	/* four are kept */
	escapes(marks, sizeof marks - 1, TEXT_TERMINAL, "e\xcc\x81\xcc\x81\xcc\x81\xcc\x81");
	escapes("<a href='x'>&\"", 14, TEXT_HTML, "&#60;a href=&#39;x&#39;&#62;&#38;&#34;");
	escapes("</script>\033\xc2\x9b", 12, TEXT_HTML, "&#60;/script&#62;\\x1b\\x9b");
	escapes("a\"\\\n\t\r\x01", 7, TEXT_JSON, "a\\\"\\\\\\n\\t\\u000d\\u0001");
	escapes("\x7f\xc2\x85\xe2\x80\xa8\xff", 7, TEXT_JSON, "\\u007f\\u0085\\u2028\xef\xbf\xbd");
	escapes("\0x", 2, TEXT_JSON, "\\u0000x");
	escapes("\xe2\x80\xae\xf3\xa0\x80\x81", 7, TEXT_JSON, "\\u202e\\udb40\\udc01"); /* U+E0001 */
}

/* Whatever goes in, what comes out has no byte that acts on a terminal and is valid UTF-8. */
static void test_text_escape_is_always_safe(void **state)
{
	struct rng r;

	(void)state;
	rng_seed(&r, 7);
	for (int round = 0; round < 20000; round++) {
		static const enum text_for place[] = { TEXT_TERMINAL, TEXT_JSON, TEXT_HTML };
		char in[24];
		size_t n = rng_below(&r, sizeof in + 1), len;
		struct buf b;
		uint32_t cp;

		for (size_t i = 0; i < n; i++)
			in[i] = (char)(rng_below(&r, 3) ? rng_below(&r, 256) : 0x80 + rng_below(&r, 64));
		buf_init(&b, 1 << 12);
		text_escape(&b, in, n, place[round % 3]);
		for (size_t i = 0; i < b.len; i += len) {
			len = text_decode(b.data + i, b.len - i, &cp);
			if (!len || cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
				fail_msg("round %d: byte %02x came through", round, (unsigned char)b.data[i]);
			if (place[round % 3] == TEXT_HTML && cp < 0x80)
				assert_null(strchr("<>\"'", (int)cp));
		}
		buf_free(&b);
	}
}

static void test_text_width_counts_columns(void **state)
{
	(void)state;
	assert_int_equal(text_width(""), 0);
	assert_int_equal(text_width("abc"), 3);
	assert_int_equal(text_width("\xc3\xa9\xc3\xa9"), 2);
	assert_int_equal(text_width("\xe6\xbc\xa2\xe5\xad\x97"), 4); /* two Han characters */
	assert_int_equal(text_width("e\xcc\x81"), 1);                /* a combining accent */
	assert_int_equal(text_width("\xf0\x9f\x98\x80"), 2);
	assert_int_equal(text_width("\xff" "a"), 1);
}

/* ---- opt ---- */

static int flag, word;
static long long whole;
static double real;
static const char *text_value;
static struct opt_list list;
static const struct opt opts[] = {
	{ "flag", 'f', OPT_FLAG, &flag, NULL, "a flag", 0, 0 },
	{ "whole", 'n', OPT_INT, &whole, "N", "a whole number", -5, 100 },
	{ "free", 0, OPT_INT, &whole, "N", "one without limits", 0, 0 },
	{ "real", 'r', OPT_REAL, &real, "X", "a number", 0, 1 },
	{ "text", 't', OPT_TEXT, &text_value, "TEXT", "text", 0, 0 },
	{ "text-too", 0, OPT_TEXT, &text_value, "TEXT", "a name that begins like another", 0, 0 },
	{ "word", 'w', OPT_ENUM, &word, "one|two|three", "a word", 0, 0 },
	{ "list", 'l', OPT_LIST, &list, "ITEM", "many", 0, 0 },
	{ 0 },
};

#define ARGS(...) ((char *[]){ (char *)"cmd", __VA_ARGS__ })
#define COUNT(...) ((int)(sizeof(ARGS(__VA_ARGS__)) / sizeof(char *)))
#define PARSE(n, e, ...) opt_parse(opts, COUNT(__VA_ARGS__), ARGS(__VA_ARGS__), n, e)

static void opt_reset(void)
{
	flag = word = 0;
	whole = 0;
	real = 0;
	text_value = NULL;
	memset(&list, 0, sizeof list);
}

static void test_opt_reads_every_kind(void **state)
{
	char *argv[] = { (char *)"cmd", (char *)"in", (char *)"--flag", (char *)"-n", (char *)"-5",
		(char *)"--real=0.25", (char *)"-tabc", (char *)"--word", (char *)"three", (char *)"-l",
		(char *)"x", (char *)"--list=y", (char *)"-", (char *)"--", (char *)"--flag",
		(char *)"-z" };
	struct moe_err e = { 0 };
	int n;

	(void)state;
	opt_reset();
	ok_or_fail(!opt_parse(opts, (int)(sizeof argv / sizeof *argv), argv, &n, &e), &e);
	assert_int_equal(flag, 1);
	assert_int_equal(whole, -5);
	assert_float_equal(real, 0.25, 0);
	assert_string_equal(text_value, "abc");
	assert_int_equal(word, 2);
	assert_int_equal(list.n, 2);
	assert_string_equal(list.item[0], "x");
	assert_string_equal(list.item[1], "y");
	assert_int_equal(n, 4); /* operands in order; a lone dash is one; all behind -- are */
	assert_string_equal(argv[0], "in");
	assert_string_equal(argv[1], "-");
	assert_string_equal(argv[2], "--flag");
	assert_string_equal(argv[3], "-z");
	ok_or_fail(!PARSE(&n, &e, (char *)"--text-too=b=c"), &e);
	assert_string_equal(text_value, "b=c");
	ok_or_fail(!PARSE(&n, &e, (char *)"--text="), &e);
	assert_string_equal(text_value, "");
	/* a value may look like one */
	ok_or_fail(!PARSE(&n, &e, (char *)"--text", (char *)"--flag"), &e);
	assert_string_equal(text_value, "--flag");
	ok_or_fail(!PARSE(&n, &e, (char *)"--free", (char *)"-9223372036854775808"), &e);
	assert_true(whole == INT64_MIN);
	ok_or_fail(!PARSE(&n, &e, (char *)"-r1e-3"), &e);
	assert_float_equal(real, 0.001, 1e-12);
}

static void refused(const char *a, const char *b, const char *part)
{
	char *argv[] = { (char *)"cmd", (char *)a, (char *)b };
	struct moe_err e = { 0 };
	int n;

	if (!opt_parse(opts, b ? 3 : 2, argv, &n, &e))
		fail_msg("%s %s was accepted", a, b ? b : "");
	assert_int_equal(e.code, MOE_ERR_USAGE);
	if (!strstr(e.msg, part))
		fail_msg("'%s' does not say '%s'", e.msg, part);
}

static void test_opt_refuses_what_makes_no_sense(void **state)
{
	(void)state;
	opt_reset();
	refused("--nosuch", NULL, "--nosuch");
	refused("--fla", NULL, "--fla"); /* no abbreviations: they would be promises */
	refused("--flags", NULL, "--flags");
	refused("-z", NULL, "-z");
	refused("--flag=1", NULL, "--flag takes no value");
	refused("-fx", NULL, "--flag takes no value");
	refused("--text", NULL, "--text needs TEXT");
	refused("-n", NULL, "--whole needs N");
	refused("-n", "abc", "'abc'");
	refused("-n", "", "not a whole number");
	refused("-n", "5x", "'5x'");
	refused("-n", "5.0", "'5.0'");
	refused("-n", "1e1", "'1e1'");
	refused("-n", "101", "-5 to 100");
	refused("-n", "-6", "-5 to 100");
	refused("--free", "9223372036854775808", "9223372036854775808"); /* 2^63 */
	refused("-r", "x", "'x'");
	refused("-r", "1.5", "0 to 1");
	refused("-r", "-0.1", "0 to 1");
	refused("-r", "nan", "'nan'");
	refused("-r", "inf", "'inf'");
	refused("-r", "1e999", "'1e999'");
	refused("-r", "0.5 ", "'0.5 '");
	refused("--word", "four", "one|two|three");
	refused("--word", "", "one|two|three");
	refused("--word", "one|two", "one|two|three");
	refused("--word", "on", "one|two|three");
	assert_int_equal(whole, 0); /* nothing was stored on the way */
	assert_float_equal(real, 0, 0);
}

static void test_opt_list_is_bounded(void **state)
{
	char *argv[66];
	struct moe_err e = { 0 };
	int n;

	(void)state;
	opt_reset();
	for (size_t i = 0; i < 66; i++)
		argv[i] = (char *)"-lx";
	ok_or_fail(!opt_parse(opts, 65, argv, &n, &e), &e);
	assert_int_equal(list.n, 64);
	opt_reset();
	assert_int_equal(opt_parse(opts, 66, argv, &n, &e), -1);
	assert_non_null(strstr(e.msg, "64"));
}

static void test_opt_help_names_every_row(void **state)
{
	char out[4096] = "";
	FILE *f = fmemopen(out, sizeof out, "w");

	(void)state;
	assert_non_null(f);
	opt_help(opts, f);
	fclose(f);
	for (const struct opt *o = opts; o->name; o++) {
		char want[80];

		snprintf(want, sizeof want, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		if (!strstr(out, want) || !strstr(out, o->help))
			fail_msg("help lacks %s", want);
	}
	assert_non_null(strstr(out, "-n, --whole"));
}

/* ---- rng ---- */

static void test_rng_is_the_published_one(void **state)
{
	/* splitmix64 from seed 1234567; xoshiro256** from the state 1, 2, 3, 4 */
	static const uint64_t seeded[4] = { 6457827717110365317u, 3203168211198807973u,
		9817491932198370423u, 4593380528125082431u };
	static const uint64_t out[10] = { 11520u, 0u, 1509978240u, 1215971899390074240u,
		1216172134540287360u, 607988272756665600u, 16172922978634559625u, 8476171486693032832u,
		10595114339597558777u, 2904607092377533576u };
	struct rng r;

	(void)state;
	rng_seed(&r, 1234567);
	assert_memory_equal(r.s, seeded, sizeof seeded);
	r = (struct rng){ { 1, 2, 3, 4 } };
	for (size_t i = 0; i < 10; i++)
		assert_true(rng_u64(&r) == out[i]);
}

/* Chi-square of counts against equal shares. */
static double chi_square(const unsigned *count, size_t cells, double n)
{
	double x = 0, want = n / (double)cells;

	for (size_t i = 0; i < cells; i++)
		x += (count[i] - want) * (count[i] - want) / want;
	return x;
}

static void test_rng_is_even(void **state)
{
	unsigned count[13] = { 0 }, unit[16] = { 0 };
	double sum = 0;
	struct rng r;

	(void)state;
	rng_seed(&r, 0);
	for (int i = 0; i < 130000; i++) {
		uint64_t x = rng_below(&r, 13);
		double u = rng_unit(&r);

		assert_true(x < 13);
		assert_true(u >= 0 && u < 1);
		count[x]++;
		unit[(size_t)(u * 16)]++;
		sum += u;
	}
	assert_true(chi_square(count, 13, 130000) < 32.9); /* 12 degrees: p = 0.001 */
	assert_true(chi_square(unit, 16, 130000) < 37.7);  /* 15 degrees: p = 0.001 */
	assert_true(fabs(sum / 130000 - 0.5) < 0.004);     /* five standard errors */
	for (int i = 0; i < 100; i++)
		assert_int_equal(rng_below(&r, 1), 0);
	/* Just above 2^63 half of all draws must be thrown away; without that small results double. */
	sum = 0;
	for (int i = 0; i < 20000; i++)
		sum += rng_below(&r, (UINT64_C(1) << 63) + (UINT64_C(1) << 62)) < UINT64_C(1) << 62;
	assert_true(fabs(sum / 20000 - 1.0 / 3) < 0.017);
}

/* ---- pool ---- */

#define MAX_UNITS 10007
struct tally { atomic_uint seen[MAX_UNITS]; atomic_int bad_worker; int threads; };

static void count_unit(void *ctx, size_t unit, int worker)
{
	struct tally *t = ctx;

	atomic_fetch_add_explicit(&t->seen[unit], 1, memory_order_relaxed);
	if (worker < 0 || worker >= t->threads)
		atomic_store(&t->bad_worker, 1);
}

static void test_pool_runs_every_unit_once(void **state)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 7, 8, 9, 64, 1000, MAX_UNITS };
	static struct tally t;
	struct moe_err e = { 0 };

	(void)state;
	for (t.threads = 1; t.threads <= 8; t.threads++) {
		struct pool *p = pool_new(t.threads, &e);

		ok_or_fail(p != NULL, &e);
		assert_int_equal(pool_threads(p), t.threads);
		for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
			for (size_t i = 0; i < MAX_UNITS; i++)
				atomic_store_explicit(&t.seen[i], 0, memory_order_relaxed);
			pool_run(p, count_unit, &t, sizes[s]);
			for (size_t i = 0; i < MAX_UNITS; i++)
				if (atomic_load(&t.seen[i]) != (i < sizes[s]))
					fail_msg("%d threads, %zu units: unit %zu ran %u times", t.threads, sizes[s], i,
						atomic_load(&t.seen[i]));
		}
		pool_free(p);
	}
	assert_false(atomic_load(&t.bad_worker));
}

/* What units wrote without atomics is there when pool_run returns; sleeping between runs, as decode
 * does, wakes everybody again; memory asked for ahead may be anything. */
static void square(void *ctx, size_t unit, int worker)
{
	(void)worker;
	((size_t *)ctx)[unit] = unit * unit;
}

static void test_pool_hands_results_over(void **state)
{
	struct moe_err e = { 0 };
	struct pool *p = pool_new(4, &e);
	struct timespec nap = { 0, 2000000 };
	static const char some[3 * POOL_AHEAD];
	size_t out[97];

	(void)state;
	ok_or_fail(p != NULL, &e);
	for (int run = 0; run < 300; run++) {
		/* what waiting threads ask for: something, nothing, what is not there; of no worker, too */
		for (int w = 0; w < 300; w++)
			pool_ahead(p, w, (run + w) % 3 == 0 ? NULL : (run + w) % 3 == 1 ? some + 64 * run : (const char *)64);
		memset(out, 0xff, sizeof out);
		pool_run(p, square, out, 97);
		for (size_t i = 0; i < 97; i++)
			assert_int_equal(out[i], i * i);
		if (run % 30 == 0)
			nanosleep(&nap, NULL);
	}
	pool_free(p);
	pool_free(NULL);
	assert_null(pool_new(0, &e));
	assert_int_equal(e.code, MOE_ERR_USAGE);
	assert_null(pool_new(257, &e));
	assert_non_null(strstr(e.msg, "257"));
	assert_true(pool_default_threads() >= 1 && pool_default_threads() <= 256);
}

/* ---- qtype ---- */

static void test_qtype_has_the_formats_blocks(void **state)
{
	/* number, elements and bytes of a block, as the format defines them */
	static const struct { const char *name; uint32_t id; size_t block, bytes; } want[] = {
		{ "F32", 0, 1, 4 }, { "F16", 1, 1, 2 }, { "BF16", 30, 1, 2 }, { "F64", 28, 1, 8 },
		{ "Q4_0", 2, 32, 2 + 16 }, { "Q4_1", 3, 32, 4 + 16 }, { "Q5_0", 6, 32, 2 + 4 + 16 },
		{ "Q5_1", 7, 32, 4 + 4 + 16 }, { "Q8_0", 8, 32, 2 + 32 }, { "Q8_1", 9, 32, 4 + 32 },
		{ "Q2_K", 10, 256, 16 + 64 + 4 }, { "Q3_K", 11, 256, 32 + 64 + 12 + 2 },
		{ "Q4_K", 12, 256, 4 + 12 + 128 }, { "Q5_K", 13, 256, 4 + 12 + 32 + 128 },
		{ "Q6_K", 14, 256, 128 + 64 + 16 + 2 }, { "Q8_K", 15, 256, 4 + 256 + 32 },
		{ "IQ4_NL", 20, 32, 2 + 16 }, { "IQ4_XS", 23, 256, 2 + 2 + 4 + 128 },
		{ "MXFP4", 39, 32, 1 + 16 }, { "NVFP4", 40, 64, 4 + 32 }, { "Q1_0", 41, 128, 2 + 16 },
		{ "Q2_0", 42, 64, 2 + 16 }, { "IQ2_XXS", 16, 256, 2 + 64 },
		{ "IQ2_XS", 17, 256, 2 + 64 + 8 },
		{ "IQ2_S", 22, 256, 2 + 64 + 8 + 8 }, { "IQ3_XXS", 18, 256, 2 + 96 },
		{ "IQ3_S", 21, 256, 2 + 64 + 8 + 32 + 4 }, { "IQ1_S", 19, 256, 2 + 32 + 16 },
		{ "IQ1_M", 29, 256, 32 + 16 + 8 }, { "TQ1_0", 34, 256, 48 + 4 + 2 },
		{ "TQ2_0", 35, 256, 64 + 2 }, { "I8", 24, 1, 1 }, { "I64", 27, 1, 8 },
	};
	static const uint32_t none[] = { 4, 5, 31, 32, 33, 36, 37, 38, 43, 255, 0x7fffffff,
		0xffffffff };

	(void)state;
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		const struct qtype_info *q = qtype_info(want[i].id);

		assert_non_null(q);
		assert_string_equal(q->name, want[i].name);
		assert_int_equal(q->block, want[i].block);
		assert_int_equal(q->bytes, want[i].bytes);
		assert_int_equal(qtype_row_bytes(want[i].id, want[i].block * 3), want[i].bytes * 3);
		if (want[i].block > 1) {
			assert_int_equal(qtype_row_bytes(want[i].id, want[i].block + 1), 0);
			assert_int_equal(qtype_row_bytes(want[i].id, want[i].block / 2), 0);
		}
	}
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		assert_null(qtype_info(none[i]));
		assert_int_equal(qtype_row_bytes(none[i], 256), 0);
	}
	assert_int_equal(qtype_row_bytes(QT_F32, SIZE_MAX), 0); /* would overflow */
	assert_int_equal(qtype_row_bytes(QT_F32, 0), 0);
}

/* ---- memory ---- */

static void put(const char *dir, const char *name, const char *text)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void under(const char *root, const char *name, char out[256])
{
	snprintf(out, 256, "%s%s", root, name);
	assert_int_equal(mkdir(out, 0700), 0);
}

static void test_copy_out(void **state)
{
	static const size_t size[] = { 0, 1, 4095, 4096, 4097, 4111, 4112, 10000 };
	unsigned char from[10100], to[10200];

	(void)state;
	for (size_t i = 0; i < sizeof from; i++)
		from[i] = (unsigned char)(i * 7 + i / 256);
	for (size_t k = 0; k < sizeof size / sizeof *size; k++)
		for (size_t at = 0; at < 40; at++) {
			memset(to, 0x5a, sizeof to);
			mem_copy_out(to + 50 + at, from + at % 7, size[k]);
			assert_memory_equal(to + 50 + at, from + at % 7, size[k]);
			assert_int_equal(to[49 + at], 0x5a);
			assert_int_equal(to[50 + at + size[k]], 0x5a);
		}
}

/* A tree as the kernel shows it: what a group and those above it leave is the least of them. */
static void test_mem_knows_control_groups(void **state)
{
	char root[] = "/tmp/moescope-test-XXXXXX", dir[256], groups[256], cmd[256];

	(void)state;
	assert_non_null(mkdtemp(root));
	snprintf(groups, sizeof list, "%s/list", root);
	put(root, "list", "0::/a/b\n");
	assert_true(mem_group_room(groups, root) == UINT64_MAX);
	under(root, "/a", dir);
	put(dir, "memory.max", "1000000\n");
	put(dir, "memory.current", "900000\n");
	put(dir, "memory.stat", "anon 100\ninactive_file 300000\nactive_file 50000\n");
	assert_true(mem_group_room(groups, root) == 450000);
	under(root, "/a/b", dir);
	put(dir, "memory.max", "max\n");
	put(dir, "memory.current", "1\n");
	assert_true(mem_group_room(groups, root) == 450000);
	put(dir, "memory.max", "400000\n");
	assert_true(mem_group_room(groups, root) == 399999);
	put(dir, "memory.current", "500000\n");
	assert_true(mem_group_room(groups, root) == 0);
	put(root, "list", "9:cpu:/a\n4:memory:/not/visible\n0::/\n");
	under(root, "/memory", dir);
	put(dir, "memory.limit_in_bytes", "5000\n");
	put(dir, "memory.usage_in_bytes", "2000\n");
	put(dir, "memory.stat", "inactive_file 1\ntotal_inactive_file 500\n");
	assert_true(mem_group_room(groups, root) == 3500);
	assert_true(mem_available() > 0);
	snprintf(cmd, sizeof cmd, "rm -rf %s", root);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf_grows_and_ends_with_nul),
		cmocka_unit_test(test_buf_stops_at_its_maximum),
		cmocka_unit_test(test_err_says_what_it_is_told),
		cmocka_unit_test(test_err_is_cut_with_dots),
		cmocka_unit_test(test_err_is_safe_on_a_terminal),
		cmocka_unit_test(test_text_decodes_strictly),
		cmocka_unit_test(test_text_encodes_every_scalar),
		cmocka_unit_test(test_text_escapes_for_each_place),
		cmocka_unit_test(test_text_escape_is_always_safe),
		cmocka_unit_test(test_text_width_counts_columns),
		cmocka_unit_test(test_opt_reads_every_kind),
		cmocka_unit_test(test_opt_refuses_what_makes_no_sense),
		cmocka_unit_test(test_opt_list_is_bounded),
		cmocka_unit_test(test_opt_help_names_every_row),
		cmocka_unit_test(test_rng_is_the_published_one),
		cmocka_unit_test(test_rng_is_even),
		cmocka_unit_test(test_pool_runs_every_unit_once),
		cmocka_unit_test(test_pool_hands_results_over),
		cmocka_unit_test(test_qtype_has_the_formats_blocks),
		cmocka_unit_test(test_copy_out),
		cmocka_unit_test(test_mem_knows_control_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
