/*
 * dbfile.c - see dbfile.h.
 *
 * One writer: an flock() on FILE-lock, a file of its own, held as long as the writer lives; the
 * kernel drops it with the process, so a killed writer leaves no stale lock. The lock is not on the
 * database itself: there SQLite keeps POSIX locks, which any close() of the file in this process
 * would drop. Readers never look at it. A clean close removes the file; whoever locks a file that
 * was removed meanwhile sees that the path no longer leads to its descriptor and tries again.
 */
#include "trace/dbfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "trace/schema.h"

/* ---- what is this file ---- */

static int fail(sqlite3 *db, int rc, const char *path, struct moe_err *e)
{
	int sys = db ? sqlite3_system_errno(db) : 0, kind = rc & 0xff;

	return err_set(e, kind == SQLITE_NOTADB || kind == SQLITE_CORRUPT ? MOE_ERR_INPUT : MOE_ERR_SYS,
		"%s: %s%s%s", path, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc), sys ? ": " : "",
		sys ? strerror(sys) : "");
}

/* 0 = nothing there or an empty file, 1 = a file with bytes, -1 = not a regular file. */
static int look_at_path(const char *path, struct moe_err *e)
{
	struct stat st;

	if (!*path)
		return err_set(e, MOE_ERR_USAGE, "the name of the database is empty");
	if (stat(path, &st)) {
		if (errno == ENOENT)
			return 0;
		return err_errno(e, "%s", path);
	}
	if (S_ISDIR(st.st_mode))
		return err_set(e, MOE_ERR_INPUT, "%s: a directory, not a database", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, MOE_ERR_INPUT, "%s: not a regular file", path);
	return st.st_size > 0;
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The 100 bytes that every SQLite file starts with; takes no lock, changes nothing. */
static int look_at_head(sqlite3 *db, const char *path, struct moe_err *e)
{
	unsigned char h[100] = { 0 };
	sqlite3_file *f = NULL;

	if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f) || !f || !f->pMethods)
		return err_set(e, MOE_ERR_SYS, "%s: SQLite gives no file to look at", path);
	f->pMethods->xRead(f, h, sizeof h, 0); /* a short file reads as zeros */
	if (memcmp(h, "SQLite format 3", 16))
		return err_set(e, MOE_ERR_INPUT,
			"%s: not a SQLite database (starts with %02x %02x %02x %02x %02x %02x)", path, h[0],
			h[1], h[2], h[3], h[4], h[5]);
	if (be32(h + 68) != SCHEMA_APPLICATION_ID)
		return err_set(e, MOE_ERR_INPUT,
			"%s: a SQLite database, but not of moescope (application_id 0x%08x, expected 0x%08x)",
			path, be32(h + 68), SCHEMA_APPLICATION_ID);
	return 0;
}

static sqlite3 *open_plain(const char *path, int flags, struct moe_err *e)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);

	if (rc) {
		fail(db, rc, path, e);
		sqlite3_close(db);
		return NULL;
	}
	sqlite3_busy_timeout(db, 5000);
	return db;
}

static int look(const char *path, struct moe_err *e)
{
	sqlite3 *db;
	int bytes = look_at_path(path, e), bad;

	if (bytes <= 0)
		return bytes;
	db = open_plain(path, SQLITE_OPEN_READONLY, e);
	if (!db)
		return -1;
	bad = look_at_head(db, path, e);
	sqlite3_close(db);
	return bad ? -1 : 1;
}

/* ---- the writer's lock ---- */

static int lock_held(int fd, const char *path, struct moe_err *e)
{
	char pid[24] = "";
	ssize_t n = pread(fd, pid, sizeof pid - 1, 0);

	pid[n > 0 ? n : 0] = 0;
	pid[strcspn(pid, "\n")] = 0;
	return err_set(e, MOE_ERR_INPUT,
		"%s: another writer%s%s holds it; only one may write at a time", path,
		*pid ? ", process " : "", pid);
}

static int lock_take(const char *path, const char *lock_path, struct moe_err *e)
{
	for (;;) {
		int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		struct stat a, b;

		if (fd < 0)
			return err_errno(e, "%s: opening the writer's lock", lock_path);
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			if (errno == EWOULDBLOCK)
				lock_held(fd, path, e);
			else
				err_errno(e, "%s: locking", lock_path);
			close(fd);
			return -1;
		}
		if (!fstat(fd, &a) && !stat(lock_path, &b) && a.st_ino == b.st_ino &&
			a.st_dev == b.st_dev) {
			/* For people and for the message above; the lock itself is what counts. */
			if (!ftruncate(fd, 0))
				dprintf(fd, "%ld\n", (long)getpid());
			return fd;
		}
		close(fd);
	}
}

