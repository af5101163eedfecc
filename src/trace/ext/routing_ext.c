/*
 * routing_ext.c - `routing` as an extension that any sqlite3 shell can load:
 *
 *	sqlite> .load build/moescope_routing
 *
 * Built from the few files that include trace/sqlite.h, with MOE_SQLITE_EXT defined.
 */
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1

#include "base/err.h"
#include "trace/reader.h"

__attribute__((visibility("default"))) int sqlite3_moescoperouting_init(sqlite3 *db, char **msg,
	const sqlite3_api_routines *api);

int sqlite3_moescoperouting_init(sqlite3 *db, char **msg, const sqlite3_api_routines *api)
{
	struct moe_err e;

	SQLITE_EXTENSION_INIT2(api);
	if (routing_register(db, &e)) {
		*msg = sqlite3_mprintf("%s", e.msg);
		return SQLITE_ERROR;
	}
	return SQLITE_OK;
}
