/*
 * energy.c - what a run used per token, from the notes `energy` that it left: "PHASE: N uJ, N
 * tokens, N ns, PACKAGES", or "unavailable: WHY" (docs/TRACE.md). Machine-wide energy of the
 * processor packages.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/table.h"

static const struct view_col cols[] = {
	{ "run", NULL, VIEW_INT, 0 }, { "phase", "phase", VIEW_TEXT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 },
	{ "joule", "J", VIEW_REAL, 3 }, { "seconds", "s", VIEW_REAL, 2 },
	{ "joule_per_token", "J/token", VIEW_REAL, 6 }, { "watt", "W", VIEW_REAL, 1 },
	{ "counters", "counters", VIEW_TEXT, 0 },
};

struct used { double uj, tokens, ns; char counters[128]; };

/* One note; 0 if it is not of that form. */
static int take(const char *text, struct used *u)
{
	static const char *const phase[] = { "prefill: ", "decode: " };

	for (int p = 0; p < 2; p++) {
		unsigned long long uj, tokens, ns;
		int at = 0;

		if (strncmp(text, phase[p], strlen(phase[p])))
			continue;
		if (sscanf(text + strlen(phase[p]), "%llu uJ, %llu tokens, %llu ns, %n", &uj, &tokens, &ns,
		    &at) != 3 || !at)
			return 0;
		u[p].uj += (double)uj, u[p].tokens += (double)tokens, u[p].ns += (double)ns;
		snprintf(u[p].counters, sizeof u[p].counters, "%.120s", text + strlen(phase[p]) + at);
		return 1;
	}
	return 0;
}

static int put(const struct load_filter *f, const char *phase, const struct used *u,
	struct view_table *out, struct moe_err *e)
{
	struct view_cell *c = view_table_row(out, e);

	if (!c || view_set_text(c + 1, phase, e) || view_set_text(c + 7, u->counters, e))
		return -1;
	view_set_int(c, f->run);
	view_set_int(c + 2, (int64_t)u->tokens);
	view_set_real(c + 3, u->uj * 1e-6);
	view_set_real(c + 4, u->ns * 1e-9);
	view_set_real(c + 5, u->tokens > 0 ? u->uj * 1e-6 / u->tokens : NAN);
	view_set_real(c + 6, u->ns > 0 ? u->uj * 1e3 / u->ns : NAN);
	return 0;
}

int view_stat_energy(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	static const char *const phase[] = { "prefill", "decode" };
	struct used u[2] = { { .uj = 0 } };
	struct note *n = NULL;
	int bad, any = 0, still;
	size_t n_note = 0;

	view_table_init(out, cols, sizeof cols / sizeof *cols);
	if (reader_notes(r, f->run, 0, &n, &n_note, e))
		return -1;
	snprintf(out->why, sizeof out->why, "unavailable: run %lld left no note of it (an import, or a "
		"version that did not measure)", (long long)f->run);
	for (size_t i = 0; i < n_note; i++)
		if (!strcmp(n[i].kind, "energy") && !take(n[i].text, u))
			snprintf(out->why, sizeof out->why, "%.240s", n[i].text);
	free(n);
	bad = 0;
	for (int p = 0; p < 2; p++)
		any |= u[p].tokens > 0;
	still = any && !(u[0].uj + u[1].uj > 0);
	if (still)
		snprintf(out->why, sizeof out->why, "unavailable: the counters did not move while the run "
			"lasted");
	for (int p = 0; any && !still && p < 2 && !bad; p++)
		if (u[p].tokens > 0 && (f->phase < 0 || f->phase == p))
			bad = put(f, phase[p], &u[p], out, e);
	if (bad)
		view_table_free(out);
	else if (out->n_row)
		out->why[0] = 0;
	return bad ? -1 : 0;
}
