# Sun, Univa and Son of Grid Engine. The parallel environment (smp) and the complexes (mem_free per slot, gpu) differ from
# site to site: `qconf -spl` and `qconf -sc` list them.
submit_job() {
    qsub -terse -V -r n -cwd -S /bin/sh -N "$name" -j y -o "$log" -pe smp "$threads" \
        -l "h_rt=$walltime,mem_free=$((mem_mb / threads))M${gpu:+,gpu=$gpu}" $options "$script"
}
list_jobs() {
    listing=$(qstat -u "$(id -un)") || return 1
    printf '%s\n' "$listing" | awk 'NR > 2 { print $1 }'
}
cancel_jobs() { qdel "$@"; }
