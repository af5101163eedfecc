/* once.c - `top --once`: the overview as text, or everything as one JSON object, and done. */
#include <errno.h>
#include <langinfo.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "tui/panel.h"
#include "tui/tui.h"

struct once {
	struct reader *reader;
	struct tui_source source;
	struct tui_data data;
	struct tui_alarms alarms;
	struct tui_spec spec;
	struct tui_state state;
};

static void wait_for(const char *path)
{
	struct timespec half = { 0, 500000000 };
	struct stat st;

	while (stat(path, &st) && errno == ENOENT)
		nanosleep(&half, NULL);
}

static int load(struct once *o, const char *path, const struct tui_opt *opt, struct moe_err *e)
{
	memset(o, 0, sizeof *o);
	if (opt->wait)
		wait_for(path);
	o->reader = reader_open(path, e);
	if (!o->reader || tui_source_init(&o->source, opt->base_path, e))
		return -1;
	o->source.r = o->reader;
	if (tui_data_load(&o->source, &opt->want, &o->data, e) ||
	    tui_alarms_load(&o->source, &opt->want, &o->alarms, e) ||
	    tui_spec_load(&o->source, o->data.sum.run.id, opt->want.base, &o->spec, e))
		return err_wrap(e, "%s", path);
	o->state.path = path;
	o->state.want = opt->want;
	o->state.now = clock_wall();
	if (view_verdict(&o->data.sum, &o->data.layers, &o->alarms.list, &o->spec.spec,
		o->state.verdict, sizeof o->state.verdict))
		o->state.verdict[0] = 0;
	return 0;
}

static void unload(struct once *o)
{
	tui_spec_free(&o->spec);
	tui_alarms_free(&o->alarms);
	tui_data_free(&o->data);
	tui_source_free(&o->source);
	reader_close(o->reader);
}

int tui_once_text(const char *path, const struct tui_opt *opt, int w, int h, void *file,
	struct moe_err *e)
{
	struct tui_look look = { .utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8"), .colours = 0 };
	struct once o = { 0 };
	struct tui_grid g = { 0 };
	struct buf text;
	int rc = -1;

