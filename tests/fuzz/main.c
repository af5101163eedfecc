/*
 * main.c - runs a fuzz target without libFuzzer: seeds, the files named, then seeded mutations of
 * all of them for a while. No coverage feedback; it is a smoke test that needs only a C compiler.
 *
 * usage: fuzz_NAME [-t SECONDS] [-s SEED] [-o FILE] [-w DIR] [FILE...]
 *   -o  write every input to FILE before it runs, so that the last one survives a crash
 *   -w  write the seeds to DIR, as a corpus for libFuzzer, and exit
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "fuzz.h"

#define MAX_SEEDS 256
#define MAX_INPUT (1u << 20)

static struct bytes seed[MAX_SEEDS];
static size_t n_seeds;

static void add_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct bytes *b = &seed[n_seeds];
	char chunk[4096];
	size_t n;

	if (!f || n_seeds == MAX_SEEDS) {
		fprintf(stderr, "fuzz: cannot take %s\n", path);
		exit(4);
	}
	while ((n = fread(chunk, 1, sizeof chunk, f)) > 0 && b->n < MAX_INPUT)
		put(b, chunk, n);
	fclose(f);
	n_seeds++;
}

/* A number that tends to break sizes. */
static uint64_t nasty(struct rng *r)
{
	uint64_t v = rng_below(r, 3) ? (uint64_t)1 << rng_below(r, 64) : rng_below(r, 300);

	switch (rng_below(r, 4)) {
	case 0: return v - 1;
	case 1: return v + 1;
	case 2: return ~v;
	default: return v;
	}
}

static void mutate(struct rng *r, struct bytes *b)
{
	size_t at = rng_below(r, b->n + 1), k;
	uint64_t v = nasty(r);

	switch (rng_below(r, 6)) {
	case 0: /* one bit */
		if (at < b->n)
			b->p[at] ^= (uint8_t)(1 << rng_below(r, 8));
		break;
	case 1: /* a number */
		k = (size_t)1 << rng_below(r, 4);
		if (at + k <= b->n)
			memcpy(b->p + at, &v, k);
		break;
	case 2: /* cut the end off */
		if (!rng_below(r, 4))
			b->n = at;
		break;
	case 3: /* take some bytes out */
		k = rng_below(r, 24);
		if (at + k <= b->n) {
			memmove(b->p + at, b->p + at + k, b->n - at - k);
			b->n -= k;
		}
		break;
	case 4: /* repeat some bytes elsewhere */
		k = rng_below(r, 24);
		if (k && at + k <= b->n) {
			size_t to = rng_below(r, b->n - k + 1);

			memmove(b->p + to, b->p + at, k);
		}
		break;
	default: /* insert */
		k = rng_below(r, 24);
		if (b->n + k < MAX_INPUT && at <= b->n) {
			for (size_t i = 0; i < k; i++)
				put(b, "\0\xff" "a <\xe2\x80\n" + rng_below(r, 8), 1);
			memmove(b->p + at + k, b->p + at, b->n - k - at);
		}
		break;
	}
}

static void run(const struct bytes *b, const char *save)
{
	/* Exactly its size, so that a sanitizer sees one byte too many. */
	uint8_t *copy = malloc(b->n ? b->n : 1);
	FILE *f = save ? fopen(save, "wb") : NULL;

	if (!copy)
		exit(4);
	if (b->n)
		memcpy(copy, b->p, b->n);
	if (f) {
		fwrite(copy, 1, b->n, f);
		fclose(f);
	}
	LLVMFuzzerTestOneInput(copy, b->n);
	free(copy);
}

static void write_seeds(const char *dir)
{
	char path[4096];

	for (size_t i = 0; i < n_seeds; i++) {
		FILE *f;

		snprintf(path, sizeof path, "%s/seed-%zu", dir, i);
		f = fopen(path, "wb");
		if (!f || fwrite(seed[i].p, 1, seed[i].n, f) != seed[i].n || fclose(f))
			exit(4);
	}
}

int main(int argc, char **argv)
{
	double seconds = 1;
	uint64_t number = 1;
	const char *save = NULL, *dir = NULL;
	struct bytes b = { 0 };
	struct rng r;
	unsigned long long runs = 0;
	int64_t end;
	int c;

	while ((c = getopt(argc, argv, "t:s:o:w:")) != -1)
		switch (c) {
		case 't': seconds = atof(optarg); break;
		case 's': number = strtoull(optarg, NULL, 10); break;
		case 'o': save = optarg; break;
		case 'w': dir = optarg; break;
		default: return 2;
		}
	while (n_seeds < MAX_SEEDS && fuzz_seed((unsigned)n_seeds, &seed[n_seeds]))
		n_seeds++;
	if (dir) {
		write_seeds(dir);
		return 0;
	}
	for (; optind < argc; optind++)
		add_file(argv[optind]);
	for (size_t i = 0; i < n_seeds; i++, runs++)
		run(&seed[i], save);
	rng_seed(&r, number);
	end = clock_mono() + (int64_t)(seconds * 1e9);
	while (clock_mono() < end) {
		const struct bytes *from = &seed[rng_below(&r, n_seeds)];

		b.n = 0;
		put(&b, from->p, from->n);
		for (uint64_t i = 1 + rng_below(&r, 6); i; i--)
			mutate(&r, &b);
		run(&b, save);
		runs++;
	}
	printf("%llu inputs from %zu seeds, seed number %llu\n", runs, n_seeds,
		(unsigned long long)number);
	for (size_t i = 0; i < n_seeds; i++)
		free(seed[i].p);
	free(b.p);
	return 0;
}
