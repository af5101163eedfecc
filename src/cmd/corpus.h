/*
 * corpus.h - the documents that `profile` reads: folders, files, JSONL, or the embedded texts.
 *
 * A folder's subfolders are domains, their regular files documents; a file given by itself is one
 * document of the domain of its base name without extension, except FILE.jsonl: a line is
 * {"domain": ..., "text": ..., "name": ... (optional)}. A line of exactly <|endoftext|> in a text
 * file separates documents. Files are read whole; a document may have at most 64 MiB.
 */
#ifndef CMD_CORPUS_H
#define CMD_CORPUS_H

#include <stddef.h>

#include <moescope/err.h>

struct doc {
	char *domain, *name; /* owned */
	char *text;          /* owned, [len] */
	size_t len;
};

struct corpus { struct doc *doc; size_t n, cap; };

/* paths [n]; n = 0 takes the embedded texts. Documents come with the domains taking turns, those of
 * one domain in the order of their paths. */
int corpus_read(struct corpus *c, char **paths, int n, struct moe_err *e);
void corpus_free(struct corpus *c);

#endif
