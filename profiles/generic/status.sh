#!/bin/sh
# Print success, failed or running for a job that submit.sh submitted.
#   success  only if the job wrote that it ended well
#   failed   it wrote another status, or left the queue long ago without a word (node lost, killed), or the scheduler
#            could not be asked for a long time
#   running  all else
trap '' INT # Ctrl-C is for Snakemake
id=${1%:*}
state=${SNAKEMAKE_CLUSTER_SIDECAR_VARS:-.snakemake/batch}
folder=$state/${1##*:}
answer() {
    [ "$1" = running ] || rm -rf "$folder"
    echo "$1"
    exit 0
}
ended() {
    if [ -f "$folder/status" ]; then
        read -r code < "$folder/status"
        [ "$code" = 0 ] && answer success
        answer failed
    fi
}
ended
. "${DCTKD_SITE:-$(dirname "$0")/site.sh}"
now=$(date +%s)

# All jobs of the user, asked for once for all that are looked at in a row. `down` holds since when there is no answer.
read -r asked 2>/dev/null < "$state/asked" || asked=0
if [ $((now - asked)) -ge "${list_every_s:-10}" ]; then
    if list_jobs > "$state/queue.$$" 2> "$state/queue.log"; then
        mv "$state/queue.$$" "$state/queue"
        rm -f "$state/down"
    else
        rm -f "$state/queue.$$"
        [ -f "$state/down" ] || echo "$now" > "$state/down"
    fi
    echo "$now" > "$state/asked"
fi

# Print how many seconds ago a mark was made, making it if need be.
age() {
    [ -f "$1" ] || echo "$now" > "$1"
    read -r since < "$1"
    echo $((now - since))
}
[ -d "$folder" ] || answer failed # of another folder or long cleared away: submitted again, which costs nothing if it is done
if [ -f "$state/down" ]; then
    [ "$(age "$state/down")" -lt "${down_limit_s:-14400}" ] && answer running
    answer failed
fi
if grep -qxF -e "$id" "$state/queue"; then
    rm -f "$folder/missing"
    answer running
fi
missing_s=$(age "$folder/missing")
ended # written while the queue was asked
[ "$missing_s" -lt "${missing_limit_s:-120}" ] && answer running
answer failed
