# PBS Professional and OpenPBS.
submit_job() {
    qsub -V -r n -N "$(printf %.15s "$name")" -j oe -o "$log" \
        -l "select=1:ncpus=$threads:mem=${mem_mb}mb${gpu:+:ngpus=$gpu}" -l "walltime=$walltime" $options "$script"
}
list_jobs() { qselect -u "$(id -un)"; }
cancel_jobs() { qdel "$@"; }
