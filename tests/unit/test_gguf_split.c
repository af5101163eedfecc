/*
 * test_gguf_split.c - split models: parts built byte by byte, in memory and as files beside each
 * other. Each disagreement between parts gives one error that names the file and the numbers.
 */
#include "test_util.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/qtype.h"
#include "gguf/gguf.h"
#include "gguf_build.h"

#define N 3

/* What a test changes in the parts; the values of a good model are below. */
struct plan {
	uint32_t no[N], count[N], total[N];
	const char *arch[N];     /* NULL: key not there */
	const char *tensor[N][2];
	int leave_out_no, leave_out_total;
};

static const struct plan good = {
	{ 0, 1, 2 }, { 3, 3, 3 }, { 5, 5, 5 }, { "split", NULL, "split" },
	{ { "b", "e" }, { "a", NULL }, { "d", "c" } }, 0, 0,
};

/* Part i; the bytes of a tensor's first value are its name's letter. */
static void build(const struct plan *p, int i, struct bytes *b)
{
	int n = p->tensor[i][1] ? 2 : 1;
	size_t start;

	memset(b, 0, sizeof *b);
	head(b, 3, (uint64_t)n, (p->arch[i] ? 1u : 0u) + 1 + !p->leave_out_no + !p->leave_out_total);
	if (p->arch[i])
		kv_str(b, "general.architecture", p->arch[i]);
	if (!p->leave_out_no)
		kv_raw(b, "split.no", GGUF_U16, &p->no[i], 2);
	kv_raw(b, "split.count", GGUF_U16, &p->count[i], 2);
	if (!p->leave_out_total)
		kv_raw(b, "split.tensors.count", GGUF_I32, &p->total[i], 4);
	for (int t = 0; t < n; t++)
		tensor(b, p->tensor[i][t], 8, 1, QT_F32, 32 * (uint64_t)t);
	data(b, 32, 0);
	start = b->n;
	data(b, 32, 32 * (size_t)n);
	for (int t = 0; t < n; t++)
		b->p[start + 32 * (size_t)t] = (uint8_t)p->tensor[i][t][0];
}

static struct gguf *open_plan(const struct plan *p, size_t n, struct bytes part[N],
	struct moe_err *e)
{
	static const char *const names[N] = { "m-1", "m-2", "m-3" };
	struct gguf_part list[N];

	memset(e, 0, sizeof *e);
	for (int i = 0; i < N; i++) {
		build(p, i, &part[i]);
		list[i] = (struct gguf_part){ names[i], part[i].p, part[i].n };
	}
	return gguf_open_parts(list, n, e);
}

static void free_parts(struct bytes part[N])
{
	for (int i = 0; i < N; i++)
		free(part[i].p);
}

static void check_whole(const struct gguf *g, const struct bytes part[N])
{
	uint64_t u, bytes = 0;

	for (int i = 0; i < N; i++)
		bytes += part[i].n;
	assert_int_equal(gguf_n_parts(g), N);
	assert_int_equal(gguf_file_bytes(g), bytes);
	assert_int_equal(gguf_n_tensors(g), 5);
	for (const char *s = "abcde"; *s; s++) {
		char name[2] = { *s, 0 };
		const struct gguf_tensor *t = gguf_tensor_find(g, name);
		struct gguf_part p;

		assert_non_null(t);
		p = gguf_part_at(g, t->part);
		assert_int_equal(t->part, *s == 'a' ? 1 : *s < 'e' && *s > 'b' ? 2 : 0);
		assert_ptr_equal(t->data, (const char *)p.data + t->offset);
		assert_int_equal(*(const char *)t->data, *s);
		assert_true(gguf_holds(g, t->data));
		assert_true(gguf_holds(g, (const char *)p.data + p.bytes - 1));
	}
	assert_null(gguf_tensor_find(g, "f"));
	assert_int_equal(gguf_get_u64(g, "split.no", &u, NULL), 1);
	assert_int_equal(u, 0); /* metadata are the first part's */
}

static void parts_make_one_model(void **state)
{
	struct bytes part[N];
	struct moe_err e;
	struct gguf *g = open_plan(&good, N, part, &e);

	(void)state;
	if (!g)
		fail_msg("%s", e.msg);
	check_whole(g, part);
	gguf_close(g);
	free_parts(part);
}

/* The plan must be refused with all of the words in the message. */
static void refused(const struct plan *p, size_t n, const char *a, const char *b)
{
	struct bytes part[N];
	struct moe_err e;
	struct gguf *g = open_plan(p, n, part, &e);

	if (g)
		fail_msg("accepted, expected: %s", a);
	assert_int_equal(e.code, MOE_ERR_INPUT);
	if (!strstr(e.msg, a) || !strstr(e.msg, b))
		fail_msg("'%s' or '%s' is not in: %s", a, b, e.msg);
	free_parts(part);
}

