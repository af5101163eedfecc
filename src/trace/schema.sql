-- schema.sql - version 1 of the moescope database; made into a C string at build time.
-- Times are nanoseconds since 1970 (UTC). BLOBs are little-endian. "[a][b]" = b fastest.

CREATE TABLE model (
	id        INTEGER PRIMARY KEY,
	name      TEXT, path TEXT, arch TEXT, quant TEXT, tokenizer TEXT,
	hash      TEXT,               -- hex SHA-256 of the file, NULL if not computed
	bytes     INTEGER, params INTEGER, params_active INTEGER,
	n_layer   INTEGER, n_vocab INTEGER, n_ctx INTEGER,
	router    TEXT,               -- specification in words
	score     TEXT                -- softmax, sigmoid, sqrt_softplus, none
) STRICT;

CREATE TABLE moe_layer (              -- one row per layer that has a router
	model     INTEGER NOT NULL REFERENCES model(id),
	layer     INTEGER NOT NULL,   -- index in the model, dense layers counted
	n_expert  INTEGER NOT NULL,
	k         INTEGER NOT NULL,
	PRIMARY KEY (model, layer)
) STRICT, WITHOUT ROWID;

CREATE TABLE run (
	id        INTEGER PRIMARY KEY,
	model     INTEGER NOT NULL REFERENCES model(id),
	state     TEXT NOT NULL,      -- live, done, failed, imported
	detail    TEXT NOT NULL,      -- counts, routes, full
	command   TEXT, engine TEXT, isa TEXT, threads INTEGER, batch INTEGER,
	started   INTEGER NOT NULL,
	ended     INTEGER,            -- NULL while live
	heartbeat INTEGER NOT NULL,   -- last commit of the writer, also when idle
	bucket_ns INTEGER NOT NULL,   -- width of a time bucket of load and pace
	lag_ns    INTEGER NOT NULL DEFAULT 0,  -- age of the oldest block in the last commit
	pid       INTEGER
) STRICT;

CREATE TABLE domain (
	id        INTEGER PRIMARY KEY,
	name      TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE sequence (
	id        INTEGER PRIMARY KEY,
	run       INTEGER NOT NULL REFERENCES run(id),
	seq       INTEGER NOT NULL,   -- the engine's number, unique in the run
	domain    INTEGER REFERENCES domain(id),
	name      TEXT,
	started   INTEGER NOT NULL, ended INTEGER,
	n_prompt  INTEGER NOT NULL DEFAULT 0,
	n_generated INTEGER NOT NULL DEFAULT 0,
	nll       REAL,               -- nats, summed over n_scored tokens
	n_scored  INTEGER, n_bytes INTEGER,
	UNIQUE (run, seq)
) STRICT;

CREATE TABLE chunk (                  -- up to 128 consecutive tokens of one sequence and phase
	id        INTEGER PRIMARY KEY,
	run       INTEGER NOT NULL REFERENCES run(id),
	sequence  INTEGER NOT NULL REFERENCES sequence(id),
	pos       INTEGER NOT NULL,   -- position of the first token
	n         INTEGER NOT NULL,   -- tokens
	phase     INTEGER NOT NULL,   -- 0 prefill, 1 decode
	time      INTEGER NOT NULL,
	codec     INTEGER NOT NULL,   -- layout of the blobs; 1 is the one below
	tokens    BLOB,               -- i32 [n]
	experts   BLOB,               -- u16 [n][moe layers][k]; layers in the order of moe_layer
	weights   BLOB,               -- f32 [n][moe layers][k]
	margins   BLOB,               -- f32 [n][moe layers]
	flags     BLOB,               -- u8 [n][moe layers], NULL when all zero
	before    BLOB,               -- u16 like experts: the choice before a hook's edit, NULL when none
	logits    BLOB                -- f32 [n][moe layers][n_expert], detail full only
) STRICT;
CREATE INDEX chunk_by_sequence ON chunk (sequence, pos);
CREATE INDEX chunk_by_run ON chunk (run, id);

CREATE TABLE load (                   -- what each expert did, summed; updated with the chunks
	run       INTEGER NOT NULL REFERENCES run(id),
	domain    INTEGER NOT NULL,   -- domain.id, 0 = none given
	phase     INTEGER NOT NULL,
	bucket    INTEGER NOT NULL,   -- (time - run.started) / run.bucket_ns
	layer     INTEGER NOT NULL,
	tokens    INTEGER NOT NULL,
	counts    BLOB NOT NULL,      -- u64 [n_expert], picks
	weights   BLOB NOT NULL,      -- f64 [n_expert], sum of gate weights
	probs     BLOB NOT NULL,      -- f64 [n_expert], sum of the softmax over all logits
	lse2      REAL NOT NULL,      -- sum of logsumexp(logits)^2
	entropy   REAL NOT NULL,      -- sum of the softmax's entropy, nats
	confidence REAL NOT NULL,     -- sum of the selected softmax probabilities
	margin    REAL NOT NULL,      -- sum of the finite margins
	n_margin  INTEGER NOT NULL,   -- how many were finite
	n_nan     INTEGER NOT NULL,
	n_edited  INTEGER NOT NULL,
	PRIMARY KEY (run, domain, phase, bucket, layer)
) STRICT, WITHOUT ROWID;

CREATE TABLE pace (                   -- speed; the time the forward pass took
	run       INTEGER NOT NULL REFERENCES run(id),
	phase     INTEGER NOT NULL,
	bucket    INTEGER NOT NULL,
	tokens    INTEGER NOT NULL,
	busy_ns   INTEGER NOT NULL,
	batches   INTEGER NOT NULL,
	PRIMARY KEY (run, phase, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (                  -- what is not a decision
	id        INTEGER PRIMARY KEY,
	run       INTEGER NOT NULL REFERENCES run(id),
	time      INTEGER NOT NULL,
	kind      TEXT NOT NULL,      -- gap, nan, recovery, alarm, operator, ...
	sequence  INTEGER, pos INTEGER, layer INTEGER,
	value     REAL,               -- gap: tokens lost
	text      TEXT
) STRICT;

CREATE TABLE token (                  -- text of the vocabulary, where it was asked for
	model     INTEGER NOT NULL REFERENCES model(id),
	id        INTEGER NOT NULL,
	bytes     BLOB NOT NULL,
	PRIMARY KEY (model, id)
) STRICT, WITHOUT ROWID;
