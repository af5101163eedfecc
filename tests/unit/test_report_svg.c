/* test_report_svg.c - cleaning a picture: what is kept of it, what is refused, cut anywhere. */
#include "test_util.h"

#include "base/buf.h"
#include "reports/svg.h"

static int clean(const char *svg, struct buf *out, struct moe_err *e)
{
	static const char *const names[] = { "<script>alert(1)</script>", "a name that is too long by "
		"far" };
	const struct report_labels labels = { names, 2, 12 };

	memset(e, 0, sizeof *e);
	buf_init(out, 1 << 20);
	return report_svg_clean(svg, strlen(svg), &labels, "a \"picture\"", out, e);
}

static void test_svg_keeps_what_it_knows(void **state)
{
	static const char svg[] = "<?xml version=\"1.0\"?>\n<svg viewBox=\"0 0 9 9\" "
		"xmlns=\"http://x\">\n<title>Gnuplot</title><defs><circle id='gpDot' r='0.5'/></defs>\n"
		"<g id=\"a\" color=\"black\"></g><g fill=\"none\" stroke=\"rgb( 4, 4, 4)\" "
		"stroke-width=\"1.00\"><path d='M1,2 L3,4'/><use xlink:href='#gpPt6' "
		"transform='translate(1,2)' color='rgb(  6,   6,   6)'/></g>"
		"<text><tspan>LABEL000</tspan></text><text>LABEL001</text><text> 0.5</text></svg>";
	struct moe_err e;
	struct buf b;

	(void)state;
	if (clean(svg, &b, &e))
		fail_msg("%s", e.msg);
	assert_non_null(strstr(b.data, "<g fill=\"none\" class=\"s4\"><path d=\"M1,2 L3,4\"/>"));
	assert_non_null(strstr(b.data, "<circle r=\"1\" stroke=\"none\" transform=\"translate(1,2)\" "
		"class=\"f6\"/>"));
	assert_non_null(strstr(b.data, "aria-label=\"a &#34;picture&#34;\""));
	assert_non_null(strstr(b.data, ">&#60;script&#62;al…<"));
	assert_non_null(strstr(b.data, ">a name tha…<"));
	assert_non_null(strstr(b.data, ">0.5<"));
	assert_null(strstr(b.data, "Gnuplot"));
	assert_null(strstr(b.data, "id="));
	assert_null(strstr(b.data, "http"));
	buf_free(&b);
}

static void test_svg_refuses_the_rest(void **state)
{
	static const char *const bad[] = {
		"", "text", "<svg viewBox='0 0 9 9'>", "<svg viewBox='0 0 9 9'></g></svg>",
		"<svg><path d='M0,0'/></svg>", "<g></g>", "<svg viewBox='\"><script>'></svg>",
		"<svg viewBox='0 0 9 9'><script>alert(1)</script></svg>",
		"<svg viewBox='0 0 9 9'><foreignObject></foreignObject></svg>",
		"<svg viewBox='0 0 9 9'><a xlink:href='x'></a></svg>",
		"<svg viewBox='0 0 9 9'><image xlink:href='http://x/y.png'/></svg>",
		"<svg viewBox='0 0 9 9'><image xlink:href='data:image/svg+xml;base64,AA=='/></svg>",
		"<svg viewBox='0 0 9 9'><image xlink:href='data:image/png;base64,A\"A'/></svg>",
		"<svg viewBox='0 0 9 9'><path fill='url(#x)' d='M0,0'/></svg>",
		"<svg viewBox='0 0 9 9'><path d='M0,0\" onload=\"x'/></svg>",
		"<svg viewBox='0 0 9 9'><path d=M0,0/></svg>", "<svg viewBox='0 0 9 9'><path "
		"d='M0,0/></svg>",
		"<svg viewBox='0 0 9 9'><use xlink:href='#other'/></svg>",
		"<svg viewBox='0 0 9 9'><text>LABEL009</text></svg>",
		"<svg viewBox='0 0 9 9'><text>&x;</text></svg>", "<svg viewBox='0 0 9 9'><!-- x --></svg>",
		"<?xml", "<!DOCTYPE svg [<!ENTITY x 'y'>]><svg viewBox='0 0 9 9'></svg>",
		"<svg viewBox='0 0 9 9'><svg viewBox='0 0 9 9'></svg></svg>",
	};
	struct moe_err e;
	struct buf b;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (!clean(bad[i], &b, &e))
			fail_msg("accepted %s as %s", bad[i], b.data);
		assert_true(e.msg[0] != 0);
		assert_true(b.len == 0);
		buf_free(&b);
	}
}

/* Every prefix of a drawing is refused or at least leaves nothing open. */
static void test_svg_cut_anywhere(void **state)
{
	static const char svg[] = "<?xml version='1.0'?><svg viewBox='0 0 9 9'><g fill='none'>"
		"<path stroke='rgb(1,1,1)' d='M1,2'/><text>a</text></g></svg>";
	struct moe_err e;
	struct buf b;

	(void)state;
	for (size_t n = 0; n + 1 < sizeof svg; n++) {
		buf_init(&b, 1 << 16);
		assert_int_equal(report_svg_clean(svg, n, NULL, "x", &b, &e), -1);
		buf_free(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_svg_keeps_what_it_knows),
		cmocka_unit_test(test_svg_refuses_the_rest),
		cmocka_unit_test(test_svg_cut_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
