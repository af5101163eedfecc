/*
 * test_tui_screens.c - every screen of the dashboard, drawn into a grid without a terminal.
 *
 * Hand-made data of many shapes, sizes from 1x1 up, all looks, random keys; a real database is
 * drawn by tests/cli/top.sh. Whatever happens, no cell may hold a control character.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/text.h"
#include "tui_sample.h"

static const int sizes[][2] = { { 80, 24 }, { 120, 40 }, { 200, 60 }, { 40, 10 }, { 1, 1 },
{ 2, 3 },
	{ 20, 6 }, { 36, 8 }, { 56, 12 }, { 79, 23 }, { 1000, 3 }, { 3, 300 } };
#define N_SIZES (sizeof sizes / sizeof sizes[0])
static const struct tui_look looks[] = { { 1, 256 }, { 1, 16 }, { 1, 8 }, { 1, 0 }, { 0, 256 },
	{ 0, 0 } };
#define N_LOOKS (sizeof looks / sizeof looks[0])

/* What a terminal could take for a command, or that would shift what follows. */
static void check_cells(const struct tui_grid *g)
{
	for (int i = 0; i < g->w * g->h; i++) {
		uint32_t c = g->cell[i].cp;

		assert_true(c == 0 || (c >= 0x20 && c < 0x7f) || c >= 0xa0);
		assert_false(c >= 0x200b && c <= 0x200f);
		assert_false(c >= 0x2028 && c <= 0x202e);
		assert_true(c != 0 || i % g->w > 0);
		assert_true(g->look.utf8 || c < 0x7f);
		assert_true(g->cell[i].style < TUI_STYLE_MAX);
	}
}

static void draw_everywhere(struct sample *s)
{
	struct tui_grid g;

	for (size_t i = 0; i < N_SIZES; i++)
		for (size_t k = 0; k < N_LOOKS; k++)
			for (int screen = 0; tui_panels[screen]; screen++) {
				struct tui_ctx c = sample_ctx(s, &g);

				assert_int_equal(tui_grid_init(&g, sizes[i][0], sizes[i][1], looks[k]), 0);
				s->state.screen = screen;
				s->state.help = (i + k) % 5 == 0;
				s->state.timing = (i + k) % 2;
				s->state.finding = (i + k) % 3 == 0;
				tui_render(&c);
				check_cells(&g);
				c.spec = NULL;
				c.alarms = NULL;
				memset(c.snap, 0, sizeof c.snap);
				tui_render(&c);
				check_cells(&g);
				tui_grid_free(&g);
			}
	s->state.help = s->state.timing = s->state.finding = 0;
}

static void every_shape_at_every_size(void **state)
{
	static const int shapes[][4] = { { 6, 16, 2, 9 }, { 61, 256, 8, 3 }, { 1, 1, 1, 1 },
		{ 0, 0, 0, 0 }, { 3, 1024, 8, 40 }, { 512, 8, 2, 0 } };

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct sample *s = sample_make(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);

		draw_everywhere(s);
		sample_free(s);
	}
}

static void empty_and_missing_data(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 5);
	struct tui_grid g;
	struct tui_ctx c = { .g = &g, .s = &s->state };

	(void)state;
	for (size_t i = 0; i < N_SIZES; i++) {
		assert_int_equal(tui_grid_init(&g, sizes[i][0], sizes[i][1], looks[0]), 0);
		tui_render(&c); /* nothing read yet */
		tui_grid_free(&g);
	}
	s->data.sum.tokens = 0;
	for (size_t i = 0; i < s->data.layers.n; i++) {
		struct view_layer *l = &s->data.layers.layer[i];

		l->tokens = 0;
		l->max_mean = l->entropy_norm = l->gini = l->cv = l->n_eff = l->top_rate = NAN;
		for (int e = 0; e < l->n_expert; e++)
			l->rel[e] = NAN, l->counts[e] = 0;
	}
	draw_everywhere(s);
	s->data.sum.tokens = 1; /* some layer saw something, these did not */
	draw_everywhere(s);
	sample_free(s);
}