	buf_init(&text, (size_t)TUI_MAX_W * TUI_MAX_H * 8);
	if (load(&o, path, opt, e))
		goto out;
	if (tui_grid_init(&g, w, h, look)) {
		err_nomem(e, (unsigned long long)w * (unsigned long long)h, "the screen");
		goto out;
	}
	tui_render(&(struct tui_ctx){ &g, &o.state, &o.data, &o.alarms.list,
		o.alarms.with_base ? &o.alarms.base : NULL, &o.spec, { NULL } });
	tui_grid_dump(&g, &text);
	if (text.failed)
		err_nomem(e, text.len, "the text");
	else
		rc = fwrite(text.data, 1, text.len, file) == text.len ? 0 :
			err_errno(e, "writing the overview");
out:
	buf_free(&text);
	tui_grid_free(&g);
	unload(&o);
	return rc;
}

/* ---- JSON ---- */

static void put_text(struct buf *b, const char *key, const char *s)
{
	buf_printf(b, "\"%s\":\"", key);
	text_escape(b, s, strlen(s), TEXT_JSON);
	buf_str(b, "\",");
}

static void put_real(struct buf *b, const char *key, double x)
{
	if (isfinite(x))
		buf_printf(b, "\"%s\":%.6g,", key, x);
	else
		buf_printf(b, "\"%s\":null,", key);
}

static void put_int(struct buf *b, const char *key, uint64_t x)
{
	buf_printf(b, "\"%s\":%llu,", key, (unsigned long long)x);
}

/* After the last field: its comma becomes the end of the object. */
static void end_object(struct buf *b)
{
	if (b->len && b->data[b->len - 1] == ',')
		b->len--;
	buf_char(b, '}');
}

static void put_summary(struct buf *b, const struct once *o)
{
	const struct view_summary *s = &o->data.sum;
	const struct run_info *r = &s->run;

	buf_str(b, "\"summary\":{");
	put_int(b, "run", (uint64_t)r->id);
	put_text(b, "state", r->state);
	buf_printf(b, "\"alive\":%s,", r->alive ? "true" : "false");
	put_text(b, "command", r->command);
	put_text(b, "model", r->model_name);
	put_text(b, "arch", r->arch);
	put_text(b, "quant", r->quant);
	put_text(b, "router", r->router);
	put_text(b, "hash", r->hash);
	put_text(b, "detail", r->detail);
	put_text(b, "engine", r->engine);
	put_int(b, "moe_layers", r->n_moe_layer);
	put_int(b, "started_ns", (uint64_t)r->started);
	put_int(b, "ended_ns", (uint64_t)r->ended);
	put_real(b, "elapsed_s", s->elapsed_s);
	put_int(b, "tokens", s->tokens);
	put_int(b, "decisions", s->decisions);
	put_int(b, "sequences", r->n_seq);
	put_int(b, "domains", s->n_domain);
	put_int(b, "gaps", r->n_gap);
	put_real(b, "prefill_tps", s->prefill_tps);
	put_real(b, "decode_tps", s->decode_tps);
	put_int(b, "edited", s->edited);
	put_real(b, "cache_hit_rate", view_hit_rate(&s->cache));
	put_int(b, "cache_read_bytes", s->cache.bytes);
	put_real(b, "cache_stall_s", (double)s->cache.stall_ns * 1e-9);
	put_real(b, "lag_ms", s->lag_ms);
	put_real(b, "bpb", s->bpb);
	put_real(b, "dropped_at_cf125", s->dropped_at_cf125);
	end_object(b);
}

/* One object per domain and layer. */
static void put_domains(struct buf *b, const struct view_spec *sp)
{
	buf_str(b, "\"domains\":[");
	for (size_t d = 0; d < sp->n_domain; d++)
		for (size_t i = 0; i < sp->n_layer; i++) {
			const struct view_spec_cell *k = &sp->layer[i].cell[d];

			buf_str(b, "\n{");
			put_text(b, "domain", sp->domain[d].name);
			put_int(b, "layer", sp->layer[i].layer);
			put_int(b, "expert", k->expert);
			put_real(b, "rel_load", k->rel);
			put_real(b, "lo", k->lo);
			put_real(b, "hi", k->hi);
			put_real(b, "null_p95", k->null_p95);
			put_real(b, "token_share", k->token_share);
			put_real(b, "token_rel", k->token_rel);
			put_real(b, "token_control", k->token_control);
			buf_printf(b, "\"proven\":%s},", k->proven ? "true" : "false");
		}
	if (b->len && b->data[b->len - 1] == ',')
		b->len--;
	buf_str(b, "],\n");
	put_text(b, "domains_why", sp->why);
}

typedef int table_fn(struct reader *, const struct load_filter *, struct view_table *,
	struct moe_err *);

static int put_table(const struct once *o, const char *key, table_fn *fn, FILE *f,
	struct moe_err *e)
{
	struct view_table t = { 0 };
	int rc = -1;

	if (!fn(o->reader, &o->data.filter, &t, e)) {
		fprintf(f, "\"%s\":", key);
		rc = view_table_print(&t, VIEW_JSON, f, e);
	}
	view_table_free(&t);
	return rc;
}

static int put_alarms(const struct once *o, FILE *f, struct moe_err *e)
{
	struct view_table t = { 0 };
	int rc = -1;

	if (!view_alarms_table(&o->alarms.list, &t, e)) {
		fputs("\"alarms\":", f);
		rc = view_table_print(&t, VIEW_JSON, f, e);
	}
	view_table_free(&t);
	return rc;
}

int tui_once_json(const char *path, const struct tui_opt *opt, void *file, struct moe_err *e)
{
	struct once o = { 0 };
	struct buf b;
	int rc = -1;

	buf_init(&b, (size_t)64 << 20);
	if (load(&o, path, opt, e))
		goto out;
	buf_char(&b, '{');
	put_summary(&b, &o);
	buf_str(&b, ",\n");
	put_text(&b, "verdict", o.state.verdict);
	buf_char(&b, '\n');
	put_domains(&b, &o.spec.spec);
	buf_char(&b, '\n');
	if (b.failed) {
		err_nomem(e, b.len, "the JSON text");
		goto out;
	}
	fwrite(b.data, 1, b.len, file);
	if (put_table(&o, "layers", view_stat, file, e))
		goto out;
	fputs(",\n", file);
	if (put_alarms(&o, file, e))
		goto out;
	fputs("}\n", file);
	rc = 0;
out:
	buf_free(&b);
	unload(&o);
	return rc;
}
