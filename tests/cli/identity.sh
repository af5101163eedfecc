#!/bin/sh
# identity.sh - the database says which file made it: the hash of the model is sha256sum's.
. "$(dirname "$0")/check.inc"

ok 'a run of a file' run "$tiny" x -n 0 --db file.db
want=$(sha256sum "$tiny" | cut -d ' ' -f 1)
got=$("$MOESCOPE" sql file.db --csv 'SELECT hash FROM model' | tail -1 | tr -d '\r')
[ "$got" = "$want" ] || no "hash of $tiny: $got, sha256sum says $want"

ok 'a run of an embedded model' run sample:collapsed x -n 0 --db sample.db
want=$(sha256sum "$root/models/collapsed.gguf" | cut -d ' ' -f 1)
got=$("$MOESCOPE" sql sample.db --csv 'SELECT hash FROM model' | tail -1 | tr -d '\r')
[ "$got" = "$want" ] || no "hash of sample:collapsed: $got, sha256sum says $want"

ok 'the report' report sample.db -o sample.html
grep -q "$want" sample.html || no "the report does not name the hash"
finish