static void hostile_text_stays_text(void **state)
{
	struct sample *s = sample_make(4, 16, 2, 9);
	struct run_info *r = &s->data.sum.run;

	(void)state;
	sample_copy(r->model_name, sizeof r->model_name, hostile);
	sample_copy(r->arch, sizeof r->arch, hostile);
	snprintf(r->score, sizeof r->score, "\033c");
	snprintf(r->state, sizeof r->state, "\033[31mx");
	sample_copy(s->state.verdict, sizeof s->state.verdict, hostile);
	sample_copy(s->state.message, sizeof s->state.message, hostile);
	sample_copy(s->alarms.alarm[0].text, sizeof s->alarms.alarm[0].text, hostile);
	sample_copy(s->alarms.alarm[0].sql, sizeof s->alarms.alarm[0].sql, hostile);
	snprintf(s->alarms.alarm[0].kind, sizeof s->alarms.alarm[0].kind, "\033]0;x\007");
	for (size_t d = 0; d < s->spec.spec.n_domain; d++)
		sample_copy(s->spec.spec.domain[d].name, sizeof s->spec.spec.domain[d].name, hostile);
	s->state.path = hostile;
	draw_everywhere(s);
	sample_copy(s->spec.spec.why, sizeof s->spec.spec.why, hostile);
	s->spec.spec.n_layer = 0;
	draw_everywhere(s);
	s->spec.spec.n_layer = 4; /* for sample_free */
	sample_free(s);
}

static void odd_numbers(void **state)
{
	static const double odd[] = { INFINITY, -INFINITY, -1, 1e300, 1e-300, NAN };
	struct sample *s = sample_make(3, 16, 2, 4);

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct view_layer *l = &s->data.layers.layer[1];

		l->max_mean = l->entropy_norm = l->n_eff = l->margin = l->token_entropy = odd[i];
		l->rel[0] = l->rel[5] = l->weights[3] = odd[i];
		s->data.sum.prefill_tps = s->data.sum.lag_ms = s->data.sum.elapsed_s = odd[i];
		s->spec.spec.layer[1].cell[2].rel = s->spec.spec.layer[0].mi = odd[i];
		s->spec.spec.layer[1].cell[1].hi = odd[i];
		s->alarms.alarm[0].value = odd[i];
		s->state.layer = 1;
		draw_everywhere(s);
	}
	sample_free(s);
}

/* Any keys in any order at changing sizes: nothing breaks, cursors stay in range. */
static void random_keys(void **state)
{
	static const int special[] = { TUI_KEY_UP, TUI_KEY_DOWN, TUI_KEY_LEFT, TUI_KEY_RIGHT,
		TUI_KEY_HOME, TUI_KEY_END, TUI_KEY_PGUP, TUI_KEY_PGDN, TUI_KEY_TAB, TUI_KEY_BACKTAB,
		TUI_KEY_ENTER, TUI_KEY_ESC, TUI_KEY_F1 };
	struct sample *s = sample_make(61, 256, 8, 13);
	int64_t runs[] = { 3, 9, 14 };
	struct tui_grid g;
	struct rng r;

	(void)state;
	rng_seed(&r, 7);
	s->data.runs = runs;
	s->data.n_runs = 3;
	s->data.domain = s->spec.spec.domain;
	s->data.n_domain = s->spec.spec.n_domain;
	for (int i = 0; i < 6000; i++) {
		const int *z = sizes[rng_below(&r, N_SIZES)];
		struct tui_ctx c = sample_ctx(s, &g);
		int key = rng_below(&r, 2) ? special[rng_below(&r, 13)] : (int)(32 + rng_below(&r, 95));

		assert_int_equal(tui_grid_init(&g, z[0], z[1], looks[i % (int)N_LOOKS]), 0);
		if (i % 7 == 0) {
			s->state.mouse_x = (int)rng_below(&r, 120);
			s->state.mouse_y = (int)rng_below(&r, 40);
			key = TUI_KEY_CLICK + (int)rng_below(&r, 3);
		}
		tui_key(&c, key);
		if (i % 5 == 0)
			tui_tick(&c);
		s->state.quit = 0;
		tui_render(&c);
		assert_true(s->state.layer < 61 && s->state.expert < 256 && s->state.domain < 13);
		tui_grid_free(&g);
	}
	s->data.domain = NULL;
	sample_free(s);
}

