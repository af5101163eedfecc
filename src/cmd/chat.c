/*
 * chat.c - `moescope run --chat`: a conversation.
 *
 * All turns are one sequence in one KV cache: what a turn adds to the conversation's text is fed, and
 * nothing twice. So nothing of a conversation is ever left out either: when the context is full it has
 * to be started anew. What people say is encoded as text, whatever it says (tok/chat.h); a reply
 * stays in the cache as the model gave it.
 *
 * Ctrl-C stops a reply; at the prompt, a second one in a row leaves.
 */
#define _GNU_SOURCE /* ppoll */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/gen.h"
#include "cmd/show.h"
#include "metrics/balance.h"
#include "tok/chat.h"
#include "view/table.h"

#define TOP_EXPERTS 4

/* Picks of the last reply's decisions, by MoE layer. */
struct picks {
	const struct model_info *info;
	uint64_t tokens;
	uint64_t *count[MOE_MAX_LAYER]; /* [n_moe_layer][n_expert] */
	int on;
};

struct chat {
	struct gen *g;
	const struct chat_opts *o;
	char *system;              /* NULL = none */
	char **said;               /* [n] messages in turn: mine, the model's, mine ... */
	size_t n, cap;
	uint64_t seq;
	int open;                  /* a sequence has been begun */
	struct picks picks;
	int interactive, leave;
};

/* ---- signals ---- */

static volatile sig_atomic_t stopped, ended; /* Ctrl-C; SIGTERM */

static void on_signal(int sig)
{
	if (sig == SIGINT)
		stopped = 1;
	else
		ended = 1;
}

static void catch_signals(void)
{
	struct sigaction a = { .sa_handler = on_signal }; /* no SA_RESTART: reading a line ends */

	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int must_stop(void)
{
	return stopped || ended;
}

/* ---- the template ---- */

#define LIST "; `moescope run --chat-template list` shows those that are known"

int chat_template(const struct loaded *l, const char *name, const struct chat_row **row,
	struct moe_err *e)
{
	struct gguf_str own;
	int rc;

	if (name) {
		*row = chat_find(name);
		return *row ? 0 : err_set(e, MOE_ERR_USAGE, "no chat template '%s'" LIST, show(name).s);
	}
	rc = gguf_get_str(l->gguf, "tokenizer.chat_template", &own, e);
	if (rc < 0)
		return -1;
	if (!rc)
		return err_set(e, MOE_ERR_INPUT, "the model has no tokenizer.chat_template: name one with "
			"--chat-template" LIST);
	*row = chat_detect(own.s, own.n);
	return *row ? 0 : err_set(e, MOE_ERR_INPUT, "the model's chat template of %zu bytes is none of those "
		"that are known, and templates are not executed: name one with --chat-template" LIST, own.n);
}

void chat_list(void)
{
	for (size_t i = 0; chat_row_at(i); i++)
		printf("%s\n", chat_name(chat_row_at(i)));
}

/* ---- what the last reply's routers chose ---- */

static int on_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct picks *p = ctx;

	(void)e;
	for (uint32_t m = 0; p->on && m < p->info->n_moe_layer; m++) {
		if (p->info->layers[m].layer != v->layer)
			continue;
		p->tokens += m ? 0 : v->n_tok;
		for (size_t i = 0; i < (size_t)v->n_tok * v->k; i++)
			p->count[m][v->experts[i]]++;
	}
	return 0;
}

static void forget_picks(struct picks *p)
{
	p->tokens = 0;
	for (uint32_t m = 0; m < p->info->n_moe_layer; m++)
		memset(p->count[m], 0, p->info->layers[m].n_expert * sizeof *p->count[m]);
}

static int watch_picks(struct chat *c, struct moe_hook *h, struct moe_err *e)
{
	struct picks *p = &c->picks;

	p->info = model_info(c->g->l.model);
	for (uint32_t m = 0; m < p->info->n_moe_layer; m++) {
		p->count[m] = calloc(p->info->layers[m].n_expert, sizeof *p->count[m]);
		if (!p->count[m])
			return err_nomem(e, p->info->layers[m].n_expert * sizeof *p->count[m], "counts of experts");
	}
	*h = (struct moe_hook){ .name = "reply", .ctx = p, .route = on_route };
	return session_add_hook(c->g->s, h, e);
}

