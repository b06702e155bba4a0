#!/bin/sh
# Installs the packages of SLURM that the tests need, where that is possible; the tests say what is missing.
if command -v slurmctld >/dev/null || ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >/dev/null \
    || echo "note: slurm-wlm and munge cannot be installed"
