# A site whose jobs have ended when they are submitted: they do nothing but touch their outputs. Counts open jobs.
submit_job() { "$INSTANT_PYTHON" -S "$INSTANT_JOB" "$jobscript" "$folder"; }
list_jobs() { :; }
cancel_jobs() { :; }
