# SLURM, by its commands alone (snakemake-executor-plugin-slurm knows more of it).
# --no-requeue: Snakemake submits a lost job again, and only one of the two should.
submit_job() {
    sbatch --parsable --no-requeue --job-name "$name" --output "$log" --cpus-per-task "$threads" --mem "${mem_mb}M" \
        --time "$runtime" ${gpu:+--gpus-per-node "$gpu"} $options "$script" | cut -d ';' -f 1
}
list_jobs() { squeue --noheader --user "$(id -un)" --format %A; }
cancel_jobs() { scancel "$@"; }
