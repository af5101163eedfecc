/*
 * schema.h - the tables of a moescope database and how an old one is brought up to date.
 *
 * application_id 0x4D4F4553 ("MOES"), user_version = number of migrations applied. Migrations are
 * forward only, each in one transaction. docs/TRACE.md says what every column means.
 */
#ifndef TRACE_SCHEMA_H
#define TRACE_SCHEMA_H

#include <sqlite3.h>

#include <moescope/err.h>

#define SCHEMA_APPLICATION_ID 0x4D4F4553
#define SCHEMA_VERSION 3

/* On a writing connection: create the tables in an empty file, or migrate an older database.
 * Refuses foreign databases and versions that are newer than this program. */
int schema_prepare(sqlite3 *db, const char *path, struct moe_err *e);

/* On a reading connection: the version of a database that this program can read, which is any up to
 * SCHEMA_VERSION; -1 otherwise. */
int schema_check(sqlite3 *db, const char *path, struct moe_err *e);

#endif
