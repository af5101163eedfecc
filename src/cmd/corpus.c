/* corpus.c - see corpus.h. Symbolic links inside a folder are not followed; hidden files are left
 * out. */
#include "cmd/corpus.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/load.h"

#define MAX_FILE ((size_t)1 << 30)
#define MAX_DOC ((size_t)64 << 20)
#define SEPARATOR "<|endoftext|>"

static char *copy(const char *s, size_t n)
{
	char *p = malloc(n + 1);

	if (p) {
		memcpy(p, s, n);
		p[n] = 0;
	}
	return p;
}

static int add_doc(struct corpus *c, const char *domain, const char *name, const char *text,
	size_t len, struct moe_err *e)
{
	struct doc *d;

	if (len > MAX_DOC)
		return err_set(e, MOE_ERR_INPUT, "document %s has %zu bytes: at most %zu are read", name,
			len, MAX_DOC);
	if (c->n == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 64;
		struct doc *p = realloc(c->doc, cap * sizeof *p);

		if (!p)
			return err_nomem(e, cap * sizeof *p, "corpus");
		c->doc = p;
		c->cap = cap;
	}
	d = &c->doc[c->n++];
	d->domain = copy(domain, strlen(domain));
	d->name = copy(name, strlen(name));
	d->text = copy(text, len);
	d->len = len;
	if (!d->domain || !d->name || !d->text)
		return err_nomem(e, len, "corpus");
	return 0;
}

/* The end of the document that starts at p: a separator line, or the end. *next: what follows. */
static const char *doc_end(const char *p, const char *end, const char **next)
{
	const size_t n = sizeof SEPARATOR - 1;

	for (const char *line = p; line < end;) {
		const char *nl = memchr(line, '\n', (size_t)(end - line));
		size_t len = (size_t)((nl ? nl : end) - line);

		*next = nl ? nl + 1 : end;
		if (len == n && !memcmp(line, SEPARATOR, n))
			return line;
		line = *next;
	}
	*next = end;
	return end;
}

static int add_text(struct corpus *c, const char *domain, const char *name, const char *text,
	size_t len, struct moe_err *e)
{
	const char *end = text + len, *p = text, *next = text;
	char label[512];

	for (int i = 1; p < end; i++, p = next) {
		const char *stop = doc_end(p, end, &next);

		if (stop == p)
			continue;
		if (i == 1 && next == end)
			snprintf(label, sizeof label, "%s", name);
		else
			snprintf(label, sizeof label, "%s#%d", name, i);
		if (add_doc(c, domain, label, p, (size_t)(stop - p), e))
			return -1;
	}
	return 0;
}

static char *read_whole(const char *path, size_t *len, struct moe_err *e)
{
	struct stat st;
	/* O_NONBLOCK: opening a FIFO must not wait for its writer */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "rb");
	char *p = NULL;

	if (!f) {
		err_errno(e, "opening %s", path);
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		err_set(e, MOE_ERR_INPUT, "%s is not a regular file", path);
	} else if ((size_t)st.st_size > MAX_FILE) {
		err_set(e, MOE_ERR_INPUT, "%s has %lld bytes: at most %zu are read", path,
			(long long)st.st_size, MAX_FILE);
	} else if (!(p = malloc((size_t)st.st_size + 1))) {
		err_nomem(e, (unsigned long long)st.st_size, path);
	} else {
		*len = fread(p, 1, (size_t)st.st_size, f);
		p[*len] = 0;
		if (ferror(f)) {
			err_errno(e, "reading %s", path);
			free(p);
			p = NULL;
		}
	}
	fclose(f);
	return p;
}

/* "dir/medical.txt" -> "medical" */
static void base_name(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');
	char *dot;

	snprintf(out, size, "%s", slash ? slash + 1 : path);
	dot = strrchr(out, '.');
	if (dot && dot != out)
		*dot = 0;
}

/* cJSON does not tell a lack of memory from a line that is no JSON. */
static int json_no_memory;

static void *json_malloc(size_t n)
{
	void *p = malloc(n);

	json_no_memory |= !p;
	return p;
}

static int add_json_line(struct corpus *c, const char *path, size_t no, const char *line,
	size_t len, struct moe_err *e)
{
	const char *end = line;
	cJSON *j = cJSON_ParseWithLengthOpts(line, len, &end, 0), *d, *t, *n;
	char label[512];
	int failed;

	while (end < line + len && strchr(" \t\r", *end))
		end++;
	d = cJSON_GetObjectItemCaseSensitive(j, "domain");
	t = cJSON_GetObjectItemCaseSensitive(j, "text");
	n = cJSON_GetObjectItemCaseSensitive(j, "name");
	if (end != line + len || !cJSON_IsString(d) || !cJSON_IsString(t) ||
	    (n && !cJSON_IsString(n))) {
		cJSON_Delete(j);
		if (json_no_memory)
			return err_nomem(e, len, path);
		return err_set(e, MOE_ERR_INPUT, "%s line %zu: expected {\"domain\": \"...\", \"text\": "
			"\"...\"}", path, no);
	}
	snprintf(label, sizeof label, "%s:%zu", path, no);
	failed = add_doc(c, d->valuestring, n ? n->valuestring : label, t->valuestring,
		strlen(t->valuestring), e);
	cJSON_Delete(j);
	return failed;
}

