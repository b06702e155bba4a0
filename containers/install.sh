#!/bin/sh
# What both recipes install, step by step: environment (requirements.lock, the long one), package, kubernetes (what profiles/kubernetes
# needs besides). Versions and hashes come from the locks; the package index is whatever pip is told outside.
#
# No compiler is needed: what comes as source is pure Python, built with the locked setuptools, not in an environment that no lock
# covers. Bytecode halves the start of a job; unchecked, it holds no clock.
set -eu
export PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

locked() { pip install --require-hashes --no-deps --no-build-isolation --use-pep517 --requirement "$1"; }

# Compile what was just installed. Templates in other packages are no Python and do not compile.
compile_new() {
    find /opt/venv/lib -name '*.py' -newer "$scratch/before" > "$scratch/new"
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash -i "$scratch/new" > "$scratch/log" 2>&1 || true
}

# The lines of one package in a lock.
lines_of() { sed -n "/^$1==/,/# via/p" "$2"; }

# Not /tmp itself: Apptainer builds with that of the host.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
touch "$scratch/before"
case "$1" in
environment)
    python3 -m venv /opt/venv
    lines_of setuptools /opt/dctkd/requirements.lock > "$scratch/setuptools.lock"
    pip install --require-hashes --no-deps --requirement "$scratch/setuptools.lock"
    locked /opt/dctkd/requirements.lock
    compile_new
    python -c 'import snakemake, timm'
    ;;
package)
    # Editable: `dctkd doctor` finds the lock beside the package.
    pip install --no-deps --no-build-isolation --editable /opt/dctkd
    python -m compileall -q --invalidation-mode unchecked-hash /opt/dctkd/dctkd
    dctkd methods list > /dev/null
    ;;
kubernetes)
    locked /opt/dctkd/containers/kubernetes.lock
    compile_new
    # Every pod installs the storage plugin by `pip install` before its job. It finds the locked one here, and asks no network.
    lines_of snakemake-storage-plugin-s3 /opt/dctkd/containers/kubernetes.lock > "$scratch/storage.lock"
    pip download --require-hashes --no-deps --dest /opt/wheels --requirement "$scratch/storage.lock"
    ;;
*)
    echo "error: $1: expected environment, package or kubernetes" >&2
    exit 2
    ;;
esac