static char *dump(struct sample *s, int screen, int w, int h, struct tui_look look)
{
	struct tui_grid g;
	struct buf b;
	struct tui_ctx c = sample_ctx(s, &g);

	buf_init(&b, 1 << 24);
	assert_int_equal(tui_grid_init(&g, w, h, look), 0);
	s->state.screen = screen;
	tui_render(&c);
	tui_grid_dump(&g, &b);
	tui_grid_free(&g);
	return b.data;
}

/* A screen for a test that presses keys; the grid is the caller's to free. */
static struct tui_ctx desk(struct sample *s, struct tui_grid *g, int screen)
{
	assert_int_equal(tui_grid_init(g, 80, 24, looks[0]), 0);
	s->state.screen = screen;
	return sample_ctx(s, g);
}

static void assert_shows(struct sample *s, int screen, int w, int h, const char *const *words)
{
	char *text = dump(s, screen, w, h, (struct tui_look){ 1, 0 });

	for (; *words; words++)
		if (!strstr(text, *words))
			fail_msg("screen %d at %dx%d lacks '%s':\n%s", screen + 1, w, h, *words, text);
	free(text);
}

static void screens_say_what_they_must(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 9);

	(void)state;
	s->state.layer = 2;
	s->state.expert = 3;
	/* figures as written in tui_sample.h: 3.9 fair shares, 2 of 16 dead, .488 against .25 */
	assert_shows(s, 0, 80, 24, (const char *const[]){ "balanced.gguf", "run 14", "live", "00:02:31",
		"184,220", "8,412 t/s", "Routing has collapsed in layer 2", "L2 ", "3.90\xc3\x97", "2/16",
		"E3+E11 take 48.8 %", "0.488 against 0.25", "0.3 ms", "gaps 0", "key 5", NULL });
	assert_shows(s, 1, 80, 24, (const char *const[]){ "layer 2, expert 3: 3.90\xc3\x97",
		"24 % of picks (fair 6.2 %)", "fair", "4\xc3\x97", NULL });
	assert_shows(s, 2, 80, 24, (const char *const[]){ "Layer 2", "capacity 1.25", "fair share",
		"never", "top-2", NULL });
	assert_shows(s, 4, 120, 40, (const char *const[]){ "layer 5", "medical", "information, bits",
		"95 % interval", "1.1?", NULL });
	assert_shows(s, 7, 80, 24, (const char *const[]){ "collapse", "SELECT expert", "Evidence",
		NULL });
	assert_shows(s, 3, 80, 24, (const char *const[]){ "Expert 3 of layer 2",
		"3.90\xc3\x97 its fair share", "medical", "4.11\xc3\x97", "3.81\xe2\x80\x93" "4.42", "#40",
		"\\x1b[2Jx", "E11", "77 %", "from L1", "to L3", "mean gate weight 0.470", NULL });
	assert_shows(s, 3, 120, 40, (const char *const[]){ "History", "(13 %)", "Tokens that follow",
		"2.70", NULL });
	assert_shows(s, 5, 80, 24, (const char *const[]){ "Request 41", "of 42", "medical",
		"300 tokens", "top expert at layer 2", "\\x1b[", " cell",
		"\xe2\x82\xac", ".\xe2\x86\xb5", NULL }); /* a euro sign over two tokens */
	/* figures as written in tui_sample.h: at 1.25 300 - 100 of 1000 picks, at 24 slots 400 hits */
	assert_shows(s, 6, 80, 24, (const char *const[]){ "1.25\xc3\x97", "20 %", "24 of 96 experts",
		"40 %", "2 devices", "1.15\xc3\x97", "contiguous", NULL });
	assert_shows(s, 1, 30, 9, (const char *const[]){ "needs 40\xc3\x97" "10 for: Heatmap", NULL });
	sample_free(s);
	/* a map that does not fit says what part of it is there, at any width:
	 * of 78 columns 5 name layers */
	s = sample_make(61, 256, 8, 13);
	assert_shows(s, 1, 80, 24, (const char *const[]){ "4 a cell, L0\xe2\x80\x93", " of 61", NULL });
	assert_shows(s, 1, 60, 20, (const char *const[]){ " a cell, L0\xe2\x80\x93", " of 61", NULL });
	assert_shows(s, 1, 200, 60, (const char *const[]){ "farthest of 2 experts a cell; "
		"experts 0\xe2\x80\x93" "255 of 256, layers L0\xe2\x80\x93", " of 61", NULL });
	sample_free(s);
}

