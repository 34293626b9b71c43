# Sourced by start-*.sh and stop-*.sh: daemons in the background, each with NAME.pid and NAME.log in the folder DAEMONS.
SCRIPT="$(basename "$0")"
STOP="${SCRIPT/#start-/stop-}"

refuse_second_start() {
  if compgen -G "$DAEMONS/*.pid" >/dev/null; then
    echo "${SCRIPT%.sh}: $DAEMONS holds the pid files of an earlier start: run $STOP first" >&2
    exit 1
  fi
}

refuse_taken() { # ports...: somebody who listens there would answer in the place of what is started now
  local port
  for port; do
    if (exec 3<>"/dev/tcp/$HOST/$port") 2>/dev/null; then
      echo "${SCRIPT%.sh}: port $port of $HOST is taken" >&2
      exit 1
    fi
  done
}

start_daemon() { # name command...
  local name="$1"
  shift
  ALMMTA_DAEMON="$DAEMONS/$name" nohup setsid "$@" >"$DAEMONS/$name.log" 2>&1 </dev/null &
  echo $! >"$DAEMONS/$name.pid"
}

is_ours() { # name: the pid's process is the one that was started, by a mark in its environment, as pids come round
  grep -qzxF "ALMMTA_DAEMON=$DAEMONS/$1" "/proc/$(cat "$DAEMONS/$1.pid")/environ" 2>/dev/null
}

await() { # hint command...: until the command succeeds, while all daemons of this shell live, for TIMEOUT seconds
  local hint="$1" deadline=$((SECONDS + ${TIMEOUT:-180})) pid_file
  shift
  until "$@"; do
    for pid_file in "$DAEMONS"/*.pid; do
      kill -0 "$(cat "$pid_file")" 2>/dev/null || give_up "$(basename "$pid_file" .pid)" "ended, $hint"
    done
    [ $SECONDS -lt $deadline ] || give_up "$(basename "$pid_file" .pid)" "is not ready after ${TIMEOUT:-180} s"
    sleep 0.5
  done
}

give_up() { # name what
  tail -n 5 "$DAEMONS/$1.log" >&2
  echo "${SCRIPT%.sh}: $1 $2, see $DAEMONS/$1.log" >&2
  "$here/$STOP" >&2
  exit 1
}

stop_daemon() { # name: it and its children, where it was started and not stopped yet
  local pid
  [ -f "$DAEMONS/$1.pid" ] || return 0
  pid="$(cat "$DAEMONS/$1.pid")"
  if is_ours "$1"; then kill -- "-$pid" || true; fi
  for _ in $(seq 60); do
    is_ours "$1" || break
    sleep 0.5
  done
  if is_ours "$1"; then
    echo "${SCRIPT%.sh}: $1 did not end in 30 s, killed" >&2
    kill -9 -- "-$pid" || true
  fi
  rm -f "$DAEMONS/$1.pid"
}
