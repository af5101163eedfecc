/*
 * save.c - putting a report in place: all of it or nothing, and never over a database.
 *
 * What is there is looked at before the work and again before the rename; between that look and
 * the rename somebody else could still move a database there, which no check can exclude.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "reports/report.h"

static const char sqlite_magic[16] = "SQLite format 3";

int report_may_write(const char *path, struct moe_err *e)
{
	char head[16] = { 0 };
	struct stat st;
	ssize_t n;
	int fd;

	if (!*path)
		return err_set(e, MOE_ERR_USAGE, "the name of the report is empty");
	if (stat(path, &st)) {
		if (errno == ENOENT)
			return 0;
		return err_errno(e, "%s", path);
	}
	if (S_ISDIR(st.st_mode))
		return err_set(e, MOE_ERR_USAGE, "%s is a directory; name a file in it", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, MOE_ERR_USAGE, "%s is not a regular file; `-o -` writes to standard "
		"output",
			path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "looking at what %s holds", path);
	n = read(fd, head, sizeof head);
	close(fd);
	if (n == (ssize_t)sizeof head && !memcmp(head, sqlite_magic, sizeof head))
		return err_set(e, MOE_ERR_USAGE, "%s is a database and is not overwritten", path);
	return 0;
}

static int write_all(int fd, const char *p, size_t n)
{
	ssize_t w;

	while (n) {
		w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -1;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

int report_save(const char *path, const struct buf *b, struct moe_err *e)
{
	mode_t mask = umask(0);
	char *temp = NULL;
	size_t size = strlen(path) + 16;
	int fd = -1, rc = -1;

	umask(mask);
	if (report_may_write(path, e))
		return -1;
	temp = malloc(size);
	if (!temp)
		return err_nomem(e, size, "a file name");
	snprintf(temp, size, "%s.tmp-XXXXXX", path);
	fd = mkstemp(temp);
	if (fd < 0) {
		err_errno(e, "writing %s", path);
		goto out;
	}
	if (write_all(fd, b->data, b->len) || fchmod(fd, 0666 & ~mask) || fsync(fd)) {
		err_errno(e, "writing %zu bytes to %s", b->len, path);
		goto out;
	}
	if (report_may_write(path, e))
		goto out;
	if (rename(temp, path)) {
		err_errno(e, "putting %s in place", path);
		goto out;
	}
	rc = 0;
out:
	if (fd >= 0) {
		close(fd);
		if (rc)
			unlink(temp);
	}
	free(temp);
	return rc;
}
