/* rapl.c - see rapl.h. Files are opened anew for every look: nothing stays open,
 * nothing can go stale. */
#include "base/rapl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* The first line of ROOT/DIR/FILE. */
static int read_line(const struct rapl *r, const char *dir, const char *file, char *out,
size_t size,
	struct moe_err *e)
{
	char path[400];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s/%s", r->root, dir, file);
	f = fopen(path, "re");
	if (!f)
		return err_errno(e, "%s", path);
	if (!fgets(out, (int)size, f)) {
		fclose(f);
		return err_set(e, MOE_ERR_SYS, "%s: nothing in it to read", path);
	}
	fclose(f);
	out[strcspn(out, "\n")] = 0;
	return 0;
}

static int read_number(const struct rapl *r, const char *dir, const char *file, uint64_t *out,
	struct moe_err *e)
{
	char line[40], *end;

	if (read_line(r, dir, file, line, sizeof line, e))
		return -1;
	errno = 0;
	*out = strtoull(line, &end, 10);
	if (errno || end == line || *end || strchr(line, '-'))
		return err_set(e, MOE_ERR_SYS, "%s/%s/%s: '%s' is no counter", r->root, dir, file, line);
	return 0;
}

/* "intel-rapl:N", not a part of it ("intel-rapl:N:M"). */
static int is_zone(const char *name)
{
	static const char head[] = "intel-rapl:";
	size_t n = strlen(head);

	return !strncmp(name, head, n) && name[n] && strlen(name) - n < 8 &&
		strspn(name + n, "0123456789") == strlen(name + n);
}

static int add_zone(struct rapl *r, const char *dir, struct moe_err *e)
{
	struct rapl_zone z = { .range = 0 };

	snprintf(z.dir, sizeof z.dir, "%.23s", dir);
	if (read_line(r, dir, "name", z.name, sizeof z.name, e))
		return -1;
	if (strncmp(z.name, "package", 7))
		return 0;
	if (r->n == RAPL_MOST)
		return err_set(e, MOE_ERR_SYS, "%s has more than %d packages", r->root, RAPL_MOST);
	if (read_number(r, dir, "energy_uj", &z.last, e) ||
	    read_number(r, dir, "max_energy_range_uj", &z.range, e))
		return -1;
	r->zone[r->n++] = z;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const struct rapl_zone *x = a, *y = b;
	int n = atoi(strchr(x->dir, ':') + 1), m = atoi(strchr(y->dir, ':') + 1);

	return (n > m) - (n < m);
}

int rapl_open(struct rapl *r, const char *root, struct moe_err *e)
{
	struct dirent *d;
	int bad = 0;
	DIR *dir;

	memset(r, 0, sizeof *r);
	if (strlen(root) >= sizeof r->root)
		return err_set(e, MOE_ERR_INPUT, "the name of the powercap tree has %zu bytes, %zu are "
			"possible", strlen(root), sizeof r->root - 1);
	snprintf(r->root, sizeof r->root, "%s", root);
	dir = opendir(root);
	if (!dir && errno == ENOENT)
		return err_set(e, MOE_ERR_SYS, "this system has no powercap tree (%s)", root);
	if (!dir)
		return err_errno(e, "%s", root);
	while (!bad && (d = readdir(dir)))
		if (is_zone(d->d_name))
			bad = add_zone(r, d->d_name, e);
	closedir(dir);
	if (bad)
		return -1;
	if (!r->n)
		return err_set(e, MOE_ERR_SYS, "%s has no counter of a processor package", root);
	qsort(r->zone, r->n, sizeof *r->zone, by_number);
	return 0;
}

int rapl_look(struct rapl *r, uint64_t *uj, struct moe_err *e)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < r->n; i++) {
		struct rapl_zone *z = &r->zone[i];
		uint64_t now;

		if (read_number(r, z->dir, "energy_uj", &now, e))
			return -1;
		if (now < z->last && z->last > z->range)
			return err_set(e, MOE_ERR_SYS, "%s/%s: the counter went from %llu to %llu, but it ends "
				"at %llu", r->root, z->dir, (unsigned long long)z->last, (unsigned long long)now,
				(unsigned long long)z->range);
		sum += now < z->last ? z->range - z->last + now : now - z->last; /* it began again */
		z->last = now;
	}
	*uj = sum;
	return 0;
}
