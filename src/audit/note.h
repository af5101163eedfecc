/*
 * note.h - signed notes and checkpoints, as the C2SP specifications signed-note and tlog-checkpoint
 * write them; Ed25519 by libsodium.
 *
 * A note is a text, an empty line, and lines "— NAME BASE64(hash[4] || signature[64])". The key's
 * hash is the beginning of SHA-256(NAME || "\n" || 0x01 || key[32]). A verifier's key is written
 * NAME+HEX(hash)+BASE64(0x01 || key), a signer's PRIVATE+KEY+NAME+HEX(hash)+BASE64(0x01 || seed).
 *
 * A checkpoint is a note whose text is the log's origin, its size, its root in base64 and here one
 * extension line "epoch N", which binds the signature to the N-th key of the log.
 */
#ifndef AUDIT_NOTE_H
#define AUDIT_NOTE_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#include "audit/sha.h"
#include "base/buf.h"

#define NOTE_NAME_MAX 127
#define NOTE_MAX 65536 /* bytes of a note that are read */
#define NOTE_KEY_TEXT 256

struct note_key {
	char name[NOTE_NAME_MAX + 1]; /* no space, no plus */
	unsigned char hash[4], pub[32];
};

struct note_secret {
	struct note_key key;
	unsigned char secret[64]; /* libsodium's: seed and public key */
};

/* Is it a possible name? */
int note_name_ok(const char *name);

/* "NAME+hash+key", blanks around it ignored. */
int note_key_read(struct note_key *k, const char *text, size_t n, struct moe_err *e);
void note_key_text(const struct note_key *k, char out[NOTE_KEY_TEXT]);
void note_key_of(struct note_key *k, const char *name, const unsigned char pub[32]);

/* Reads a key file's one line. */
int note_key_load(struct note_key *k, const char *path, struct moe_err *e);

void note_secret_of(struct note_secret *s, const char *name, const unsigned char seed[32]);
/* A fresh key into a new file of mode 0600; an existing file is refused. */
int note_secret_create(struct note_secret *s, const char *name, const char *path,
	struct moe_err *e);
/* Refuses a file that others may read. */
int note_secret_load(struct note_secret *s, const char *path, struct moe_err *e);
void note_secret_forget(struct note_secret *s);

/* Append text, an empty line and a signature line to out. text ends with a line end. */
void note_sign(const struct note_secret *s, const char *text, size_t n, struct buf *out);

/* Whose signature does the note at p bear? The index of the first of keys[n_key] that signed it, -1
 * with e filled in when none did or one of them signed something else. *text: its length, *used:
 * the note's length, so that notes may follow one another. */
int note_open(const char *p, size_t n, const struct note_key *keys, size_t n_key, size_t *text,
	size_t *used, struct moe_err *e);

/* The beginning of a note: where its text ends and where the next note begins; no key is needed. */
int note_shape(const char *p, size_t n, size_t *text, size_t *used, struct moe_err *e);

struct checkpoint {
	char origin[NOTE_NAME_MAX + 1];
	uint64_t size, epoch;
	unsigned char root[SHA_BYTES];
};

void checkpoint_text(const struct checkpoint *c, struct buf *out);
int checkpoint_read(struct checkpoint *c, const char *text, size_t n, struct moe_err *e);

/* Base64 with padding, strict; returns the bytes decoded or -1. */
int base64_read(const char *s, size_t n, unsigned char *out, size_t max);
void base64_add(struct buf *b, const void *p, size_t n);

#endif
