# LSF. -M is in MB where LSF_UNIT_FOR_LIMITS=MB (default KB: multiply). bjobs says "No unfinished job found" where others
# print nothing; any other words are no listing.
submit_job() {
    bsub -rn -J "$name" -o "$log" -n "$threads" -R "span[hosts=1] rusage[mem=$mem_mb]" -M "$mem_mb" -W "$runtime" \
        ${gpu:+-gpu "num=$gpu"} $options sh "$script" | sed -n 's/^Job <\([0-9]*\)>.*/\1/p'
}
list_jobs() {
    listing=$(bjobs -noheader -o jobid 2>&1 | grep -E '^[0-9]+ *$|^No unfinished job found') || return 1
    printf '%s\n' "$listing" | tr -d ' '
}
cancel_jobs() { bkill "$@"; }
