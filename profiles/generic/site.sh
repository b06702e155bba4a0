# The one place that names the site's commands: choose a file, or write your own beside it (README.md).
. "$(dirname "$0")/sites/slurm.sh"

# Partition, account, project and the like go here; each site's submit_job passes them on.
options=''

# How often the queue is listed; how long a job may be missing from it before it has failed; how long the scheduler may be
# silent before all jobs have. Seconds.
list_every_s=10
missing_limit_s=120
down_limit_s=14400