/* "E3 21 %, E7 15 %": the busiest experts and their shares of the picks. */
static void top_experts(const uint64_t *count, unsigned n, uint64_t picks, char *out, size_t size)
{
	uint64_t most = UINT64_MAX, next;
	unsigned shown = 0, e;
	size_t len = 0;

	*out = 0;
	while (shown < TOP_EXPERTS) {
		next = 0;
		for (e = 0; e < n; e++)
			if (count[e] < most && count[e] > next)
				next = count[e];
		if (!next)
			break;
		for (e = 0; e < n && shown < TOP_EXPERTS; e++)
			if (count[e] == next && len < size) {
				len += (size_t)snprintf(out + len, size - len, "%sE%u %.0f %%", shown ? ", " : "", e,
					100.0 * (double)next / (double)picks);
				shown++;
			}
		most = next;
	}
}

static int stats_row(struct view_table *t, const struct moe_layer_desc *d, const uint64_t *count,
	struct moe_err *e)
{
	uint64_t *sorted = malloc(d->n_expert * sizeof *sorted);
	struct metrics_balance b;
	struct view_cell *c;
	char top[128];

	if (!sorted)
		return err_nomem(e, d->n_expert * sizeof *sorted, "sorted counts");
	metrics_balance(count, d->n_expert, sorted, &b);
	free(sorted);
	c = view_table_row(t, e);
	if (!c)
		return -1;
	top_experts(count, d->n_expert, b.picks, top, sizeof top);
	view_set_int(c, d->layer);
	view_set_int(c + 1, d->n_expert - b.n_dead);
	view_set_int(c + 2, d->n_expert);
	view_set_real(c + 3, b.max_mean);
	view_set_real(c + 4, b.entropy_norm);
	view_set_real(c + 5, b.n_eff);
	return view_set_text(c + 6, top, e);
}

/* Definitions: docs/METRICS.md. */
static int print_stats(const struct chat *c, struct moe_err *e)
{
	static const struct view_col cols[] = { { "layer", "layer", VIEW_INT, 0 },
		{ "used", "used", VIEW_INT, 0 }, { "experts", "experts", VIEW_INT, 0 },
		{ "max_mean", "max/mean", VIEW_REAL, 3 }, { "entropy_norm", "H norm", VIEW_REAL, 4 },
		{ "n_eff", "N eff", VIEW_REAL, 2 }, { "top", "busiest", VIEW_TEXT, 0 } };
	const struct picks *p = &c->picks;
	struct view_table t;
	int rc = 0;

	if (!p->info->n_moe_layer) {
		printf("The model is dense: it has no routers.\n");
		return 0;
	}
	if (!p->tokens) {
		printf("No token of a reply has been routed yet.\n");
		return 0;
	}
	printf("Routing of the last reply, %llu tokens:\n", (unsigned long long)p->tokens);
	view_table_init(&t, cols, sizeof cols / sizeof *cols);
	for (uint32_t m = 0; !rc && m < p->info->n_moe_layer; m++)
		rc = stats_row(&t, &p->info->layers[m], p->count[m], e);
	if (!rc)
		rc = view_table_print(&t, VIEW_PRETTY, stdout, e);
	view_table_free(&t);
	return rc;
}

/* ---- turns ---- */

static int end_sequence(struct chat *c, struct moe_err *e)
{
	if (!c->open)
		return 0;
	c->open = 0;
	return session_end(c->g->s, &c->g->result, e);
}

static void forget_all(struct chat *c)
{
	while (c->n)
		free(c->said[--c->n]);
}

static int begin_sequence(struct chat *c, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = c->seq + 1, .domain = c->o->domain, .name = c->o->name };

	if (c->open)
		return 0;
	if (session_begin(c->g->s, &info, e))
		return -1;
	c->open = 1;
	c->g->unfed = -1;
	c->g->result = (struct moe_seq_result){ .seq = ++c->seq };
	return 0;
}

static int remember(struct chat *c, const char *s, struct moe_err *e)
{
	char *copy = strdup(s);

	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 16;
		char **p = realloc(c->said, cap * sizeof *p);

		if (p) {
			c->said = p;
			c->cap = cap;
		}
	}
	if (!copy || c->n == c->cap) {
		free(copy);
		return err_nomem(e, strlen(s) + 1, "a message");
	}
	c->said[c->n++] = copy;
	return 0;
}

/* The conversation with its newest message, as text. */
static int render(const struct chat *c, struct chat_text *t, struct moe_err *e)
{
	struct chat_message *m = malloc((c->n + 1) * sizeof *m);
	size_t n = 0;
	int rc;

	if (!m)
		return err_nomem(e, (c->n + 1) * sizeof *m, "a conversation");
	if (c->system)
		m[n++] = (struct chat_message){ CHAT_SYSTEM, c->system, strlen(c->system) };
	for (size_t i = 0; i < c->n; i++)
		m[n++] = (struct chat_message){ i % 2 ? CHAT_ASSISTANT : CHAT_USER, c->said[i], strlen(c->said[i]) };
	rc = chat_render(c->o->row, m, n, 1, t, e);
	free(m);
	return rc;
}

