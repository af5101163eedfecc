/*
 * dbfile.h - opening the file of a database: what may be opened, by whom, without harming it.
 *
 * A path is looked at before SQLite may write to it: directories, devices, files that are not
 * SQLite's and databases of other programs are refused with nothing changed. The look goes through
 * SQLite's own file object, because closing a descriptor of ours would drop the POSIX locks that
 * another connection of this process holds on the file.
 */
#ifndef TRACE_DBFILE_H
#define TRACE_DBFILE_H

#include <sqlite3.h>

#include <moescope/err.h>

/* For the writer: opens or creates, takes the writer's lock (below) and prepares the schema.
 * *lock is the lock's descriptor. NULL on error. */
sqlite3 *dbfile_open_writer(const char *path, int *lock, struct moe_err *e);

/* Closes both; removes the lock file when it is still ours. */
void dbfile_close_writer(sqlite3 *db, int lock);

/* For readers: read-only, nothing in the file is trusted. A finished database in a directory that
 * cannot be written is opened as immutable. NULL on error. */
sqlite3 *dbfile_open_reader(const char *path, struct moe_err *e);

#endif
