/*
 * sqlite.h - SQLite's functions, linked in the program or through the table of a host that loads
 * the `routing` extension (MOE_SQLITE_EXT). Files that are part of the extension include this one.
 */
#ifndef TRACE_SQLITE_H
#define TRACE_SQLITE_H

#ifdef MOE_SQLITE_EXT
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT3
#else
#include <sqlite3.h>
#endif

#endif
