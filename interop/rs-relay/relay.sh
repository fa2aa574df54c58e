#!/usr/bin/env bash
# Runs nostr-rs-relay in the foreground: relay.sh PORT DIR
# DIR holds its configuration and its database; it is made when missing and may be deleted afterwards.
# TALKBOX_INTEROP_RS_RELAY may name another binary.
set -euo pipefail

if [[ $# -ne 2 || ! $1 =~ ^[0-9]+$ ]]; then
  printf 'usage: relay.sh PORT DIR\n' >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$2"
dir=$(cd "$2" && pwd)
binary=${TALKBOX_INTEROP_RS_RELAY:-$here/../target/nostr-rs-relay/bin/nostr-rs-relay}
if [[ ! -x $binary ]]; then
  printf 'relay.sh: no relay at %s: run scripts/interop-setup --full first\n' "$binary" >&2
  exit 1
fi

cat >"$dir/config.toml" <<CONFIG
[info]
relay_url = "ws://127.0.0.1:$1/"
name = "talkbox-interop"
[network]
address = "127.0.0.1"
port = $1
[options]
reject_future_seconds = 1800
CONFIG

cd "$dir"
exec "$binary" --db "$dir" --config "$dir/config.toml"