static void sliders_move_along_their_curves(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 3);
	struct tui_grid g;
	struct tui_ctx c = desk(s, &g, TUI_SCREEN_WHATIF);

	(void)state;
	tui_render(&c);
	tui_key(&c, TUI_KEY_RIGHT); /* capacity 1.25 -> 2: 300 - 200 of 1000 */
	assert_shows(s, 6, 80, 24, (const char *const[]){ "2.00\xc3\x97", "10 %", NULL });
	tui_key(&c, TUI_KEY_DOWN);
	tui_key(&c, TUI_KEY_LEFT); /* 24 -> 12 slots: 200 of 1000 hits, the best policy 40 more */
	assert_shows(s, 6, 80, 24, (const char *const[]){ "12 of 96 experts", "20 %", "24 %", NULL });
	tui_grid_free(&g);
	sample_free(s);
}

static void timeline_rewinds_and_plays(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 3);
	struct tui_grid g;
	struct tui_ctx c = desk(s, &g, TUI_SCREEN_OVERVIEW);

	(void)state;
	assert_int_equal(tui_key(&c, 't'), 0);
	tui_render(&c);
	assert_int_equal(tui_key(&c, TUI_KEY_LEFT), 1); /* slot 11 -> 10, which ends with bucket 10 */
	assert_true(s->state.want.until == 11);
	assert_int_equal(tui_key(&c, TUI_KEY_HOME), 1);
	assert_true(s->state.want.until == 1);
	tui_key(&c, ' ');
	assert_true(s->state.playing);
	assert_int_equal(tui_tick(&c), 1);
	assert_true(s->state.want.until == 2);
	for (int i = 0; i < 12; i++)
		tui_tick(&c);
	assert_true(!s->state.playing && s->state.want.until == 0); /* the last slot is now */
	assert_int_equal(tui_key(&c, TUI_KEY_LEFT), 1);
	assert_shows(s, 0, 80, 24, (const char *const[]){ "up to 00:01:50 of the run", "layer 2 is",
		NULL });
	assert_int_equal(tui_key(&c, TUI_KEY_ESC), 1);
	assert_true(!s->state.timing && !s->state.want.until);
	tui_grid_free(&g);
	sample_free(s);
}

static void baseline_shows_what_changed(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 3), *b = sample_make(6, 16, 2, 3);

	(void)state;
	s->data.want.base = s->state.want.base = s->data.base_run = 9;
	s->data.base = b->data.layers;
	s->state.layer = 2;
	s->state.expert = 3;
	b->data.layers.layer[2].rel[3] = 1.95; /* it was half of that in the baseline */
	b->data.layers.layer[2].max_mean = 2.4;
	assert_shows(s, 0, 120, 40, (const char *const[]){ "baseline run 9", "2.40\xc3\x97", NULL });
	assert_shows(s, 1, 120, 40, (const char *const[]){ "2.00\xc3\x97 the baseline", NULL });
	assert_shows(s, 2, 120, 40, (const char *const[]){ "baseline", "1.95", NULL });
	memset(&s->data.base, 0, sizeof s->data.base);
	snprintf(s->data.base_why, sizeof s->data.base_why, "no baseline: no run 9");
	assert_shows(s, 0, 120, 40, (const char *const[]){ "no baseline: no run 9", NULL });
	sample_free(b);
	sample_free(s);
}