static char *lock_name(sqlite3 *db)
{
	const char *file = sqlite3_db_filename(db, "main"); /* absolute, symbolic links resolved */
	size_t n = strlen(file);
	char *s = malloc(n + 6);

	if (s) {
		memcpy(s, file, n);
		memcpy(s + n, "-lock", 6);
	}
	return s;
}

/* ---- opening ---- */

sqlite3 *dbfile_open_writer(const char *path, int *lock, struct moe_err *e)
{
	char *name = NULL;
	sqlite3 *db = NULL;

	*lock = -1;
	if (look(path, e) < 0)
		return NULL;
	db = open_plain(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e);
	if (!db)
		return NULL;
	if (sqlite3_db_readonly(db, "main") == 1) {
		err_set(e, MOE_ERR_SYS, "%s: no permission to write", path);
		goto out;
	}
	name = lock_name(db);
	if (!name) {
		err_nomem(e, strlen(path), "a file name");
		goto out;
	}
	*lock = lock_take(path, name, e);
	if (*lock < 0)
		goto out;
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL); /* they guard against others */
	if (schema_prepare(db, path, e))
		goto out;
	free(name);
	return db;
out:
	free(name);
	dbfile_close_writer(db, *lock);
	return NULL;
}

void dbfile_close_writer(sqlite3 *db, int lock)
{
	char *name = db && lock >= 0 ? lock_name(db) : NULL;

	sqlite3_close_v2(db); /* a sink that broke off may still hold a statement */
	if (lock >= 0) {
		if (name)
			unlink(name);
		close(lock);
	}
	free(name);
}

static int harden(sqlite3 *db, const char *path, struct moe_err *e)
{
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 256 << 20);
	if (sqlite3_exec(db, "PRAGMA query_only = 1; PRAGMA cell_size_check = 1", NULL, NULL, NULL))
		return fail(db, sqlite3_extended_errcode(db), path, e);
	return schema_check(db, path, e) < 0 ? -1 : 0;
}

/* "file:" + path with what a URI would read as its own escaped + "?immutable=1"; malloced. */
static char *immutable_uri(const char *path)
{
	char *s = malloc(strlen(path) * 3 + 32), *p = s;

	if (!s)
		return NULL;
	p += sprintf(p, "file:");
	for (; *path; path++)
		if (strchr("%?#", *path))
			p += sprintf(p, "%%%02x", (unsigned char)*path);
		else
			*p++ = *path;
	strcpy(p, "?immutable=1");
	return s;
}

/* No bytes in the write-ahead log: the main file is all there is. */
static int wal_is_empty(const char *path)
{
	char *wal = malloc(strlen(path) + 5);
	struct stat st;
	int empty;

	if (!wal)
		return 0;
	sprintf(wal, "%s-wal", path);
	empty = stat(wal, &st) || st.st_size == 0;
	free(wal);
	return empty;
}

sqlite3 *dbfile_open_reader(const char *path, struct moe_err *e)
{
	sqlite3 *db;
	char *uri;
	int bytes = look_at_path(path, e);

	if (bytes < 0)
		return NULL;
	if (!bytes) {
		if (access(path, F_OK))
			err_set(e, MOE_ERR_INPUT, "%s: no such file", path);
		else
			err_set(e, MOE_ERR_INPUT, "%s: an empty file", path);
		return NULL;
	}
	db = open_plain(path, SQLITE_OPEN_READONLY, e);
	if (!db)
		return NULL;
	if (look_at_head(db, path, e))
		goto fail;
	if (!harden(db, path, e))
		return db;
	/* WAL needs its -shm file; where that cannot be made, a finished database is still whole. */
	if ((sqlite3_errcode(db) & 0xff) != SQLITE_CANTOPEN &&
		(sqlite3_errcode(db) & 0xff) != SQLITE_READONLY)
		goto fail;
	if (!wal_is_empty(sqlite3_db_filename(db, "main"))) {
		err_wrap(e, "its write-ahead log needs a directory that can be written; copy both files");
		goto fail;
	}
	sqlite3_close(db);
	uri = immutable_uri(path);
	db = uri ? open_plain(uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, e) : NULL;
	free(uri);
	if (db && !harden(db, path, e))
		return db;
fail:
	sqlite3_close(db);
	return NULL;
}
