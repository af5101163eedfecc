#!/bin/sh
# audit-attack.sh - a few hundred seeded mutations of an audit log; `make attack` tries 10,500. Every
# class that the page calls detectable is detected, and nothing else is said to be.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$(dirname "$MOESCOPE")/tests/attack" --tries 400 --seed 20 "$tmp"
