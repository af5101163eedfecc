/*
 * load_special.c - which tokens are special, what they do, and what a text is searched for. See
 * load.h.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "tok/load.h"

static int load_id(struct load *l, const char *key, int otherwise, int32_t *id)
{
	uint64_t v;
	int rc = gguf_get_u64(l->g, key, &v, l->e);

	*id = otherwise < (int64_t)l->t->n_vocab ? otherwise : -1;
	if (rc <= 0)
		return rc;
	if (v >= l->t->n_vocab)
		return err_set(l->e, MOE_ERR_INPUT, "key %s is %" PRIu64 ", the vocabulary has %zu tokens",
			key, v, l->t->n_vocab);
	*id = (int32_t)v;
	return 0;
}

/* Texts that end a generation, whatever the keys say. Plain ones count only if the token is not
 * normal: "</s>" may be an ordinary piece of HTML. */
static const struct { const char *text; int plain; } ends[] = {
	{ "<|im_end|>", 0 }, { "<|eot_id|>", 0 }, { "<|eom_id|>", 0 }, { "<|endoftext|>", 0 },
	{ "<|end_of_text|>", 0 }, { "<|end|>", 0 }, { "<|return|>", 0 }, { "<|call|>", 0 },
	{ "<|calls|>", 0 }, { "<|flush|>", 0 }, { "<|eot|>", 0 }, { "<|fim_pad|>", 0 },
	{ "<fim-pad>", 0 }, { "<fim_pad>", 0 }, { "<|repo_name|>", 0 }, { "<|fim_repo|>", 0 },
	{ "<fim-repo>", 0 }, { "<|file_sep|>", 0 },
	{ "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", 0 },
	{ "<end_of_turn>", 0 }, { "<end_of_utterance>", 0 }, { "<turn|>", 0 },
	{ "<|tool_response>", 0 },
	{ "</s>", 1 }, { "<eos>", 1 }, { "<EOT>", 1 }, { "_<EOT>", 1 }, { "[EOT]", 1 }, { "[EOS]", 1 },
	{ "[e~[", 1 }, { "<PAD>", 1 }, { "[PAD]", 1 }, { "<REPO>", 1 }, { "<reponame>", 1 },
};

/* Marks of fill-in-the-middle: control tokens, also where a file has them as user-defined. */
static const char *const controls[] = { "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>",
	"\xe2\x96\x81<PRE>", "<|code_prefix|>", "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>",
	"<fim_suffix>", "<SUF>", "\xe2\x96\x81<SUF>", "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>",
	"<fim-middle>", "<fim_middle>", "<MID>", "\xe2\x96\x81<MID>", "<|code_middle|>", "<|middle|>",
	"<\xef\xbd\x9c" "fim\xe2\x96\x81" "begin\xef\xbd\x9c>",
	"<\xef\xbd\x9c" "fim\xe2\x96\x81hole\xef\xbd\x9c>", "<\xef\xbd\x9c" "fim\xe2\x96\x81"
	"end\xef\xbd\x9c>" };

static int32_t find_text(const struct load *l, const char *s)
{
	return map_find(&l->by_text, s, strlen(s));
}

static void mark_ends(struct load *l)
{
	struct tok *t = l->t;
	int32_t id, end, call, flush;
	size_t i;

	for (i = 0; i < sizeof ends / sizeof *ends; i++) {
		id = find_text(l, ends[i].text);
		if (id < 0 || (ends[i].plain && l->has_types && t->type[id] == TOK_NORMAL))
			continue;
		t->end[id] = 1;
		/* Converters have left such tokens normal or user-defined: the first would never be
		 * recognised, the second in anybody's text. */
		if (t->type[id] == TOK_NORMAL || t->type[id] == TOK_USER)
			t->type[id] = TOK_CONTROL;
	}
	for (i = 0; i < sizeof controls / sizeof *controls; i++) {
		id = find_text(l, controls[i]);
		if (id >= 0 && t->type[id] == TOK_USER)
			t->type[id] = TOK_CONTROL;
	}
	/* In these two families <|end|> ends one message of several. */
	end = find_text(l, "<|end|>");
	call = find_text(l, "<|call|>") >= 0 ? find_text(l, "<|call|>") : find_text(l, "<|calls|>");
	flush = find_text(l, "<|flush|>");
	if (end >= 0 && call >= 0 && (find_text(l, "<|return|>") >= 0 || flush >= 0))
		t->end[end] = 0;
	/* Gemma 4 has "</s>" as text. */
	end = find_text(l, "</s>");
	if (end >= 0 && find_text(l, "<|tool_response>") >= 0) {
		t->end[end] = 0;
		t->type[end] = TOK_NORMAL;
	}
	if (t->eos >= 0)
		t->end[t->eos] = 1;
	if (t->eot >= 0)
		t->end[t->eot] = 1;
	if (t->eom >= 0)
		t->end[t->eom] = 1;
}

