/*
 * schema.c - see schema.h.
 *
 * To change the schema: append a migration here (src/trace/schema_N.sql becomes schema_N_sql.h, see
 * GEN in the Makefile), raise SCHEMA_VERSION and teach reader.c what older versions lack; never
 * edit a migration that was released. Migration i takes a database from user_version i to i + 1 in
 * one transaction, in which application_id and user_version are set too: a crash leaves the old
 * version or the new one. The first one runs in rollback-journal mode, before WAL is switched on,
 * so that the main file of every moescope database names its application from its first byte on.
 */
#include "trace/schema.h"

#include <stdio.h>

#include "base/err.h"

static const char *const migrations[] = {
#include "schema_sql.h"
	,
#include "schema_2_sql.h"
	,
#include "schema_3_sql.h"
	,
};
_Static_assert(sizeof migrations / sizeof migrations[0] == SCHEMA_VERSION, "one per version");

static int sql_fail(sqlite3 *db, const char *path, struct moe_err *e)
{
	int rc = sqlite3_errcode(db) & 0xff;

	return err_set(e, rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT ? MOE_ERR_INPUT : MOE_ERR_SYS,
		"%s: %s", path, sqlite3_errmsg(db));
}

/* One integer that a statement yields. */
static int number(sqlite3 *db, const char *path, const char *sql, sqlite3_int64 *out,
	struct moe_err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) || sqlite3_step(st) != SQLITE_ROW) {
		sql_fail(db, path, e);
		sqlite3_finalize(st);
		return -1;
	}
	*out = sqlite3_column_int64(st, 0);
	return sqlite3_finalize(st) ? sql_fail(db, path, e) : 0;
}

/* Reads what the database says it is; *version 0 = empty. */
static int identify(sqlite3 *db, const char *path, sqlite3_int64 *version, struct moe_err *e)
{
	sqlite3_int64 app, n;

	if (number(db, path, "PRAGMA application_id", &app, e) ||
		number(db, path, "PRAGMA user_version", version, e) ||
		number(db, path, "SELECT count(*) FROM sqlite_schema", &n, e))
		return -1;
	if (app == 0 && *version == 0 && n == 0)
		return 0;
	if (app != SCHEMA_APPLICATION_ID)
		return err_set(e, MOE_ERR_INPUT,
			"%s: a SQLite database, but not of moescope (application_id 0x%08x, expected 0x%08x)",
			path, (unsigned)app, SCHEMA_APPLICATION_ID);
	if (*version < 1 || *version > SCHEMA_VERSION)
		return err_set(e, MOE_ERR_INPUT,
			"%s: schema version %lld, this program knows 1 to %d: use a newer moescope", path,
			(long long)*version, SCHEMA_VERSION);
	return 0;
}

static int migrate(sqlite3 *db, const char *path, int from, struct moe_err *e)
{
	char ids[96];

	snprintf(ids, sizeof ids, "PRAGMA application_id = %d; PRAGMA user_version = %d",
		SCHEMA_APPLICATION_ID, from + 1);
	if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) ||
		sqlite3_exec(db, migrations[from], NULL, NULL, NULL) ||
		sqlite3_exec(db, ids, NULL, NULL, NULL) ||
		sqlite3_exec(db, "COMMIT", NULL, NULL, NULL)) {
		sql_fail(db, path, e);
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
		return err_wrap(e, "schema version %d to %d", from, from + 1);
	}
	return 0;
}

/* A chunk takes kilobytes, its logits tens of them: the fewer pages, the less work for the same
 * bytes. A page size holds for life; databases that are there keep theirs. */
#define PAGE_SIZE "16384"

int schema_prepare(sqlite3 *db, const char *path, struct moe_err *e)
{
	sqlite3_int64 version;

	if (identify(db, path, &version, e))
		return -1;
	if (!version && sqlite3_exec(db, "PRAGMA page_size = " PAGE_SIZE, NULL, NULL, NULL))
		return sql_fail(db, path, e);
	while (version < SCHEMA_VERSION)
		if (migrate(db, path, (int)version++, e))
			return -1;
	/* The limit gives disk space back after somebody's old snapshot made the log grow. */
	if (sqlite3_exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; "
		"PRAGMA journal_size_limit = 67108864", NULL, NULL, NULL))
		return sql_fail(db, path, e);
	return 0;
}

int schema_check(sqlite3 *db, const char *path, struct moe_err *e)
{
	sqlite3_int64 version;

	if (identify(db, path, &version, e))
		return -1;
	if (version == 0)
		return err_set(e, MOE_ERR_INPUT, "%s: an empty database", path);
	return (int)version;
}
