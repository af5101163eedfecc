/* notes.c - the end of the page: limits of the evidence, definitions, and where it comes from. */
#include <math.h>
#include <string.h>

#include "reports/page.h"

/* To add a definition: a row here; report_term(b, key, words) links to it. Text is HTML. */
static const struct { const char *key, *word, *text; } definitions[] = {
	{ "fair", "Fair share, load", "With E experts and k picks per token, even routing gives every "
		"expert 1/E of the picks. The load of an expert is its picks over that: "
		"<i>r</i> = <i>c</i>·E / (T·k), so 1 is fair and 2 is twice the fair share. Always within "
		"one layer: expert 3 of layer 0 has nothing to do with expert 3 of layer 1." },
	{ "maxmean", "Max/mean", "Load of the busiest expert of a layer. 1 is perfect balance; MaxVio "
		"is this less 1." },
	{ "capacity", "Capacity factor", "An engine with capacity factor CF lets an expert take at "
		"most ⌈T·k/E·CF⌉ picks of one batch; the rest is dropped. The figure on the first page "
		"treats the whole selection as one batch. Small batches are less even, so it is a lower "
		"bound." },
	{ "gini", "Gini", "Inequality of the loads of a layer: 0 if all are equal, near 1 if one "
		"expert takes everything." },
	{ "entropy", "Normalised entropy", "(−Σ <i>p</i> ln <i>p</i>) / ln E of the shares of picks: "
		"1 is even, 0 is one expert. Token entropy is the same for the router's probabilities of "
		"one token, averaged over tokens." },
	{ "effective", "Effective experts", "e<sup>H</sup>, H the entropy of the shares of picks in "
		"nats: how many equally busy experts would be as spread out." },
	{ "dead", "Dead, cold", "Dead: no pick at all. Cold: less than a tenth of the fair share. "
		"With few tokens a zero is no evidence: under even routing a given expert stays unpicked "
		"with probability (1 − k/E)<sup>T</sup>." },
	{ "coverage", "For 90 %", "The fewest experts that together take 90 % of the picks." },
	{ "mi", "Mutual information", "How many bits the expert tells about the domain: Σ "
		"<i>p</i>(d,e) log₂ [<i>p</i>(d,e) / (<i>p</i>(d) <i>p</i>(e))]. It is never below 0 and "
		"grows with few data: the bias (Miller–Madow) is (D−1)(E−1) / (2N ln 2). “Of the domain” "
		"divides by the entropy of the domains. MI token is the same for token and expert, from "
		"the router's probabilities." },
	{ "jsd", "Jensen–Shannon divergence", "How far apart two domains' shares of picks are, in "
		"bits: 0 is the same, 1 is no expert in common." },
	{ "interval", "95 % interval", "Bootstrap by document: documents are drawn again with "
		"replacement, because tokens of one document are alike." },
	{ "null", "Shuffled labels", "The same figure after the domain labels were dealt out to the "
		"documents at random: what the strongest of E experts reaches by chance. A claim is "
		"proven only where the low end of its interval is above the 95th percentile of this." },
	{ "noise", "Noise between two runs", "The shift of the load that is left after documents were "
		"swapped between the two runs at random, or dealt to them anew where they do not have the "
		"same ones: its 95th percentile. p is the share of these shuffles that shift at least as "
		"far." },
	{ "halves", "Noise by halves", "Every figure is computed again on every second sequence of "
		"each run, and on the others (random groups; Wolter, Introduction to Variance Estimation). "
		"The squared differences of the halves, a quarter of each, estimate the variance of a "
		"change, pooled over the rows of its table; a change beyond Student's 97.5 % quantile of "
		"it is more than noise. By chance one row in twenty is." },
	{ "control", "Shared tokens", "Is it the domain or only its words? Of the domain's tokens, "
		"only those whose ids other domains have too: the load of the expert on them here, and "
		"what it would be if they went where the same ids go in the other domains. Equal: the "
		"words explain it. Far apart: the model tells the domain from more than the token." },
	{ "confidence", "Confidence", "Sum of the softmax probabilities (over all experts) of the "
		"selected ones, averaged over tokens. Even scores give k/E." },
	{ "margin", "Margin", "Score of the last selected expert less that of the first rejected, on "
		"the scores that the selection used, averaged over tokens." },
	{ "aux", "Aux loss, z-loss", "Load-balancing loss E·Σ <i>f</i>·<i>P</i>, where <i>f</i> is "
		"the share of picks and <i>P</i> the mean probability; even routing gives 1. z-loss is "
		"the mean square of log Σ e<sup>logit</sup>." },
	{ "bpb", "Bits per byte, perplexity", "Negative log₂-likelihood of the scored text over its "
		"bytes. Perplexity is e to the mean negative log-likelihood per token; it cannot be "
		"compared between tokenizers." },
	{ "phase", "Prefill, decode", "Prefill reads a prompt, many tokens in one batch; decode "
		"writes one token at a time per sequence." },
	{ "speed", "Tokens per second", "Tokens over the time that the engine spent in its forward "
	"passes." },
};

