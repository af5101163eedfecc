/* data.h - the tokenised corpus: a folder with NAME.train.u16 and NAME.held.u16 a domain
 * (little-endian token ids, documents separated by <|endoftext|>) and tokens.txt (one token a
 * line in GPT-2's byte spelling, so a token's characters are its bytes).
 */
#ifndef DATA_H
#define DATA_H

#include <stddef.h>
#include <stdint.h>

enum { DATA_DOMAINS = 13, DATA_EOT = 4093, DATA_SPECIALS = 4093, DATA_VOCAB = 4096 };

struct data_domain {
	const char *name;
	uint16_t *train, *held;
	size_t train_size, held_size;
	double weight;			/* share of the training windows */
};

struct data {
	struct data_domain domain[DATA_DOMAINS];
	uint8_t bytes[DATA_VOCAB];	/* of a token; 0 for specials */
	char *text[DATA_VOCAB];		/* UTF-8 line of tokens.txt */
};

/* Loads a folder. A domain's share is its token count to the power `alpha`, normalised: 0 is
 * equal shares, 1 proportional. Returns 0, or -1 with a message on stderr. */
int data_open(struct data *d, const char *dir, double alpha);
void data_close(struct data *d);

/* One window of len inputs and their targets from stream s[0..size) at `at`, and seg (net.h): an
 * <|endoftext|> opens the next document, so its position is the first one that may be seen. */
void data_window(const uint16_t *s, size_t at, size_t len, uint16_t *in, uint16_t *target,
		 uint16_t *seg);

/* Draws `seqs` training windows, domains by their shares, places uniformly. */
void data_batch(const struct data *d, uint64_t *rng, size_t seqs, size_t len, uint16_t *in,
		uint16_t *target, uint16_t *seg);

/* Bytes that a token stands for, to out (at least bytes[id]); returns their number. */
size_t data_spell(const struct data *d, uint16_t id, char *out);

#endif
