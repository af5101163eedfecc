/*
 * decisions_csv.c - decisions as CSV, with a head line that names the columns in any order:
 *
 *	run,sequence,position,token,layer,experts,weights,domain,phase
 *	1,7,0,42,0,3 11,0.625 0.375,law,prefill
 *
 * experts and weights are lists with spaces between; rank order, best first. Needed are sequence,
 * position, layer and experts; run is 1, token -1, phase prefill where it is not given. Other
 * columns are an error, so that a misspelt one is not lost.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/decisions.h"

enum col { RUN, SEQUENCE, POSITION, TOKEN, LAYER, EXPERTS, WEIGHTS, DOMAIN, PHASE, N_COL };
static const struct { const char *name; int needed; } cols[N_COL] = {
	[RUN] = { "run", 0 }, [SEQUENCE] = { "sequence", 1 }, [POSITION] = { "position", 1 },
	[TOKEN] = { "token", 0 }, [LAYER] = { "layer", 1 }, [EXPERTS] = { "experts", 1 },
	[WEIGHTS] = { "weights", 0 }, [DOMAIN] = { "domain", 0 }, [PHASE] = { "phase", 0 },
};

struct state { int known, n, at[N_COL]; }; /* at: field of a column, -1 = absent */

int decisions_csv_detect(const char *head, size_t n)
{
	char line[1024];
	size_t len = 0;

	while (len < n && head[len] != '\n' && head[len] != '\r' && len < sizeof line - 1)
		len++;
	memcpy(line, head, len);
	line[len] = 0;
	return *line != '{' && strstr(line, "experts") && strstr(line, "position") &&
		strstr(line, "sequence") && strstr(line, "layer");
}

static int head(struct lines *l, struct state *s, char *const *f, int n, struct moe_err *e)
{
	for (int c = 0; c < N_COL; c++)
		s->at[c] = -1;
	for (int i = 0; i < n; i++) {
		int c = 0;

		while (c < N_COL && strcmp(cols[c].name, f[i]))
			c++;
		if (c == N_COL)
			return lines_fail(l, e, "column '%.40s' is unknown; columns are run, sequence, "
				"position, token, layer, experts, weights, domain, phase", f[i]);
		if (s->at[c] >= 0)
			return lines_fail(l, e, "column '%s' twice", f[i]);
		s->at[c] = i;
	}
	for (int c = 0; c < N_COL; c++)
		if (cols[c].needed && s->at[c] < 0)
			return lines_fail(l, e, "no column '%s'", cols[c].name);
	s->known = 1;
	s->n = n;
	return 0;
}

/* The next word of a list, NULL after the last. */
static char *word(char **p)
{
	char *s = *p + strspn(*p, " ");

	if (!*s)
		return NULL;
	*p = s + strcspn(s, " ");
	if (**p)
		*(*p)++ = 0;
	return s;
}

static int lists(struct lines *l, char *experts, char *weights, struct decision *d,
	struct moe_err *e)
{
	char *s;

	for (d->k = 0; (s = word(&experts)); d->k++)
		if (d->k == MOE_MAX_EXPERT)
			return lines_fail(l, e, "more than %d experts", MOE_MAX_EXPERT);
		else if (lines_int(l, "expert", s, INT64_MIN, INT64_MAX, &d->expert[d->k], e))
			return -1;
	for (d->n_weight = 0; weights && (s = word(&weights)); d->n_weight++)
		if (d->n_weight == MOE_MAX_EXPERT)
			return lines_fail(l, e, "more than %d weights", MOE_MAX_EXPERT);
		else if (lines_real(l, "weight", s, &d->weight[d->n_weight], e))
			return -1;
	return 0;
}

static int phase(struct lines *l, const char *s, int64_t *out, struct moe_err *e)
{
	*out = !strcmp(s, "decode");
	if (!*out && strcmp(s, "prefill"))
		return lines_fail(l, e, "phase '%.40s' is neither prefill nor decode", s);
	return 0;
}