/* Stream, What-if and Alarms beside their baselines. */
static void baseline_on_the_other_screens(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 3), *b = sample_make(6, 16, 2, 3);
	struct tui_snap *stream = s->snap[TUI_STREAM], *whatif = s->snap[TUI_WHATIF];
	struct view_alarm old[2] = { s->alarms.alarm[0], s->alarms.alarm[1] };
	struct view_alarms list = { 2, old };

	(void)state;
	s->data.want.base = s->state.want.base = s->data.base_run = 9;
	s->data.base = b->data.layers;
	stream->with_base = 1;
	sample_stream(&stream->base.stream, 16);
	stream->base.stream.token[298].expert = 15; /* was 298^2 % 16 = 4 */
	stream->base.stream.token[299].id = 5; /* another token: nothing to compare */
	assert_shows(s, 5, 120, 40, (const char *const[]){ "another top expert for 1 of 299 tokens",
		"[E4 was E15]", NULL });
	stream->with_base = 0;
	view_stream_free(&stream->base.stream);
	snprintf(stream->base_why, sizeof stream->base_why, "run 9 has no request 41");
	assert_shows(s, 5, 80, 24, (const char *const[]){ "no baseline: run 9 has no request 41",
		NULL });

	whatif->with_base = 1;
	sample_whatif(&whatif->base.whatif);
	whatif->base.whatif.drops.row[3].dropped = 777; /* capacity 1.25, first come: 77.7 % of 1000 */
	whatif->u.whatif.tokens = 8000, whatif->u.whatif.n_all = 1000000;
	assert_shows(s, 6, 120, 40, (const char *const[]){ "A sample: 8,000 of 1,000,000 tokens",
		"baseline", "78 %", "visits 3.0 devices a layer", NULL });

	old[1].kind[0] = 'X'; /* "dead" of layer 2 is new, something else is gone */
	s->base_alarms = &list;
	assert_shows(s, 7, 120, 40, (const char *const[]){ "against the baseline: 2 new, 1 gone: Xead "
		"L2", "same layer 2: E3", "new  layer 2: 2 of 16", NULL });
	sample_free(b);
	sample_free(s);
}

/* A filter that a screen does not follow is said there, and only there. */
static void filters_are_followed_or_said(void **state)
{
	static const char *const said[] = { "not filtered by request here", "not filtered by time",
		"not filtered by time, domain, phase, request here" };
	struct sample *s = sample_make(6, 16, 2, 3);

	(void)state;
	s->data.want.sequence = s->state.want.sequence = 7;
	s->data.request = (struct view_request){ .id = 7, .before = 5, .after = 9, .seq = 41,
		.n_seq = 42, .tokens = 99, .n_all = 99 };
	assert_shows(s, 0, 120, 40, (const char *const[]){ "only request 41", "of all requests",
		"Domains of the whole run", NULL });
	assert_shows(s, 7, 120, 40, (const char *const[]){ said[0], NULL });
	assert_shows(s, 6, 120, 40, (const char *const[]){ said[0], NULL });
	s->data.window_ns = 1, s->data.want.phase = 1, s->data.want.domain = 2;
	assert_shows(s, 4, 120, 40, (const char *const[]){ said[2], NULL });
	assert_shows(s, 5, 120, 40, (const char *const[]){ said[1], NULL });
	for (int i = 0; i < 3; i++) { /* overview, heat map and layer follow all of them */
		char *text = dump(s, i, 120, 40, looks[0]);

		assert_null(strstr(text, "not filtered"));
		free(text);
	}
	sample_free(s);
}

/* Screens whose figures a request cannot be taken out of: each says so, with what it shows instead,
 * and shows that; of the Expert card only the first line is the request's. */
