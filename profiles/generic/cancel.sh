#!/bin/sh
# Cancel jobs; Snakemake gives this two seconds, and schedulers can be slower, so it goes on in the background.
trap '' INT HUP
. "${DCTKD_SITE:-$(dirname "$0")/site.sh}"
state=${SNAKEMAKE_CLUSTER_SIDECAR_VARS:-.snakemake/batch}
for id; do
    shift
    set -- "$@" "${id%:*}"
    rm -f "$state/${id##*:}/id" # watch.sh need not do it again
done
{
    cancel_jobs "$@" || { sleep 10; cancel_jobs "$@"; } || { sleep 60; cancel_jobs "$@"; }
} < /dev/null >> .snakemake/batch-cancel.log 2>&1 &
