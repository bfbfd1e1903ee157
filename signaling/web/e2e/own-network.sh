#!/usr/bin/env bash
# Runs a command in a network namespace of its own: loopback, and a veth pair, since Firefox and libwebrtc gather
# no candidates where loopback is all there is. The kernel removes it with the last process in it. Where the
# kernel allows none, the command runs in this network, and tests that need their own are skipped.
set -euo pipefail

unshare=(unshare --net)
((EUID == 0)) || unshare+=(--map-root-user)
if ! "${unshare[@]}" ip link add lesson type veth peer name lesson-peer 2>/dev/null; then
  echo "==> No network of its own (namespaces, veth devices or the command ip are missing): some tests will be" \
    "skipped" >&2
  exec "$@"
fi

export LECTERN_OWN_NETWORK=1
exec "${unshare[@]}" -- bash -euo pipefail -c '
  ip link add lesson type veth peer name lesson-peer
  ip address add 10.77.0.1/24 dev lesson
  for device in lo lesson lesson-peer; do ip link set "$device" up; done
  ip route add default dev lesson
  exec "$@"' bash "$@"
