# The commands of tests/cluster/fake_batch.py, as profiles/generic/site.sh names a real system's.
submit_job() { "$FAKE_PYTHON" -S "$FAKE_COMMAND" submit "$name" "$log" "$script"; }
list_jobs() { "$FAKE_PYTHON" -S "$FAKE_COMMAND" list; }
cancel_jobs() { "$FAKE_PYTHON" -S "$FAKE_COMMAND" cancel "$@"; }
list_every_s=${FAKE_LIST_EVERY_S:-0}
missing_limit_s=${FAKE_MISSING_LIMIT_S:-2}
down_limit_s=${FAKE_DOWN_LIMIT_S:-60}
submit_pause_s=0
