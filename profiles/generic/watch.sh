#!/bin/sh
# Runs beside Snakemake, keeps the state of its jobs in a folder, and at the end cancels jobs that are still open.
# Snakemake does that itself, but forgets those whose status it is asking for when Ctrl-C is pressed.
# If Snakemake is killed with no time to say so, its jobs are left alone: the next call waits for them or takes what they made.
trap '' INT HUP
mkdir -p .snakemake/batch
state=$(mktemp -d .snakemake/batch/XXXXXX)
echo "$state" # Snakemake hands the first line on to the other scripts
leave() {
    trap '' TERM
    set --
    for file in "$state"/*/id; do
        [ ! -f "$file" ] || [ -f "${file%id}status" ] || set -- "$@" "$(cat "$file")"
    done
    if [ $# -gt 0 ]; then
        . "${DCTKD_SITE:-$(dirname "$0")/site.sh}"
        cancel_jobs "$@" >> .snakemake/batch-cancel.log 2>&1
    fi
    rm -rf "$state"
    exit 0
}
trap leave TERM
while kill -0 "$PPID" 2> /dev/null; do
    sleep 5 &
    wait $!
done
