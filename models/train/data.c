/* data.c - see data.h. */
#define _GNU_SOURCE
#include "data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

static const char *const names[DATA_DOMAINS] = {
	"english", "c", "python", "medical", "legal", "legal_fr", "finance", "math",
	"german", "french", "spanish", "russian", "japanese",
};

/* Reads a whole stream; every id must be below the vocabulary. */
static uint16_t *read_stream(const char *dir, const char *name, const char *split, size_t *size)
{
	char path[1024];
	snprintf(path, sizeof path, "%s/%s.%s.u16", dir, name, split);
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		return NULL;
	}
	uint16_t *s = NULL;
	long bytes = -1;
	if (!fseek(f, 0, SEEK_END) && (bytes = ftell(f)) >= 2 && !fseek(f, 0, SEEK_SET))
		s = malloc((size_t)bytes);
	*size = s ? fread(s, 2, (size_t)bytes / 2, f) : 0;
	fclose(f);
	for (size_t i = 0; i < *size; i++)
		if (s[i] >= DATA_VOCAB) {
			fprintf(stderr, "%s: id %u at %zu, vocabulary %d\n", path, s[i], i,
				DATA_VOCAB);
			*size = 0;
		}
	if (!*size) {
		fprintf(stderr, "%s: nothing usable in it\n", path);
		free(s);
		return NULL;
	}
	return s;
}

static int read_tokens(struct data *d, const char *dir)
{
	char path[1024], line[1024];
	snprintf(path, sizeof path, "%s/tokens.txt", dir);
	FILE *f = fopen(path, "r");
	if (!f) {
		perror(path);
		return -1;
	}
	int id = 0;
	for (; id < DATA_VOCAB && fgets(line, sizeof line, f); id++) {
		line[strcspn(line, "\n")] = 0;
		size_t chars = 0;
		for (const char *p = line; *p; p++)
			chars += (*p & 0xc0) != 0x80;
		d->bytes[id] = (uint8_t)(id < DATA_SPECIALS ? chars : 0);
		d->text[id] = strdup(line);
		if (!d->text[id] || chars > 255)
			break;
	}
	fclose(f);
	if (id != DATA_VOCAB) {
		fprintf(stderr, "%s: %d usable lines, expected %d\n", path, id, DATA_VOCAB);
		return -1;
	}
	return 0;
}

int data_open(struct data *d, const char *dir, double alpha)
{
	memset(d, 0, sizeof *d);
	double sum = 0;
	for (int i = 0; i < DATA_DOMAINS; i++) {
		struct data_domain *m = &d->domain[i];
		m->name = names[i];
		m->train = read_stream(dir, names[i], "train", &m->train_size);
		m->held = read_stream(dir, names[i], "held", &m->held_size);
		if (!m->train || !m->held)
			goto fail;
		m->weight = pow((double)m->train_size, alpha);
		sum += m->weight;
	}
	for (int i = 0; i < DATA_DOMAINS; i++)
		d->domain[i].weight /= sum;
	if (!read_tokens(d, dir))
		return 0;
fail:
	data_close(d);
	return -1;
}

void data_close(struct data *d)
{
	for (int i = 0; i < DATA_DOMAINS; i++) {
		free(d->domain[i].train);
		free(d->domain[i].held);
	}
	for (int i = 0; i < DATA_VOCAB; i++)
		free(d->text[i]);
	memset(d, 0, sizeof *d);
}

void data_window(const uint16_t *s, size_t at, size_t len, uint16_t *in, uint16_t *target,
		 uint16_t *seg)
{
	uint16_t first = 0;
	for (size_t t = 0; t < len; t++) {
		in[t] = s[at + t];
		target[t] = s[at + t + 1];
		if (in[t] == DATA_EOT)
			first = (uint16_t)t;
		seg[t] = first;
	}
}

void data_batch(const struct data *d, uint64_t *rng, size_t seqs, size_t len, uint16_t *in,
		uint16_t *target, uint16_t *seg)
{
	for (size_t b = 0; b < seqs; b++) {
		double u = rng_unit(rng);
		int i = 0;
		while (i < DATA_DOMAINS - 1 && u >= d->domain[i].weight)
			u -= d->domain[i++].weight;
		const struct data_domain *m = &d->domain[i];
		size_t room = m->train_size - len;
		size_t at = (size_t)(rng_unit(rng) * (double)room);
		data_window(m->train, at, len, in + b * len, target + b * len, seg + b * len);
	}
}

size_t data_spell(const struct data *d, uint16_t id, char *out)
{
	/* GPT-2: bytes 33-126, 161-172, 174-255 stand for themselves as code points, the others
	 * for 256, 257, ... in ascending order */
	static int byte_of[512], ready;
	if (!ready) {
		int next = 256;
		for (int b = 0; b < 256; b++) {
			int plain = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
			byte_of[plain ? b : next++] = b;
		}
		ready = 1;
	}
	size_t n = 0;
	if (id >= DATA_SPECIALS)
		return 0;
	for (const unsigned char *p = (const unsigned char *)d->text[id]; *p; p++) {
		int c = *p;
		if (c >= 0xc0)
			c = (c & 0x1f) << 6 | (*++p & 0x3f);
		out[n++] = (char)byte_of[c & 511];
	}
	return n;
}
