#!/bin/sh
# A working folder without a Snakefile gets the workflow's files, so that experiments and profiles can be edited there.
set -eu
if [ "${1:-}" = snakemake ] && [ ! -e Snakefile ]; then
    echo "dctkd: no Snakefile in $PWD; copying the workflow's files there" >&2
    for name in Snakefile workflow config profiles paper_tables; do
        cp -R --no-clobber "/opt/dctkd/$name" .
    done
fi
exec "$@"
