-- schema_3.sql - version 2 to 3: what else a run was made with, and what its expert cache did.

CREATE TABLE setting (                -- of the engine, where they change figures: docs/TRACE.md
	run       INTEGER NOT NULL REFERENCES run(id),
	key       TEXT NOT NULL,
	value     TEXT NOT NULL,
	PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE cache (                  -- experts that were in memory when a batch needed them
	run       INTEGER NOT NULL REFERENCES run(id),
	phase     INTEGER NOT NULL,
	bucket    INTEGER NOT NULL,
	hits      INTEGER NOT NULL,
	misses    INTEGER NOT NULL,
	bytes     INTEGER NOT NULL,   -- read for the misses
	stall_ns  INTEGER NOT NULL,   -- time with nothing to compute while reading
	PRIMARY KEY (run, phase, bucket)
) STRICT, WITHOUT ROWID;
