/*
 * audit.c - the pages for an auditor: what was logged, for how long, whether it verifies, who
 * decided what by domain, what changed, and which features of the log answer to which rule.
 *
 * Features, not claims: nothing here says that a rule is met. The table of rules names what each
 * asks for and what this log offers for it; whether that suffices is for the reader.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reports/show.h"

static void row(struct report_page *p, const char *name, const char *untrusted)
{
	buf_printf(p->b, "<tr><th scope=\"row\" class=\"l\">%s</th><td class=\"l wrap\">", name);
	report_text_or(p->b, untrusted, "–");
	buf_str(p->b, "</td></tr>\n");
}

static void row_num(struct report_page *p, const char *name, double v, const char *unit)
{
	buf_printf(p->b, "<tr><th scope=\"row\" class=\"l\">%s</th><td class=\"l\">%s%s</td></tr>\n",
		name, report_num(REPORT_COUNT, v).s, unit);
}

static void verification(struct report_page *p, const struct report_audit *a)
{
	if (!a->verified) {
		buf_str(p->b, "<p class=\"alarm-row warning\"><b>Not verified.</b> ");
		report_text_or(p->b, a->why, "no public key was given");
		buf_str(p->b, ". Without a key that the reader holds, nothing in a database can vouch for "
			"it: name one with <code>--pubkey</code>.</p>\n");
		return;
	}
	buf_printf(p->b, "<p class=\"alarm-row %s\"><b>",
		!strcmp(a->verdict, "VALID") ? "ok" : "alarm");
	report_text(p->b, a->verdict);
	buf_printf(p->b, "</b> with the key that was given: %s of %s leaves are under a signed "
		"checkpoint%s.", report_num(REPORT_COUNT, (double)a->signed_size).s,
		report_num(REPORT_COUNT, (double)a->leaves).s, a->deep ? "; every record was compared with "
		"the tables" : "");
	if (a->anchored)
		buf_printf(p->b, " %s leaves are under a checkpoint that was kept elsewhere.",
			report_num(REPORT_COUNT, (double)a->anchored_size).s);
	else
		buf_str(p->b, " No checkpoint kept elsewhere was given: the log is tamper-evident against "
			"parties without the key, up to the last checkpoint that the reader holds.");
	buf_str(p->b, "</p>\n<p>Root of the tree: <code class=\"hash\">");
	report_text(p->b, a->root);
	buf_str(p->b, "</code></p>\n");
	if (a->n_finding) {
		buf_str(p->b, "<h3>Findings</h3>\n<ul>\n");
		for (size_t i = 0; i < a->n_finding; i++) {
			buf_str(p->b, "<li>");
			report_text(p->b, a->finding[i].kind);
			buf_str(p->b, ": ");
			report_text(p->b, a->finding[i].text);
			buf_str(p->b, "</li>\n");
		}
		if (a->more_findings)
			buf_printf(p->b, "<li>and %llu more</li>\n", (unsigned long long)a->more_findings);
		buf_str(p->b, "</ul>\n");
	}
	if (a->blind[0]) {
		buf_str(p->b, "<h3>What no check of this log can show</h3>\n<ul>\n");
		for (size_t i = 0; i < sizeof a->blind / sizeof *a->blind && a->blind[i]; i++) {
			buf_str(p->b, "<li>");
			report_text(p->b, a->blind[i]);
			buf_str(p->b, "</li>\n");
		}
		buf_str(p->b, "</ul>\n");
	}
}

static void logged(struct report_page *p, const struct report_audit *a)
{
	buf_str(p->b, "<h3>What was logged, and for how long</h3>\n<div class=\"scroll\" "
		"tabindex=\"0\"><table class=\"origin\"><tbody>\n");
	row(p, "Origin of the log", a->origin);
	row(p, "Detail", a->detail);
	row(p, "If a record cannot be stored", a->loss);
	row(p, "Payloads", a->sealed ? "encrypted" : "not encrypted");
	row_num(p, "Kept for", (double)a->retain_days, " days");
	row_num(p, "Heartbeat every", (double)a->heartbeat_s, " s");
	row_num(p, "Checkpoint every", (double)a->checkpoint_s, " s");
	row_num(p, "Leaves", (double)a->leaves, "");
	for (size_t i = 0; i < a->n_kind; i++) {
		buf_str(p->b, "<tr><th scope=\"row\" class=\"l\">– ");
		report_text(p->b, a->kind[i].name);
		buf_printf(p->b, "</th><td class=\"l\">%s</td></tr>\n",
			report_num(REPORT_COUNT, (double)a->kind[i].n).s);
	}
	if (a->verified) {
		row_num(p, "Redacted payloads", (double)a->redacted, "");
		row_num(p, "Payloads past their time", (double)a->pruned, "");
		row_num(p, "Gaps", (double)a->gaps, "");
	}
	buf_str(p->b, "</tbody></table></div>\n<p>The log is sensitive itself: texts can be recovered "
		"from the ids of the experts alone, to a large part, so it deserves the protection of the "
		"texts.</p>\n");
}

static void by_domain(struct report_page *p)
{
	static const struct report_col cols[] = { { "Domain", NULL, 0 }, { "Sequences", NULL, 1 },
		{ "Tokens", NULL, 1 }, { "Decisions", NULL, 1 } };
	const struct report_data *d = p->d;

	buf_printf(p->b, "<h3>Decisions of run %lld by domain</h3>\n", (long long)d->sum.run.id);
	report_table_open(p, cols, 4, NULL);
	for (size_t i = 0; i < d->n_domain; i++) {
		report_row_open(p, 0);
		buf_str(p->b, "<td class=\"l\">");
		report_domain(p->b, &d->domain[i]);
		buf_str(p->b, "</td>");
		report_cell(p, REPORT_COUNT, (double)d->domain[i].n_seq);
		report_cell(p, REPORT_COUNT, (double)d->domain[i].n_tokens);
		report_cell(p, REPORT_COUNT, (double)d->domain[i].n_tokens * d->sum.run.n_moe_layer);
		report_row_close(p);
	}
	report_table_close(p);
	if (d->sum.edited)
		buf_printf(p->b, "<p>A hook changed %s of these decisions.</p>\n",
			report_num(REPORT_COUNT, (double)d->sum.edited).s);
}

static void events(struct report_page *p, const struct report_audit *a)
{
	static const struct report_col cols[] = { { "When", NULL, 0 }, { "What", NULL, 0 },
		{ "Says", NULL, 0 } };

	buf_str(p->b, "<h3>Changes of model, configuration and log</h3>\n");
	if (!a->n_event) {
		buf_str(p->b, "<p>None is recorded.</p>\n");
		return;
	}
	report_table_open(p, cols, 3, NULL);
	for (size_t i = 0; i < a->n_event; i++) {
		report_row_open(p, 0);
		report_cell_text(p, report_date(a->event[i].wall).s);
		report_cell_text(p, a->event[i].kind);
		buf_str(p->b, "<td class=\"l wrap\">");
		report_text(p->b, a->event[i].text);
		buf_str(p->b, "</td>");
		report_row_close(p);
	}
	report_table_close(p);
	if (a->more_events)
		buf_printf(p->b, "<p class=\"small\">%llu more are in the log.</p>\n",
			(unsigned long long)a->more_events);
}

static void rules(struct report_page *p)
{
	static const struct { const char *source, *asks, *feature; } rule[] = {
		{ "EU AI Act Art. 12, 19, 26(6)", "automatic event logs over the lifetime of a high-risk "
			"system, kept at least six months", "events of session, model and configuration; "
			"retention in days, 183 by default; export" },
		{ "NIST AI RMF 1.0 MEASURE 2.4, 2.7, 2.8, 2.9; MANAGE 4.1, 4.3",
			"monitoring in production, security, accountability, incidents",
			"comparison with a baseline (--baseline), alarms with their evidence, export of one "
			"run" },
		{ "ISO/IEC 42001 A.6.2.8", "event logs while in use", "begin and end of logging are "
			"logged; heartbeats bound what is missing" },
		{ "HIPAA 164.312(b), (c)", "record and examine activity; integrity",
			"operator, log of reading and export, encryption" },
		{ "SEC 17a-4(f)", "WORM storage, or an audit trail able to re-create the original; "
			"readable export", "export, legal hold" },
		{ "21 CFR 11.10(e)", "time-stamped trail that obscures nothing earlier",
			"append-only tree, operator, export" },
		{ "GDPR Art. 5, 17", "minimise; erase", "levels of detail, no text by default, redaction, "
			"keys by subject" },
	};
	static const struct report_col cols[] = { { "Source", NULL, 0 }, { "Asks for", NULL, 0 },
		{ "What this log offers for it", NULL, 0 } };

	buf_str(p->b, "<h3>What rules ask of such a log</h3>\n<p>Features, not legal advice, and no "
		"statement that a rule is met.</p>\n");
	report_table_open(p, cols, 3, NULL);
	for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
		buf_printf(p->b, "<tr><td class=\"l wrap\">%s</td><td class=\"l wrap\">%s</td>"
			"<td class=\"l wrap\">%s</td></tr>\n", rule[i].source, rule[i].asks, rule[i].feature);
	report_table_close(p);
}

int report_has_audit(const struct report_data *d)
{
	return d->opt.audit != NULL;
}

void report_audit_pages(struct report_page *p)
{
	const struct report_audit *a = p->d->opt.audit;

	if (!a->exists) {
		buf_str(p->b, "<p class=\"alarm-row warning\"><b>There is no audit log</b> in this "
			"database: <code>moescope audit init</code> begins one. Nothing below is protected "
			"against changes.</p>\n");
		by_domain(p);
		rules(p);
		return;
	}
	verification(p, a);
	logged(p, a);
	by_domain(p);
	events(p, a);
	rules(p);
}
