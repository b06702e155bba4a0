# Torque. Its qselect also lists jobs that have ended (state C), for a while, so states are named.
submit_job() {
    qsub -V -r n -N "$(printf %.15s "$name")" -j oe -o "$log" \
        -l "nodes=1:ppn=$threads${gpu:+:gpus=$gpu}" -l "mem=${mem_mb}mb,walltime=$walltime" $options "$script"
}
list_jobs() { qselect -u "$(id -un)" -s EHQRTW; }
cancel_jobs() { qdel "$@"; }
