/*
 * summary.c - see summary.h. Every figure comes from the views, as in `stat`, `top` and the report.
 */
#include "cmd/summary.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "cmd/show.h"
#include "view/view.h"

static void put(const char *s)
{
	struct buf b;

	buf_init(&b, 1 << 16);
	text_escape(&b, s, strlen(s), TEXT_TERMINAL);
	fputs(b.data ? b.data : "", stdout);
	buf_free(&b);
}

/* Text in a column of `width`; wide characters count two. */
static void put_column(const char *s, size_t width)
{
	struct buf b;
	size_t w;

	buf_init(&b, 1 << 16);
	text_escape(&b, s, strlen(s), TEXT_TERMINAL);
	fputs(b.data ? b.data : "", stdout);
	for (w = text_width(b.data ? b.data : ""); w < width; w++)
		putchar(' ');
	buf_free(&b);
}

static void put_number(double x, int width, int digits)
{
	if (isfinite(x))
		printf(" %*.*f", width, digits, x);
	else
		printf(" %*s", width, "-");
}

static void head(const struct view_summary *s)
{
	printf("\n");
	put(s->run.model_name);
	printf(" (%s, %s): %u MoE layers, ", show(s->run.arch).s, show(s->run.quant).s,
		s->run.n_moe_layer);
	put(s->run.router);
	printf("\n%llu tokens, %llu decisions; prefill", (unsigned long long)s->tokens,
		(unsigned long long)s->decisions);
	put_number(s->prefill_tps, 0, 0);
	printf(" tokens/s");
	if (isfinite(s->decode_tps))
		printf(", decode %.0f tokens/s", s->decode_tps);
	if (isfinite(s->bpb))
		printf("; %.2f bits per byte", s->bpb);
	printf("\n");
	if (s->cache.hits + s->cache.misses)
		printf("expert cache: %.1f %% of the experts were in memory, %.1f MB read, stalled %.2f "
			"s\n", 100 * view_hit_rate(&s->cache), (double)s->cache.bytes * 1e-6,
			(double)s->cache.stall_ns * 1e-9);
	if (s->edited)
		printf("a hook changed %llu of the %llu decisions\n", (unsigned long long)s->edited,
			(unsigned long long)s->decisions);
}

static void balance(const struct view_layers *l)
{
	printf("\nLoad balance per layer (max/mean: busiest expert over fair share, 1.00 = perfect)\n"
	       "%7s %9s %9s %9s %6s %11s  %s\n", "layer", "max/mean", "entropy", "effective", "dead",
		"busiest", "share of picks");
	for (size_t i = 0; i < l->n; i++) {
		const struct view_layer *v = &l->layer[i];

		printf("%7u", v->layer);
		put_number(v->max_mean, 9, 2);
		put_number(v->entropy_norm, 9, 3);
		put_number(v->n_eff, 9, 1);
		printf(" %3u/%-3u    E%-6u", v->n_dead, v->n_expert, v->top_expert);
		printf(" %6.1f %% (fair %.1f %%)\n", 100 * v->top_rate / v->k, 100.0 / v->n_expert);
	}
}

/* For each domain its clearest claim. */
static void domains(const struct view_spec *sp)
{
	printf("\nExperts by domain (load relative to fair share, 95 %% interval by document; "
		"shuffled: what "
	       "shuffled labels reach)\n");
	if (!sp->n_layer) {
		printf("  %s\n", show(sp->why).s);
		return;
	}
	for (size_t d = 0; d < sp->n_domain; d++) {
		int best = view_spec_clearest(sp, d);

		if (best < 0)
			continue;
		printf("  ");
		put_column(sp->domain[d].name, 12);
		printf(" layer %-3u E%-4u %5.1f x  (%.1f - %.1f; shuffled %.1f)%s", sp->layer[best].layer,
			sp->layer[best].cell[d].expert, sp->layer[best].cell[d].rel, sp->layer[best].cell[d].lo,
			sp->layer[best].cell[d].hi, sp->layer[best].cell[d].null_p95,
			sp->layer[best].cell[d].proven ? "" : "  not proven");
		if (sp->domain[d].n_bytes)
			printf("  %.2f bits/byte", sp->domain[d].nll / M_LN2 / (double)sp->domain[d].n_bytes);
		putchar('\n');
	}
	printf("  information between domain and expert, bits by layer:");
	for (size_t l = 0; l < sp->n_layer; l++)
		printf(" %.2f (shuffled %.2f)", sp->layer[l].mi, sp->layer[l].null_p95);
	putchar('\n');
}

static void alarms(const struct view_alarms *a)
{
	static const char *const word[] = { "note", "warning", "ALARM" };

	printf("\nAlarms\n");
	if (!a->n)
		printf("  none\n");
	for (size_t i = 0; i < a->n; i++) {
		printf("  %-8s", word[a->alarm[i].severity]);
		put(a->alarm[i].text);
		putchar('\n');
	}
}

int summary_print(const char *db, int64_t run, struct moe_err *e)
{
	struct load_filter f = { .run = run, .domain = -1, .phase = -1 };
	struct view_summary s;
	struct view_layers l = { 0 };
	struct view_alarms a = { 0 };
	struct view_spec sp = { 0 };
	struct reader *r = reader_open(db, e);
	char verdict[512];
	int failed = -1;

	if (!r)
		return -1;
	if (view_summary(r, &f, &s, e))
		goto out;
	f.run = s.run.id;
	if (view_layers(r, &f, &l, e) || view_alarms(r, &f, &a, e) ||
	    view_specialisation(r, &f, 0, 0, 1, &sp, e))
		goto out;
	head(&s);
	balance(&l);
	domains(&sp);
	alarms(&a);
	if (!view_verdict(&s, &l, &a, &sp, verdict, sizeof verdict))
		printf("\n%s\n", show(verdict).s);
	failed = 0;
out:
	view_spec_free(&sp);
	view_alarms_free(&a);
	view_layers_free(&l);
	reader_close(r);
	return failed;
}