void report_definitions(struct report_page *p)
{
	buf_str(p->b, "<dl class=\"defs\">\n");
	for (size_t i = 0; i < sizeof definitions / sizeof *definitions; i++)
		buf_printf(p->b, "<dt id=\"def-%s\">%s</dt><dd>%s</dd>\n", definitions[i].key,
			definitions[i].word, definitions[i].text);
	buf_str(p->b, "</dl>\n");
}

/* ---- limits ---- */

/* The control compares single token ids, and only those that domains share. */
static void words_limit(struct report_page *p)
{
	const struct view_spec *s = &p->d->spec;
	double sum = 0;
	size_t n = 0;

	for (size_t i = 0; i < s->n_layer; i++)
		for (size_t j = 0; j < s->n_domain; j++)
			if (isfinite(s->layer[i].cell[j].token_control)) {
				sum += s->layer[i].cell[j].token_share;
				n++;
			}
	if (!s->n_layer)
		return;
	buf_str(p->b, "<li><b>Whether it is the domain or just its words.</b> ");
	if (n)
		buf_printf(p->b, "Routing follows token ids closely. The <a class=\"term\" "
			"href=\"#def-control\">shared tokens</a> answer in part: they are %s of a domain's "
			"tokens on average, and phrases, style and position are not matched.</li>\n",
			report_num(REPORT_PERCENT, sum / (double)n).s);
	else
		buf_str(p->b, "Routing follows token ids closely, and the domains share too few of them to "
			"compare.</li>\n");
}

static void data_limits(struct report_page *p)
{
	const struct report_data *d = p->d;
	const struct run_info *r = &d->sum.run;

	if (d->spec.why[0]) {
		buf_str(p->b, "<li><b>Specialisation:</b> ");
		report_text(p->b, d->spec.why);
		buf_str(p->b, ".</li>\n");
	}
	if (!strcmp(r->detail, "counts"))
		buf_str(p->b, "<li><b>Single decisions.</b> The run kept counts only; nothing about "
			"tokens or documents can be recovered from them. Log at detail level "
			"<code>routes</code>.</li>\n");
	if (d->layers.n && !report_has_scores(d))
		buf_str(p->b, "<li><b>How sure the router was.</b> No scores were logged.</li>\n");
	if (!report_has_text(d))
		buf_str(p->b, "<li><b>Whether the model is any good at this text.</b> No text was "
		"scored.</li>\n");
	if (r->n_gap)
		buf_printf(p->b, "<li><b>The gaps.</b> The log has %s gap%s: decisions were dropped "
			"there, and every count is too low by them.</li>\n", report_num(REPORT_COUNT,
			(double)r->n_gap).s,
			report_plural(r->n_gap));
	if (!r->hash[0])
		buf_str(p->b, "<li><b>Which model file it was, to the bit.</b> Its hash was not "
		"computed.</li>\n");
}

void report_limits(struct report_page *p)
{
	buf_str(p->b, "<ul>\n");
	data_limits(p);
	words_limit(p);
	buf_str(p->b,
		"<li><b>Other text.</b> The figures hold for the text of this run. Another corpus, "
		"language or prompt format can route differently; so can a different quantisation of the "
		"model.</li>\n<li><b>Drops in service.</b> Capacity is per batch. What a server drops "
		"depends on its batches; the figure here is a lower bound.</li>\n"
		"<li><b>Cause.</b> A busy expert is not thereby important, nor an idle one useless: what "
		"an expert contributes is not measured here.</li>\n</ul>\n");
}

/* ---- origin ---- */