static void four_screens_stay_with_the_whole_run(void **state)
{
	static const struct { int screen; const char *all; const char *shown[5]; } rows[] = {
		{ TUI_SCREEN_EXPERT, "not filtered by time, request here", {
			"not filtered by request here: but for the first line the card is of the whole run",
			"2.67\xc3\x97 its fair share, 17 % of picks (fair 6.2 %), 33 picks",
			"picked as choice 1: 100 %", "medical                        4.11\xc3\x97" } },
		{ TUI_SCREEN_DOMAINS, "not filtered by time, domain, phase, request here", {
			"not filtered by request here: all domains of the whole run are compared", "3 domains",
			"english            E5   2.3\xc3\x97" } },
		{ TUI_SCREEN_WHATIF, "not filtered by time, request here", {
			"not filtered by request here: the whole run is replayed", "24 of 96 experts" } },
		{ TUI_SCREEN_ALARMS, "not filtered by request here", {
			"not filtered by request here: the rules look at all requests",
			"never picked in 184,220 tokens" } },
	};
	struct sample *s = sample_make(6, 16, 2, 3);
	struct view_layer *l = &s->data.layers.layer[2];

	(void)state;
	s->state.layer = 2, s->state.expert = 3, s->state.chosen = 1;
	l->tokens = s->data.sum.tokens = 99;
	l->counts[3] = 33; /* of 99 tokens' 198 picks */
	l->rel[3] = 33. / 198 * 16;
	for (size_t i = 0; i < 4; i++) {
		char *text = dump(s, rows[i].screen, 120, 40, looks[0]);

		assert_null(strstr(text, "not filtered"));
		free(text);
	}
	s->data.want.sequence = s->state.want.sequence = 7;
	s->data.request = (struct view_request){ .id = 7, .seq = 41, .n_seq = 42, .tokens = 99,
		.n_all = 99 };
	for (size_t i = 0; i < 4; i++)
		assert_shows(s, rows[i].screen, 120, 40, rows[i].shown);
	s->data.window_ns = 1, s->data.want.phase = 1, s->data.want.domain = 2;
	for (size_t i = 0; i < 4; i++)
		assert_shows(s, rows[i].screen, 120, 40, (const char *const[]){ rows[i].all, NULL });
	s->data.sum.tokens = 0;
	assert_shows(s, TUI_SCREEN_EXPERT, 120, 40,
		(const char *const[]){ "Request 41 has no decisions in this selection", NULL });
	sample_free(s);
}

/* What is read for a screen is read for the request only where the screen is of that request. */
static void only_the_stream_is_read_for_a_request(void **state)
{
	static const struct tui_query all = { .run = 14, .domain = 2, .phase = 1, .layer = 3,
		.expert = 4, .base = 9 };
	struct tui_query one = all;

	(void)state;
	one.sequence = 7, one.pos = 30;
	for (int i = 0; i < TUI_N_PART; i++) {
		struct tui_query a = tui_query_for((enum tui_part)i, &all);
		struct tui_query b = tui_query_for((enum tui_part)i, &one);

		assert_int_equal(tui_query_same(&a, &b), i != TUI_STREAM);
	}
}

static void requests_are_chosen_by_key(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 3);
	struct tui_grid g;
	struct tui_ctx c = desk(s, &g, TUI_SCREEN_OVERVIEW);

	(void)state;
	assert_int_equal(tui_key(&c, 'a'), 1);
	assert_true(s->state.want.sequence == TUI_NEWEST);
	s->data.request = (struct view_request){ .id = 7, .before = 5, .seq = 41 };
	assert_int_equal(tui_key(&c, 'N'), 1);
	assert_true(s->state.want.sequence == 5);
	s->data.request = (struct view_request){ .id = 5, .after = 7, .seq = 40 };
	assert_int_equal(tui_key(&c, 'n'), 1);
	assert_true(s->state.want.sequence == 7);
	s->data.request = (struct view_request){ .id = 7, .before = 5, .seq = 41 };
	assert_int_equal(tui_key(&c, 'n'), 1); /* behind the last one: whichever is the newest */
	assert_true(s->state.want.sequence == TUI_NEWEST);
	for (const char *k = "/#12"; *k; k++)
		tui_key(&c, *k);
	assert_int_equal(tui_key(&c, TUI_KEY_ENTER), 1);
	assert_true(TUI_NUMBERED(s->state.want.sequence) == 12);
	assert_int_equal(tui_key(&c, 'd'), 1); /* another domain: its requests are others */
	assert_true(!s->state.want.sequence && !s->state.sequence);
	assert_int_equal(tui_key(&c, 'c'), 0);
	assert_true(s->state.palette == TUI_SAFE && s->state.repaint);
	tui_grid_free(&g);
	sample_free(s);
}