/* s has a word, in any case. */
static int has_word(struct gguf_str s, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= s.n; i++)
		if (!strncasecmp(s.s + i, word, n))
			return 1;
	return 0;
}

/* White space that the model was never shown beside a special token. Files do not say it, so it
 * goes by the model's name and architecture, as in llama.cpp. */
static void mark_strips(struct load *l)
{
	struct tok *t = l->t;
	struct gguf_str name = { "", 0 }, arch = { "", 0 }, pre = { "", 0 };
	struct moe_err e;
	int32_t id;

	(void)gguf_get_str(l->g, "general.name", &name, &e);
	(void)gguf_get_str(l->g, "general.architecture", &arch, &e);
	(void)gguf_get_str(l->g, "tokenizer.ggml.pre", &pre, &e);
	if (has_word(pre, "jina-v2-") || has_word(arch, "nomic-bert-moe") ||
	    has_word(arch, "jina-bert-v3")) {
		id = find_text(l, "<mask>");
		if (id >= 0)
			t->strip[id] = TOK_STRIP_BEFORE;
	} else if (has_word(name, "phi-3") || has_word(name, "phi3")) {
		for (size_t i = 0; i < t->n_vocab; i++)
			if (t->type[i] == TOK_CONTROL || t->type[i] == TOK_USER || t->type[i] == TOK_UNKNOWN)
				t->strip[i] = TOK_STRIP_AFTER;
		for (size_t i = 0; i < 3; i++) {
			id = find_text(l, i == 0 ? "<unk>" : i == 1 ? "<s>" : "<|endoftext|>");
			if (id >= 0)
				t->strip[id] = 0;
		}
	}
}

struct by_length { size_t n; int32_t id; };

static int longer_first(const void *a, const void *b)
{
	const struct by_length *x = a, *y = b;

	if (x->n != y->n)
		return x->n > y->n ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

static int list_specials(struct load *l)
{
	struct tok *t = l->t;
	struct by_length *list = calloc(t->n_vocab, sizeof *list);
	size_t i, n = 0;

	if (!list)
		return err_nomem(l->e, t->n_vocab * sizeof *list, "special tokens");
	for (i = 0; i < t->n_vocab; i++)
		if ((t->type[i] == TOK_CONTROL || t->type[i] == TOK_USER || t->type[i] == TOK_UNKNOWN) &&
		    l->text[i].n)
			list[n++] = (struct by_length){ l->text[i].n, (int32_t)i };
	qsort(list, n, sizeof *list, longer_first);
	t->special = calloc(n + 1, sizeof *t->special);
	for (i = 0; t->special && i < n; i++)
		t->special[i] = list[i].id;
	t->n_special = n;
	free(list);
	return t->special ? 0 : err_nomem(l->e, n * sizeof *t->special, "special tokens");
}

int load_specials(struct load *l)
{
	struct tok *t = l->t;

	if (load_id(l, "tokenizer.ggml.bos_token_id", l->kind->bos, &t->bos) ||
	    load_id(l, "tokenizer.ggml.eos_token_id", l->kind->eos, &t->eos) ||
	    load_id(l, "tokenizer.ggml.eot_token_id", -1, &t->eot) ||
	    load_id(l, "tokenizer.ggml.eom_token_id", -1, &t->eom) ||
	    load_id(l, "tokenizer.ggml.unknown_token_id", l->kind->unk, &t->unk))
		return -1;
	t->add_bos = t->row ? (t->row->flags & PRE_BOS) != 0 : l->kind->add_bos;
	t->add_eos = l->kind->add_eos;
	t->space_prefix = l->kind->prefix;
	if (gguf_get_bool(l->g, "tokenizer.ggml.add_bos_token", &t->add_bos, l->e) < 0 ||
	    gguf_get_bool(l->g, "tokenizer.ggml.add_eos_token", &t->add_eos, l->e) < 0 ||
	    gguf_get_bool(l->g, "tokenizer.ggml.add_space_prefix", &t->space_prefix, l->e) < 0)
		return -1;
	if (t->row && (t->row->flags & PRE_CHARS))
		t->space_prefix = 0;
	if (t->row && (t->row->flags & PRE_LINES)) /* Gemma 4: files have said no by mistake */
		t->add_bos = 1;
	mark_ends(l);
	mark_strips(l);
	return list_specials(l);
}