/* A word for a shell, untrusted: quoted unless it is plain. */
static void shell_word(struct buf *b, const char *s)
{
	struct buf q;

	buf_init(&q, 1 << 16);
	if (!strcmp(s, "-"))
		buf_str(&q, s);
	else if (*s && strspn(s,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+-") ==
	    strlen(s) && *s != '-')
		buf_str(&q, s);
	else {
		buf_str(&q, *s == '-' ? "./'" : "'");
		for (; *s; s++) {
			if (*s == '\'')
				buf_str(&q, "'\\''");
			else
				buf_char(&q, *s);
		}
		buf_char(&q, '\'');
	}
	if (q.data)
		report_text(b, q.data);
	buf_free(&q);
}

static void row(struct report_page *p, const char *name, const char *untrusted)
{
	if (!*untrusted)
		return;
	buf_printf(p->b, "<tr><th scope=\"row\" class=\"l\">%s</th><td class=\"l wrap\">", name);
	report_text(p->b, untrusted);
	buf_str(p->b, "</td></tr>\n");
}

static void row_number(struct report_page *p, const char *name, enum report_unit u, double v)
{
	if (v != 0)
		buf_printf(p->b, "<tr><th scope=\"row\" class=\"l\">%s</th><td "
		"class=\"l\">%s</td></tr>\n", name,
			report_num(u, v).s);
}

void report_origin(struct report_page *p)
{
	const struct report_data *d = p->d;
	const struct run_info *r = &d->sum.run;

	buf_str(p->b, "<div class=\"scroll\" tabindex=\"0\"><table class=\"origin\"><tbody>\n");
	row(p, "Model", r->model_name);
	row(p, "Model file", r->model_path);
	row_number(p, "Size of the file", REPORT_SIZE, (double)r->model_bytes);
	row(p, "SHA-256 of the file", r->hash[0] ? r->hash : "not computed");
	row(p, "Architecture", r->arch);
	row(p, "Router", r->router);
	row(p, "Quantisation", r->quant);
	row(p, "Tokenizer", r->tokenizer);
	row_number(p, "Vocabulary", REPORT_COUNT, r->n_vocab);
	row_number(p, "Layers", REPORT_COUNT, r->n_layer);
	row_number(p, "Layers with a router", REPORT_COUNT, r->n_moe_layer);
	row_number(p, "Context", REPORT_COUNT, r->n_ctx);
	row(p, "Engine", r->engine);
	row(p, "Kernels", r->isa);
	row_number(p, "Threads", REPORT_COUNT, r->n_threads);
	row_number(p, "Batch", REPORT_COUNT, r->n_batch);
	row(p, "Database", d->opt.db);
	row_number(p, "Run", REPORT_COUNT, (double)r->id);
	row(p, "Written by", r->command);
	row(p, "State", r->state);
	row(p, "Detail level", r->detail);
	row(p, "Started", report_date(r->started).s);
	row(p, "Ended", r->ended ? report_date(r->ended).s : "");
	row(p, "Last commit", report_date(r->heartbeat).s);
	row_number(p, "Gaps", REPORT_COUNT, (double)r->n_gap);
	row(p, "Report by", d->opt.made_by);
	row(p, "Pictures by", p->plotter->version);
	buf_str(p->b, "</tbody></table></div>\n");
	if (d->spec.n_layer)
		buf_printf(p->b, "<p>Random numbers: seed %d, %u resamplings, %u shuffles. The same "
			"database gives the same page.</p>\n", REPORT_SEED, d->spec.n_boot, d->spec.n_shuffle);
	buf_str(p->b, "<p>This command makes this page again:</p>\n<pre>moescope report ");
	shell_word(p->b, d->opt.db);
	buf_printf(p->b, " --run %lld", (long long)r->id);
	if (d->opt.base_arg) {
		buf_str(p->b, " --baseline ");
		shell_word(p->b, d->opt.base_arg);
	}
	if (d->opt.audit) {
		buf_str(p->b, " --audit");
		if (d->opt.audit->pubkey) {
			buf_str(p->b, " --pubkey ");
			shell_word(p->b, d->opt.audit->pubkey);
		}
		if (d->opt.audit->anchor) {
			buf_str(p->b, " --anchor ");
			shell_word(p->b, d->opt.audit->anchor);
		}
	}
	if (d->opt.out) {
		buf_str(p->b, " -o ");
		shell_word(p->b, d->opt.out);
	}
	buf_str(p->b, "</pre>\n");
}
