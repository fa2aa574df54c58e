#!/usr/bin/env bash
# Runs the PyPI relay in the foreground: relay.sh PORT DIR
# DIR holds its configuration and its database; it is made when missing and may be deleted afterwards.
# TALKBOX_INTEROP_PY may name another Python that has nostr-relay installed.
set -euo pipefail

if [[ $# -ne 2 || ! $1 =~ ^[0-9]+$ ]]; then
  printf 'usage: relay.sh PORT DIR\n' >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
python=${TALKBOX_INTEROP_PY:-$here/venv/bin/python}
if [[ ! -x $python ]]; then
  printf 'relay.sh: no Python at %s: run scripts/interop-setup first\n' "$python" >&2
  exit 1
fi

config=$(<"$here/relay.yaml")
config=${config//@PORT@/$port}
config=${config//@DATABASE@/"$dir/relay.sqlite3"}
printf '%s\n' "$config" >"$dir/relay.yaml"

cd "$dir"
exec "$python" -c 'from nostr_relay.cli import main; main()' --config "$dir/relay.yaml" serve