static void domains_are_sorted(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 5);
	const struct view_spec *sp = &s->spec.spec;
	struct tui_grid g;
	struct tui_ctx c;

	(void)state;
	for (size_t d = 0; d < 5; d++)
		s->spec.spec.domain[d].n_tokens = 100 * ((d * 3) % 5);
	for (int sort = 0; sort < 4; sort++) {
		size_t *order = tui_domain_order(sp, sort, 2), seen = 0;

		for (size_t i = 0; i < 5; i++) {
			const struct view_spec_cell *a = &sp->layer[2].cell[order[i]];
			const struct view_spec_cell *b = &sp->layer[2].cell[order[i ? i - 1 : 0]];

			seen |= (size_t)1 << order[i];
			if (sort == 0)
				assert_int_equal(order[i], i);
			if (sort == 2)
				assert_true(a->proven < b->proven || (a->proven == b->proven && a->rel <= b->rel));
			if (sort == 3 && i)
				assert_true(sp->domain[order[i]].n_tokens <= sp->domain[order[i - 1]].n_tokens);
		}
		assert_int_equal(seen, 31);
		free(order);
	}
	c = desk(s, &g, TUI_SCREEN_DOMAINS);
	tui_render(&c);
	tui_key(&c, 'o');
	tui_key(&c, 'o');
	tui_key(&c, 'o'); /* most text first: 2 (100), ... the order is 3 4 1 2 0 by 400 .. 0 */
	tui_render(&c);
	tui_key(&c, 'g');
	assert_int_equal(sp->domain[s->state.domain].n_tokens, 400);
	tui_key(&c, TUI_KEY_DOWN);
	assert_int_equal(sp->domain[s->state.domain].n_tokens, 300);
	tui_grid_free(&g);
	sample_free(s);
}

static void search_and_mouse_reach_what_they_name(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 9);
	struct tui_grid g;
	struct tui_ctx c = desk(s, &g, TUI_SCREEN_OVERVIEW);

	(void)state;
	for (const char *k = "/l3 E7"; *k; k++)
		tui_key(&c, *k);
	tui_render(&c);
	tui_key(&c, TUI_KEY_ENTER);
	assert_true(s->state.layer == 3 && s->state.expert == 7 && !s->state.quit);
	for (const char *k = "/MEDIC"; *k; k++)
		tui_key(&c, *k);
	tui_key(&c, TUI_KEY_ENTER);
	assert_true(s->state.screen == TUI_SCREEN_DOMAINS && s->state.domain == 7);
	for (const char *k = "/E99"; *k; k++)
		tui_key(&c, *k);
	tui_key(&c, TUI_KEY_ENTER);
	assert_non_null(strstr(s->state.note, "not found"));
	tui_render(&c);
	s->state.mouse_x = 1, s->state.mouse_y = 2; /* the first tab */
	tui_key(&c, TUI_KEY_CLICK);
	assert_int_equal(s->state.screen, TUI_SCREEN_OVERVIEW);
	s->state.screen = TUI_SCREEN_HEATMAP;
	tui_render(&c);
	s->state.mouse_x = 1 + 5, s->state.mouse_y = 3 + 2; /* first cell below cursor line and axis */
	tui_key(&c, TUI_KEY_CLICK);
	assert_true(s->state.layer == 0 && s->state.expert == 0);
	tui_render(&c);
	tui_key(&c, TUI_KEY_CLICK); /* again: Enter */
	assert_int_equal(s->state.screen, TUI_SCREEN_EXPERT);
	tui_grid_free(&g);
	sample_free(s);
}

static void states_of_a_run(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 2);
	struct run_info *r = &s->data.sum.run;

	(void)state;
	r->heartbeat = SAMPLE_NOW - INT64_C(720000000000);
	assert_shows(s, 0, 120, 30, (const char *const[]){ "stopped without closing, 12 min ago",
		NULL });
	r->ended = r->heartbeat;
	snprintf(r->state, sizeof r->state, "done");
	assert_shows(s, 0, 120, 30, (const char *const[]){ "finished 12 min ago", NULL });
	snprintf(r->state, sizeof r->state, "failed");
	s->state.paused = 1;
	assert_shows(s, 0, 120, 30, (const char *const[]){ "failed 12 min ago", "paused", NULL });
	s->alarms.n = 0;
	assert_shows(s, 7, 80, 24, (const char *const[]){ "No alarm", NULL });
	s->alarms.n = 3;
	sample_free(s);
}

