/* ckpt.c - see ckpt.h. */
#define _GNU_SOURCE
#include "ckpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct header {
	char magic[8];
	uint32_t tensors, has_moments;
	struct net_config cfg;
	uint32_t pad;
};

struct entry {
	char name[40];
	uint64_t off, count, rows, cols;
};

_Static_assert(sizeof(struct header) == 72, "header layout");
_Static_assert(sizeof(struct ckpt_state) == 64, "state layout");
_Static_assert(sizeof(struct entry) == 72, "entry layout");

int ckpt_write(const char *path, struct net *n, const struct ckpt_state *st, const float *m,
	       const float *v)
{
	char tmp[1024];
	size_t count;
	const struct net_tensor *t = net_tensors(n, &count);
	uint64_t size = net_size(n);
	struct header h = { .magic = "MOECKPT", .tensors = (uint32_t)count,
			    .has_moments = m && v, .cfg = *net_cfg(n) };
	h.magic[7] = '1';
	snprintf(tmp, sizeof tmp, "%s.new", path);
	FILE *f = fopen(tmp, "wb");
	if (!f) {
		perror(tmp);
		return -1;
	}
	int ok = fwrite(&h, sizeof h, 1, f) == 1 && fwrite(st, sizeof *st, 1, f) == 1;
	for (size_t i = 0; ok && i < count; i++) {
		struct entry e = { .off = t[i].off, .count = t[i].count, .rows = t[i].rows,
				   .cols = t[i].cols };
		memcpy(e.name, t[i].name, sizeof e.name);
		ok = fwrite(&e, sizeof e, 1, f) == 1;
	}
	ok = ok && fwrite(&size, sizeof size, 1, f) == 1;
	ok = ok && fwrite(net_weights(n), sizeof(float), size, f) == size;
	if (h.has_moments)
		ok = ok && fwrite(m, sizeof *m, size, f) == size &&
		     fwrite(v, sizeof *v, size, f) == size;
	ok = ok && !fflush(f) && !fsync(fileno(f));
	ok = !fclose(f) && ok;
	if (!ok || rename(tmp, path)) {
		perror(tmp);
		return -1;
	}
	return 0;
}

static FILE *open_header(const char *path, struct header *h, struct ckpt_state *st)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		return NULL;
	}
	if (fread(h, sizeof *h, 1, f) != 1 || memcmp(h->magic, "MOECKPT1", 8) ||
	    fread(st, sizeof *st, 1, f) != 1) {
		fprintf(stderr, "%s: not a checkpoint\n", path);
		fclose(f);
		return NULL;
	}
	return f;
}

int ckpt_peek(const char *path, struct net_config *cfg, struct ckpt_state *st)
{
	struct header h;
	FILE *f = open_header(path, &h, st);
	if (!f)
		return -1;
	*cfg = h.cfg;
	fclose(f);
	return 0;
}

int ckpt_read(const char *path, struct net *n, struct ckpt_state *st, float *m, float *v)
{
	struct header h;
	uint64_t size = 0;
	FILE *f = open_header(path, &h, st);
	if (!f)
		return -1;
	int ok = !memcmp(&h.cfg, net_cfg(n), sizeof h.cfg) &&
		 !fseek(f, (long)(h.tensors * sizeof(struct entry)), SEEK_CUR) &&
		 fread(&size, sizeof size, 1, f) == 1 && size == net_size(n) &&
		 fread(net_weights(n), sizeof(float), size, f) == size;
	if (ok && m && v)
		ok = h.has_moments && fread(m, sizeof *m, size, f) == size &&
		     fread(v, sizeof *v, size, f) == size;
	fclose(f);
	if (!ok) {
		fprintf(stderr, "%s: other shapes, or cut short\n", path);
		return -1;
	}
	return 0;
}
