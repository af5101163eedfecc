#!/bin/sh
# make.sh - how the databases beside it were made. Not part of the build: they stay as they are, so
# that tests read what an older program wrote. A new one gets a new name.
# Usage, after `make`: sample-traces/make.sh DIR
set -eu
out=$1
cd "$(dirname "$0")/.."
build/moescope profile sample:balanced --max-tokens 6000 --quiet --db "$out/balanced-routes.db"
build/moescope profile sample:collapsed --detail counts --generate 8 --quiet --db "$out/collapsed-counts.db"
build/moescope --version
sha256sum models/*.gguf
for f in "$out"/*.db; do
	sqlite3 "$f" "SELECT '$f', r.detail, (SELECT sum(n_prompt + n_generated) FROM sequence),
		(SELECT sum(tokens) FROM load), (SELECT user_version FROM pragma_user_version)
		FROM run r"
	sha256sum "$f"
done
