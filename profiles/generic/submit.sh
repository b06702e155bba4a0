#!/bin/sh
# Submit a job and print ID:FOLDER, the site's number and the job's folder below the one that watch.sh has made.
#   submit.sh threads=N mem_mb=N runtime=MINUTES gpu=N log=FILE RULE WILDCARD... JOBSCRIPT
# The site's command gets a script of ours: it writes the job's exit status into the folder, since few sites remember it.
set -eu
trap '' INT # a job that the site has taken must be known, or nobody cancels it
state=${SNAKEMAKE_CLUSTER_SIDECAR_VARS:-.snakemake/batch}
name='' log='' last=''
for argument; do
    case $argument in
        threads=*) threads=${argument#*=} ;;
        mem_mb=*) mem_mb=${argument#*=} ;;
        runtime=*) runtime=${argument#*=} ;;
        gpu=*) gpu=${argument#*=} ;;
        log=*) log=${argument#*=} ;;
        *)
            name=${name:+$name.}$last
            last=$argument
            ;;
    esac
done
jobscript=$last
name=$(printf %s "$name" | sed 's/[a-z]*=//g; s/[^A-Za-z0-9_-]/./g') # of students_pack0.dataset=shapes,seed=0
[ "$gpu" -gt 0 ] || gpu=''
walltime=$(printf '%02d:%02d:00' $((runtime / 60)) $((runtime % 60)))

mkdir -p "$state"
folder=$(mktemp -d "$PWD/$state/XXXXXXXX")
log=$PWD/${log:-$state/$name.log}
log=${log%.log}.batch.log
mkdir -p "$(dirname "$log")"

quoted() { printf %s "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/"; }
script=$folder/job.sh
cat > "$script" <<END
#!/bin/sh
# $name
PATH=$(quoted "$PATH"); export PATH
cd $(quoted "$PWD") || exit 1
# A batch system that ends a job may tell this shell alone. The training saves itself when it hears of it.
stop() { trap '' TERM USR1 USR2; kill -TERM 0; }
trap stop TERM USR1 USR2
sh $(quoted "$jobscript") &
wait \$!
code=\$?
while kill -0 \$! 2>/dev/null; do wait \$!; code=\$?; done
echo \$code > $(quoted "$folder")/status.new && mv $(quoted "$folder")/status.new $(quoted "$folder")/status
exit \$code
END
chmod +x "$script"

options=''
. "${DCTKD_SITE:-$(dirname "$0")/site.sh}"
for pause in 5 20 0; do
    id=$(submit_job | head -n 1) || id=''
    if [ -n "$id" ]; then
        echo "$id" > "$folder/id"
        echo "$id:${folder##*/}"
        exit 0
    fi
    [ "$pause" = 0 ] || sleep "${submit_pause_s:-$pause}"
done
rm -r "$folder"
echo "error: the site's command took no job $name (3 attempts); its words are above; see ${DCTKD_SITE:-$(dirname "$0")/site.sh}" >&2
exit 1
