#!/usr/bin/env bash
# Packs this package and what executors import (conf/executors.txt) for workers whose Python 3.11 has nothing installed:
# docker/pack-environment.sh FILE.tar.gz [further packages, as s3fs], then ENVIRONMENT=FILE.tar.gz docker/submit-night.sh
# A virtual environment holds no Python, but a link to the one that it was made with: the workers' is at the same path,
# or in PYTHON_PREFIX, the folder above its bin/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.env.sh"
file="$(realpath -m "${1:?docker/pack-environment.sh FILE [packages]}")"
mkdir -p "$(dirname "$file")"
made="$(mktemp -d)"
trap 'rm -rf "$made"' EXIT

unset PYTHONPATH # what is on it would pass for installed
"$BIN/python" -m venv "$made"
cd "$ROOT"
# pip's own resolver would bring pyspark for Petastorm: half a gigabyte that every worker has already.
needed="$(grep -v "^petastorm" conf/executors.txt)"
"$made/bin/pip" install -q --disable-pip-version-check -c conf/constraints.txt $(grep -v "^#" <<<"$needed") "${@:2}"
"$made/bin/pip" install -q --disable-pip-version-check -c conf/constraints.txt --no-deps petastorm .
"$made/bin/venv-pack" --quiet --force --prefix "$made" --output "$file" --compress-level "${COMPRESS_LEVEL:-1}" \
  ${PYTHON_PREFIX:+--python-prefix "$PYTHON_PREFIX"} --exclude "*/torch/test/*" --exclude "*/torch/include/*"
echo "$file: $(du -h "$file" | cut -f 1)"
