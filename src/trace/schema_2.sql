-- schema_2.sql - version 1 to 2: how weights are kept, where a run came from, sums over wider times.

ALTER TABLE run ADD COLUMN weights TEXT;  -- exact, 16bit, 8bit, none: how chunks keep weights and
                                          -- margins; NULL = exact
ALTER TABLE run ADD COLUMN source TEXT;   -- imported runs: the format and the file's name
ALTER TABLE run ADD COLUMN summed INTEGER NOT NULL DEFAULT 0;  -- buckets before this one are in load_sum

CREATE TABLE load_sum (               -- load over 16, 256, 4096, 65536 buckets
	run       INTEGER NOT NULL REFERENCES run(id),
	domain    INTEGER NOT NULL,
	phase     INTEGER NOT NULL,
	level     INTEGER NOT NULL,   -- 1..4: a row covers 16^level buckets
	bucket    INTEGER NOT NULL,   -- load.bucket / 16^level
	layer     INTEGER NOT NULL,
	tokens    INTEGER NOT NULL,   -- this and what follows as in load
	counts    BLOB NOT NULL,
	weights   BLOB NOT NULL,
	probs     BLOB NOT NULL,
	lse2      REAL NOT NULL,
	entropy   REAL NOT NULL,
	confidence REAL NOT NULL,
	margin    REAL NOT NULL,
	n_margin  INTEGER NOT NULL,
	n_nan     INTEGER NOT NULL,
	n_edited  INTEGER NOT NULL,
	PRIMARY KEY (run, domain, phase, level, bucket, layer)
) STRICT, WITHOUT ROWID;

-- Whoever edits load by hand makes load_sum void; the writer, which keeps both, switches triggers off.
CREATE TRIGGER load_insert AFTER INSERT ON load BEGIN
	UPDATE run SET summed = 0 WHERE id = NEW.run;
END;
CREATE TRIGGER load_update AFTER UPDATE ON load BEGIN
	UPDATE run SET summed = 0 WHERE id IN (OLD.run, NEW.run);
END;
CREATE TRIGGER load_delete AFTER DELETE ON load BEGIN
	UPDATE run SET summed = 0 WHERE id = OLD.run;
END;
