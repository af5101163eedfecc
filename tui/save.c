/*
 * save.c - the view as a file: the screen as text or as a picture, or its figures as CSV. A new
 * file each time, in the working folder; nothing that exists is ever written over.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "tui/panel.h"
#include "tui/picture.h"

#define NUMBERS 10000

/* Opens the first free name; NULL with errno. */
static FILE *open_new(const char *screen, const char *ending, char *name, size_t size)
{
	char word[32];
	size_t n = 0;

	for (; screen[n] && n + 1 < sizeof word; n++)
		word[n] = (char)tolower((unsigned char)screen[n]);
	word[n] = 0;
	for (int i = 1; i < NUMBERS; i++) {
		int fd;
		FILE *f;

		snprintf(name, size, "moescope-%s-%d.%s", word, i, ending);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd < 0 && errno == EEXIST)
			continue;
		f = fd < 0 ? NULL : fdopen(fd, "w");
		if (fd >= 0 && !f)
			close(fd);
		return f;
	}
	errno = EEXIST;
	return NULL;
}

static int write_text(const struct tui_grid *g, FILE *f)
{
	struct buf b;
	int bad;

	buf_init(&b, (size_t)TUI_MAX_W * TUI_MAX_H * 8);
	tui_grid_dump(g, &b);
	bad = b.failed || fwrite(b.data, 1, b.len, f) != b.len;
	buf_free(&b);
	return bad ? -1 : 0;
}

int tui_save(struct tui_ctx *c, int kind, char *note, size_t size)
{
	const struct tui_panel *p = tui_panels[c->s->screen];
	struct view_table t = { 0 };
	struct moe_err e = { 0 };
	char name[64];
	int bad, csv = kind == 'S', png = kind == 'P';
	FILE *f;

	if (csv && (!c->d || !p->table)) {
		snprintf(note, size, "this screen has no table: s saves it as text");
		return -1;
	}
	if (csv && p->table(c, c->s->mem[c->s->screen], &t, &e)) {
		view_table_free(&t);
		snprintf(note, size, "nothing to save: %.200s", e.msg);
		return -1;
	}
	if (png && !tui_picture_can(&e)) {
		snprintf(note, size, "%.250s", e.msg);
		return -1;
	}
	f = open_new(p->name, csv ? "csv" : png ? "png" : "txt", name, sizeof name);
	if (!f) {
		snprintf(note, size, "could not save: %s", strerror(errno));
		view_table_free(&t);
		return -1;
	}
	bad = csv ? view_table_print(&t, VIEW_CSV, f, &e) : png ? tui_picture(c->g,
		(enum tui_palette)c->s->palette, c->s->light, f, &e) : write_text(c->g, f);
	bad |= fclose(f) != 0;
	view_table_free(&t);
	if (bad)
		snprintf(note, size, "could not write %s: %s", name, e.msg[0] ? e.msg : strerror(errno));
	else
		snprintf(note, size, "saved %s", name);
	return bad ? -1 : 0;
}