static int parse(struct lines *l, void *state, struct decision *d, struct moe_err *e)
{
	static const struct { enum col col; size_t to; int64_t otherwise; } num[] = {
		{ RUN, offsetof(struct decision, run), 1 },
		{ SEQUENCE, offsetof(struct decision, sequence), 0 },
		{ POSITION, offsetof(struct decision, position), 0 },
		{ TOKEN, offsetof(struct decision, token), -1 },
		{ LAYER, offsetof(struct decision, layer), 0 },
	};
	struct state *s = state;
	char *f[FIELDS_MAX], *domain;
	int n = lines_fields(l, f, e);

	if (n < 0)
		return -1;
	if (!s->known)
		return head(l, s, f, n, e);
	if (n != s->n)
		return lines_fail(l, e, "%d fields, the head line has %d", n, s->n);
	for (size_t i = 0; i < sizeof num / sizeof *num; i++) {
		int64_t *to = (int64_t *)(void *)((char *)d + num[i].to);

		*to = num[i].otherwise;
		if (s->at[num[i].col] >= 0 && lines_int(l, cols[num[i].col].name, f[s->at[num[i].col]],
			INT64_MIN, INT64_MAX, to, e))
			return -1;
	}
	d->phase = MOE_PREFILL;
	if (s->at[PHASE] >= 0 && phase(l, f[s->at[PHASE]], &d->phase, e))
		return -1;
	domain = s->at[DOMAIN] >= 0 ? f[s->at[DOMAIN]] : "";
	if (*domain == '\'' && domain[1] && strchr("=+-@\t\r", domain[1]))
		domain++; /* the guard that export puts before what a spreadsheet takes for a formula */
	if (strlen(domain) >= sizeof d->domain)
		return lines_fail(l, e, "a domain of more than %zu bytes", sizeof d->domain - 1);
	strcpy(d->domain, domain);
	return lists(l, f[s->at[EXPERTS]], s->at[WEIGHTS] >= 0 ? f[s->at[WEIGHTS]] : NULL, d, e) ? -1 :
		1;
}

int decisions_csv_import(const struct exchange_in *in, struct exchange_done *done,
	struct moe_err *e)
{
	return decisions_import(in, "csv", parse, sizeof(struct state), done, e);
}

static void put_text(FILE *f, const char *s)
{
	if (*s && strchr("=+-@\t\r", *s))
		fputs("\"'", f);
	else
		fputc('"', f);
	for (; *s; s++) {
		if (*s == '"')
			fputc('"', f);
		fputc(*s == '\n' ? ' ' : *s, f);
	}
	fputc('"', f);
}

static void print(FILE *f, const struct decision_out *d)
{
	const struct cursor_chunk *c = d->c;
	size_t at = d->t * c->k_row + c->k_at[d->li], k = c->layers[d->li].k;

	fprintf(f, "%lld,%llu,%u,%d,%d,", (long long)d->run, (unsigned long long)c->seq, c->pos + d->t,
		c->tokens[d->t], c->layers[d->li].layer);
	for (size_t i = 0; i < k; i++)
		fprintf(f, i ? " %d" : "%d", c->experts[at + i]);
	fputc(',', f);
	for (size_t i = 0; i < k && !isnan(c->weights[at]); i++)
		fprintf(f, i ? " %.9g" : "%.9g", c->weights[at + i]);
	fputc(',', f);
	if (d->domain)
		put_text(f, d->domain);
	fputs(c->phase == MOE_DECODE ? ",decode\r\n" : ",prefill\r\n", f);
}

int decisions_csv_export(const struct exchange_out *out, struct moe_err *e)
{
	for (int c = 0; c < N_COL; c++)
		fprintf(out->to, "%s%s", c ? "," : "", cols[c].name);
	fputs("\r\n", out->to);
	return decisions_export(out, print, e);
}