static void keys_do_what_the_last_line_says(void **state)
{
	struct sample *s = sample_make(6, 16, 2, 3);
	int64_t runs[] = { 3, 14 };
	struct tui_grid g;
	struct tui_ctx c = desk(s, &g, TUI_SCREEN_OVERVIEW);

	(void)state;
	s->data.runs = runs;
	s->data.n_runs = 2;
	s->data.domain = s->spec.spec.domain;
	s->data.n_domain = 3;
	tui_key(&c, '3');
	assert_int_equal(s->state.screen, 2);
	tui_key(&c, TUI_KEY_TAB);
	assert_int_equal(s->state.screen, 3);
	tui_key(&c, '9'); /* no such screen */
	assert_int_equal(s->state.screen, 3);
	assert_int_equal(tui_key(&c, 'w'), 1);
	assert_true(s->state.want.window_ns == INT64_C(600000000000));
	assert_int_equal(tui_key(&c, 'd'), 1);
	assert_true(s->state.want.domain == 1);
	assert_int_equal(tui_key(&c, 'D'), 1);
	assert_true(s->state.want.domain == -1);
	assert_int_equal(tui_key(&c, 'r'), 1);
	assert_true(s->state.want.run == 3);
	assert_int_equal(tui_key(&c, 'u'), 0);
	assert_true(s->state.again);
	s->state.again = 0;
	assert_int_equal(tui_key(&c, 'p'), 0);
	assert_true(s->state.paused);
	assert_int_equal(tui_key(&c, 'u'), 0);
	assert_false(s->state.again);
	tui_key(&c, '?');
	assert_true(s->state.help);
	tui_key(&c, '1'); /* only closes the help */
	assert_true(!s->state.help && s->state.screen == 3);
	tui_key(&c, '2');
	tui_key(&c, 'l');
	tui_key(&c, 'j');
	assert_true(s->state.expert == 1 && s->state.layer == 1);
	tui_key(&c, TUI_KEY_F10);
	assert_true(s->state.quit);
	s->data.domain = NULL;
	tui_grid_free(&g);
	sample_free(s);
}

static void wide_and_combining_characters(void **state)
{
	struct tui_grid g;

	(void)state;
	assert_int_equal(tui_grid_init(&g, 10, 2, (struct tui_look){ 1, 0 }), 0);
	assert_int_equal(tui_text(&g, 0, 0, 5, TUI_TEXT, "\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2"), 5);
	assert_int_equal(g.cell[0].cp, 0x6f22);
	assert_int_equal(g.cell[1].cp, 0);
	assert_int_equal(g.cell[4].cp, 0x2026); /* cut: an ellipsis, not half a character */
	tui_put(&g, 1, 0, TUI_TEXT, 'x');       /* over the right half: the left half goes too */
	assert_int_equal(g.cell[0].cp, ' ');
	tui_put(&g, 9, 1, TUI_TEXT, 0x6f22);    /* no room for two columns */
	assert_int_equal(g.cell[19].cp, '?');
	assert_int_equal(tui_text(&g, 0, 1, 8, TUI_TEXT, "e\xcc\x81x"), 2);
	assert_int_equal(g.cell[10].mark, 0x301);
	check_cells(&g);
	tui_grid_free(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_shape_at_every_size),
		cmocka_unit_test(empty_and_missing_data),
		cmocka_unit_test(hostile_text_stays_text),
		cmocka_unit_test(odd_numbers),
		cmocka_unit_test(random_keys),
		cmocka_unit_test(screens_say_what_they_must),
		cmocka_unit_test(sliders_move_along_their_curves),
		cmocka_unit_test(timeline_rewinds_and_plays),
		cmocka_unit_test(baseline_shows_what_changed),
		cmocka_unit_test(baseline_on_the_other_screens),
		cmocka_unit_test(filters_are_followed_or_said),
		cmocka_unit_test(four_screens_stay_with_the_whole_run),
		cmocka_unit_test(only_the_stream_is_read_for_a_request),
		cmocka_unit_test(requests_are_chosen_by_key),
		cmocka_unit_test(domains_are_sorted),
		cmocka_unit_test(search_and_mouse_reach_what_they_name),
		cmocka_unit_test(states_of_a_run),
		cmocka_unit_test(keys_do_what_the_last_line_says),
		cmocka_unit_test(wide_and_combining_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