static int add_jsonl(struct corpus *c, const char *path, const char *text, size_t len,
	struct moe_err *e)
{
	const char *end = text + len;
	size_t no = 1;
	cJSON_Hooks hooks = { json_malloc, free };

	cJSON_InitHooks(&hooks);

	for (const char *p = text; p < end; no++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;

		p += strspn(p, " \t\r"); /* ends at the NUL behind the text at the latest */
		if (stop > p && add_json_line(c, path, no, p, (size_t)(stop - p), e))
			return -1;
		p = nl ? nl + 1 : end;
	}
	return 0;
}

static int add_file(struct corpus *c, const char *path, const char *domain, struct moe_err *e)
{
	size_t n = strlen(path), len;
	char base[256], *text = read_whole(path, &len, e);
	int failed;

	if (!text)
		return -1;
	if (n > 6 && !strcmp(path + n - 6, ".jsonl")) {
		failed = add_jsonl(c, path, text, len, e);
	} else {
		base_name(path, base, sizeof base);
		failed = add_text(c, domain ? domain : base, path, text, len, e);
	}
	free(text);
	return failed;
}

static int visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static int add_folder(struct corpus *c, const char *path, const char *domain, struct moe_err *e)
{
	struct dirent **list;
	int n = scandir(path, &list, visible, alphasort), failed = 0;

	if (n < 0)
		return err_errno(e, "reading folder %s", path);
	for (int i = 0; i < n; i++) {
		char sub[4096];
		struct stat st;

		if (!failed && snprintf(sub, sizeof sub, "%s/%s", path, list[i]->d_name) >= (int)sizeof sub)
			failed = err_set(e, MOE_ERR_INPUT, "%s: the path of %s in it is longer than %zu bytes",
				path, list[i]->d_name, sizeof sub - 1);
		else if (!failed && lstat(sub, &st))
			failed = err_errno(e, "opening %s", sub);
		else if (!failed && S_ISREG(st.st_mode))
			failed = add_file(c, sub, domain, e);
		else if (!failed && S_ISDIR(st.st_mode))
			failed = add_folder(c, sub, domain ? domain : list[i]->d_name, e);
		free(list[i]);
	}
	free(list);
	return failed;
}

struct place { size_t rank, index; struct doc doc; };

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* Domains take turns: first documents of all, second documents of all, ... so that a run is
 * representative from its first seconds, and stays so if it is cut short. */
static int interleave(struct corpus *c, struct moe_err *e)
{
	struct place *p = calloc(c->n, sizeof *p);
	struct { const char *name; size_t n; } *dom = calloc(c->n, sizeof *dom);
	size_t n_dom = 0, d;

	if (!p || !dom) {
		free(p);
		free(dom);
		return err_nomem(e, c->n * sizeof *p, "corpus");
	}
	for (size_t i = 0, last = 0; i < c->n; i++) { /* neighbours mostly share their domain */
		for (d = 0; d < n_dom; d++)
			if (!strcmp(dom[(last + d) % n_dom].name, c->doc[i].domain))
				break;
		last = d < n_dom ? (last + d) % n_dom : n_dom;
		if (d == n_dom)
			dom[n_dom++].name = c->doc[i].domain;
		p[i] = (struct place){ dom[last].n++, i, c->doc[i] };
	}
	qsort(p, c->n, sizeof *p, by_place);
	for (size_t i = 0; i < c->n; i++)
		c->doc[i] = p[i].doc;
	free(p);
	free(dom);
	return 0;
}

int corpus_read(struct corpus *c, char **paths, int n, struct moe_err *e)
{
	struct stat st;

	memset(c, 0, sizeof *c);
	for (const struct embedded *t = embed_texts; !n && t->name; t++)
		if (add_text(c, t->name, t->name, (const char *)t->data, (size_t)(t->end - t->data), e))
			goto fail;
	for (int i = 0; i < n; i++) {
		if (stat(paths[i], &st)) {
			int missing = errno == ENOENT || errno == ENOTDIR;

			err_errno(e, "opening %s", paths[i]);
			if (missing)
				e->code = MOE_ERR_INPUT;
			goto fail;
		}
		if (S_ISDIR(st.st_mode) ? add_folder(c, paths[i], NULL, e) : add_file(c, paths[i], NULL, e))
			goto fail;
	}
	if (c->n && !interleave(c, e))
		return 0;
	if (!c->n)
		err_set(e, MOE_ERR_INPUT, "the corpus has no documents");
fail:
	corpus_free(c);
	return -1;
}

void corpus_free(struct corpus *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->doc[i].domain);
		free(c->doc[i].name);
		free(c->doc[i].text);
	}
	free(c->doc);
	memset(c, 0, sizeof *c);
}