/* The ids of what the model has not seen of the conversation. */
static int encode_new(const struct chat *c, int32_t **ids, size_t *n, struct moe_err *e)
{
	const struct tok *tok = c->g->l.tok;
	unsigned flags = TOK_SPECIAL;
	struct chat_text t;
	size_t from, first = 0, len;
	const char *bos;
	int rc;

	if (render(c, &t, e))
		return -1;
	from = c->n > 1 ? t.after_reply : 0;
	while (first < t.n_outside && t.outside[first].end <= from)
		first++;
	for (size_t i = first; i < t.n_outside; i++) {
		t.outside[i].start -= from;
		t.outside[i].end -= from;
	}
	bos = tok_bytes(tok, tok_bos(tok), &len);
	if (c->n > 1)
		flags |= TOK_CONTINUE;
	else if (!bos || len > t.n || memcmp(t.s, bos, len)) /* some templates write it themselves */
		flags |= TOK_BOS;
	rc = tok_encode_around(tok, t.s + from, t.n - from, t.outside + first, t.n_outside - first, flags, ids,
		n, e);
	chat_text_free(&t);
	return rc;
}

/* The message does not fit: say so, forget it, go on if somebody is there to do something about it. */
static int too_long(struct chat *c, size_t n, struct moe_err *e)
{
	free(c->said[--c->n]);
	err_set(e, MOE_ERR_INPUT, "the conversation has %u tokens and this message %zu more, the context %u "
		"(--ctx); no turn is left out: /reset starts anew", session_pos(c->g->s), n, session_ctx(c->g->s));
	if (!c->interactive)
		return -1;
	printf("[%s]\n", e->msg);
	return 0;
}

static int feed_turn(struct chat *c, const int32_t *ids, size_t n, struct moe_err *e)
{
	struct gen *g = c->g;
	int32_t last = g->unfed;

	g->unfed = -1;
	if (last >= 0 && gen_feed(g, &last, 1, MOE_DECODE, e))
		return -1;
	g->result.n_prompt += (uint32_t)n;
	return gen_feed(g, ids, n, MOE_PREFILL, e);
}

static int reply(struct chat *c, struct moe_err *e)
{
	struct gen *g = c->g;
	enum gen_end end;
	int rc;

	forget_picks(&c->picks);
	c->picks.on = 1;
	g->skip_blank = tok_adds_blank(g->l.tok);
	rc = gen_reply(g, c->o->most, c->o->ignore_end, &end, e);
	c->picks.on = 0;
	if (rc || (g->rec.strict && gen_settle(g, e)))
		return -1;
	printf(c->interactive && stopped ? " [stopped]\n" : "\n");
	if (end == GEN_FULL)
		fprintf(stderr, "[the context of %u tokens is full; no turn is left out: /reset starts anew]\n",
			session_ctx(g->s));
	fflush(stdout);
	/* The text is not needed again: what follows a reply is written from its end on. */
	return remember(c, "", e);
}

static int turn(struct chat *c, const char *s, struct moe_err *e)
{
	int32_t *ids = NULL;
	size_t n = 0;
	int rc = -1, pending;

	if (begin_sequence(c, e) || remember(c, s, e))
		return -1;
	if (encode_new(c, &ids, &n, e))
		goto out;
	pending = c->g->unfed >= 0;
	if (session_pos(c->g->s) + n + (size_t)pending > session_ctx(c->g->s))
		rc = too_long(c, n, e);
	else if (!feed_turn(c, ids, n, e))
		rc = reply(c, e);
out:
	free(ids);
	return rc;
}

/* ---- commands ---- */

static int do_reset(struct chat *c, const char *arg, struct moe_err *e)
{
	(void)arg;
	forget_all(c);
	return end_sequence(c, e);
}

static int do_system(struct chat *c, const char *arg, struct moe_err *e)
{
	char *copy = *arg ? strdup(arg) : NULL;

	if (*arg && !copy)
		return err_nomem(e, strlen(arg) + 1, "instructions");
	free(c->system);
	c->system = copy;
	return do_reset(c, arg, e);
}

static int do_stats(struct chat *c, const char *arg, struct moe_err *e)
{
	(void)arg;
	return print_stats(c, e);
}

static int do_exit(struct chat *c, const char *arg, struct moe_err *e)
{
	(void)arg, (void)e;
	c->leave = 1;
	return 0;
}