static void disagreements_are_refused(void **state)
{
	struct plan p;

	(void)state;
	refused(&good, 1, "opening m-1: split.count is 3", "1 was given");
	refused(&good, 2, "opening m-1: split.count is 3", "2 were given");
	p = good, p.no[1] = 2;
	refused(&p, N, "m-2: split.no is 2", "must be 1");
	p = good, p.no[0] = 1;
	refused(&p, N, "opening m-1: split.no is 1", "must be 0");
	p = good, p.no[0] = 3;
	refused(&p, N, "split.no is 3 and split.count 3", "counted from 0");
	p = good, p.count[2] = 4;
	refused(&p, N, "m-3: split.count is 4", "another part says 3");
	p = good, p.count[0] = 1025;
	refused(&p, N, "split.count 1025", "at most 1024");
	p = good, p.count[0] = 1;
	refused(&p, N, "opening m-1: split.count is 1", "3 were given");
	p = good, p.total[1] = 6;
	refused(&p, N, "m-2: key split.tensors.count has not the value", "different models");
	p = good, p.arch[2] = "other";
	refused(&p, N, "m-3: key general.architecture has not the value that it has in part 1", "");
	p = good, p.total[0] = p.total[1] = p.total[2] = 6;
	refused(&p, N, "the 3 parts have 5 tensors", "split.tensors.count is 6");
	p = good, p.total[0] = p.total[1] = p.total[2] = 4;
	refused(&p, N, "m-3: the parts up to this one have 5 tensors", "split.tensors.count is 4");
	p = good, p.total[0] = p.total[1] = p.total[2] = 1;
	refused(&p, N, "split.tensors.count is 1", "part 1 alone has 2");
	p = good, p.total[0] = p.total[1] = p.total[2] = 262145;
	refused(&p, N, "split.tensors.count is 262145", "at most 262144");
	p = good, p.total[0] = p.total[1] = p.total[2] = 0xffffffff;
	refused(&p, N, "split.tensors.count is -1", "");
	p = good, p.tensor[2][1] = "b";
	refused(&p, N, "tensor b is in two parts, m-", "m-3");
	p = good, p.leave_out_no = 1;
	refused(&p, N, "key split.no is missing", "m-1");
	p = good, p.leave_out_total = 1;
	refused(&p, N, "key split.tensors.count is missing", "m-1");
}

/* ---- files ---- */

static void write_file(const char *path, const struct bytes *b)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(b->p, 1, b->n, f), b->n);
	assert_int_equal(fclose(f), 0);
}

static void files_are_found_from_any_part(void **state)
{
	char dir[] = "/tmp/test_split.XXXXXX", path[N][128], other[128];
	struct bytes part[N];
	struct moe_err e;
	struct gguf *g;

	(void)state;
	assert_non_null(mkdtemp(dir));
	for (int i = 0; i < N; i++) {
		build(&good, i, &part[i]);
		snprintf(path[i], sizeof path[i], "%s/x.y-%05d-of-00003.gguf", dir, i + 1);
		write_file(path[i], &part[i]);
	}
	for (int i = 0; i < N; i++) {
		g = gguf_open(path[i], &e);
		if (!g)
			fail_msg("%s", e.msg);
		check_whole(g, part);
		assert_string_equal(gguf_path(g), path[0]);
		gguf_close(g);
	}
	snprintf(other, sizeof other, "%s/renamed.gguf", dir);
	assert_int_equal(rename(path[1], other), 0);
	assert_null(gguf_open(path[0], &e)); /* a part is missing */
	assert_non_null(strstr(e.msg, "part 2 of 3: opening "));
	assert_non_null(strstr(e.msg, "x.y-00002-of-00003.gguf: No such file"));
	assert_int_equal(e.code, MOE_ERR_INPUT);
	assert_null(gguf_open(other, &e)); /* the name does not say where the others are */
	assert_non_null(strstr(e.msg, "must end with -00002-of-00003.gguf"));
	assert_int_equal(rename(other, path[1]), 0);
	assert_int_equal(rename(path[0], other), 0);
	assert_null(gguf_open(path[2], &e));
	assert_non_null(strstr(e.msg, "part 1 of 3: opening "));
	assert_int_equal(rename(other, path[0]), 0);
	write_file(path[2], &part[1]); /* a copy under another's name */
	assert_null(gguf_open(path[0], &e));
	assert_non_null(strstr(e.msg, "x.y-00003-of-00003.gguf: split.no is 1, by its place it must be "
		"2"));
	part[2].n -= 64; /* cut */
	write_file(path[2], &part[2]);
	assert_null(gguf_open(path[0], &e));
	assert_non_null(strstr(e.msg, "part 3 of 3: opening "));
	for (int i = 0; i < N; i++)
		unlink(path[i]);
	rmdir(dir);
	free_parts(part);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_make_one_model),
		cmocka_unit_test(disagreements_are_refused),
		cmocka_unit_test(files_are_found_from_any_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
