/*
 * chat.h - how a model family writes a conversation as one text.
 *
 * A GGUF carries its template as a program (tokenizer.chat_template, Jinja). It is never executed:
 * the families that people use are rows of a table here, recognised by what their template
 * contains, as llama.cpp does, or chosen by name. A template that no row knows is refused.
 *
 * What people and models say is kept apart from the template's own text, so that a message cannot
 * forge a turn: encode with tok_encode_around(t, text->s, text->n, text->outside, ...).
 */
#ifndef TOK_CHAT_H
#define TOK_CHAT_H

#include <stddef.h>

#include <moescope/err.h>

#include "tok/tok.h"

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT };

struct chat_message { enum chat_role role; const char *s; size_t n; };

struct chat_row;

const struct chat_row *chat_find(const char *name);
/* By the template's text; NULL = no row knows it. */
const struct chat_row *chat_detect(const char *tmpl, size_t n);
const char *chat_name(const struct chat_row *row);
/* The i-th row, for lists; NULL after the last. */
const struct chat_row *chat_row_at(size_t i);

struct chat_text {
	char *s;                  /* [n] */
	size_t n;
	struct tok_span *outside; /* [n_outside] what the messages said */
	size_t n_outside;
	size_t after_reply;       /* where the last reply ends, 0 = there is none: what a model that has
	                             seen all up to its own reply must still be fed starts here */
};

/* The conversation as the family writes it; ask = with what makes the model reply. Fails only for
 * memory. Free with chat_text_free. */
int chat_render(const struct chat_row *row, const struct chat_message *m, size_t n, int ask,
	struct chat_text *out, struct moe_err *e);
void chat_text_free(struct chat_text *t);

#endif