static int do_help(struct chat *c, const char *arg, struct moe_err *e);

/* To add a command, do this: a function and a row. */
static const struct { const char *name, *arg, *text; int (*run)(struct chat *, const char *, struct moe_err *); }
commands[] = {
	{ "/stats", "", "routing of the last reply: experts used, max/mean load, entropy, the busiest", do_stats },
	{ "/reset", "", "forget the conversation and start anew", do_reset },
	{ "/system", " TEXT", "start anew with these instructions; none without TEXT", do_system },
	{ "/help", "", "this list", do_help },
	{ "/exit", "", "leave, as Ctrl-D does", do_exit },
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static int do_help(struct chat *c, const char *arg, struct moe_err *e)
{
	(void)c, (void)arg, (void)e;
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("%s%-*s  %s\n", commands[i].name, (int)(14 - strlen(commands[i].name)), commands[i].arg,
			commands[i].text);
	printf("Anything else is what you say. A line that is to begin with / begins with //.\n");
	return 0;
}

static int command(struct chat *c, const char *line, struct moe_err *e)
{
	for (size_t i = 0; i < N_COMMANDS; i++) {
		size_t n = strlen(commands[i].name);

		if (strncmp(line, commands[i].name, n) || (line[n] && line[n] != ' '))
			continue;
		line += n;
		return commands[i].run(c, line + strspn(line, " "), e);
	}
	if (!c->interactive)
		return err_set(e, MOE_ERR_USAGE, "no command '%s'; /help lists them", show(line).s);
	printf("No command '%s'; /help lists them.\n", show(line).s);
	return 0;
}

/* ---- the loop ---- */

static int take(struct chat *c, const char *line, struct moe_err *e)
{
	if (!*line)
		return 0;
	if (line[0] == '/' && line[1] != '/')
		return command(c, line, e);
	return turn(c, line + (line[0] == '/'), e);
}

/* Wait for a line on the terminal. Ctrl-C is let in only here, so that none is lost between looking for it
 * and waiting. */
static void wait_for_line(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	sigset_t block, before;

	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, &before);
	if (!stopped && !ended)
		ppoll(&p, 1, NULL, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

/* A line without its end; 0 = there are no more. */
static int read_line(struct chat *c, char **line, size_t *cap)
{
	int asked = 0;
	ssize_t n;

	for (stopped = 0;;) {
		if (c->interactive) {
			printf("> ");
			fflush(stdout);
			wait_for_line();
		}
		errno = EINTR;
		n = -1;
		if (!c->interactive || (!stopped && !ended)) {
			errno = 0;
			n = getline(line, cap, stdin);
		}
		if (n >= 0) {
			while (n && ((*line)[n - 1] == '\n' || (*line)[n - 1] == '\r'))
				(*line)[--n] = 0;
			return !ended;
		}
		if (errno != EINTR || ended)
			return 0;
		clearerr(stdin);
		if (asked++ || !c->interactive)
			return 0;
		stopped = 0; /* before it is said: the second one may follow at once */
		printf("\n[Ctrl-C again, /exit or Ctrl-D leaves]\n");
	}
}

static int talk(struct chat *c, struct moe_err *e)
{
	char *line = NULL;
	size_t cap = 0;
	int rc = 0;

	if (c->o->first && *c->o->first)
		rc = turn(c, c->o->first, e);
	while (!rc && !c->leave && !ended && !ferror(stdout) && read_line(c, &line, &cap))
		rc = take(c, line, e);
	if (c->interactive)
		putchar('\n');
	free(line);
	return rc;
}

int chat_run(struct gen *g, const struct chat_opts *o, struct moe_err *e)
{
	static struct moe_hook hook; /* the session keeps it; one conversation a process */
	static struct chat c;
	int rc = -1;

	c = (struct chat){ .g = g, .o = o, .interactive = isatty(STDIN_FILENO) };
	if (watch_picks(&c, &hook, e))
		goto out;
	if (o->system && do_system(&c, o->system, e))
		goto out;
	catch_signals();
	g->out = gen_stdout(must_stop);
	if (c.interactive)
		printf("%s, template %s, context %u. Say something, or /help.\n",
			show(model_info(g->l.model)->name).s, chat_name(o->row), session_ctx(g->s));
	rc = talk(&c, e);
	if (!rc)
		rc = end_sequence(&c, e);
out:
	forget_all(&c);
	free(c.said);
	free(c.system);
	for (size_t m = 0; m < MOE_MAX_LAYER; m++)
		free(c.picks.count[m]);
	return rc;
}
