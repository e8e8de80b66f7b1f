# Functions that the scripts of this folder share; they source this file.
# shellcheck shell=bash
# shellcheck disable=SC2016 # what bash -c is given is not for this shell

# Prints what is wrong and how to fix it, and exits.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

say() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# Runs a command for at most that many seconds. macOS has no `timeout`; there is no limit there.
at_most() {
  if command -v timeout >/dev/null; then
    timeout "$@"
  else
    shift
    "$@"
  fi
}

listens() { # PORT
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Prints a free port, below the ephemeral range: a client that keeps reconnecting to a closed port of that
# range can be connected to itself.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    listens "$port" || break
  done
  echo "$port"
}

# Prints the port of a private instance: the one of its last start, the requested one, or a free one.
port_of() { # DIR [PORT]
  if [ ! -s "$1/port" ]; then
    local port=${2:-0}
    [ "$port" != 0 ] || port=$(free_port)
    echo "$port" >"$1/port"
  fi
  cat "$1/port"
}

# Waits until a command succeeds, for that many tenths of a second.
wait_for() { # TENTHS COMMAND...
  local left=$1
  shift
  until "$@"; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    sleep 0.1
  done
}

# Prints the live processes (dead ones may remain until they are reaped): the children of PID, or those of
# a process group.
processes() { # parent|group PID
  local column=2
  [ "$1" = parent ] || column=3
  if [ -r /proc/self/stat ]; then
    # pid (name) state parent group …; a process may end while it is read.
    cat /proc/[0-9]*/stat 2>/dev/null | awk '{ pid = $1; sub(/.*\) /, ""); print pid, $2, $3, $1 }' || true
  else
    ps -A -o pid= -o ppid= -o pgid= -o state=
  fi | awk -v column="$column" -v wanted="$2" '$column == wanted && $4 !~ /^[ZX]/ { print $1 }'
}

# The AMQP 0-9-1 handshake up to the answer to the password of guest: connection.tune, or a refusal.
amqp_answers() { # PORT
  at_most 10 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf "AMQP\0\0\11\1" >&3
    # A frame: type, channel (2 bytes), size (4), payload, end mark.
    take_frame() {
      local head size
      read -r -a head <<<"$(head -c 7 <&3 | od -An -v -tu1)"
      [ "${#head[@]}" = 7 ] && [ "${head[0]}" = 1 ] || exit 1
      size=$(((head[5] << 8) + head[6]))
      read -r -a method <<<"$(head -c $((size + 1)) <&3 | od -An -v -tu1 | tr "\n" " ")"
    }
    take_frame
    # connection.start-ok: no properties, PLAIN, \0guest\0guest, en_US
    printf "\1\0\0\0\0\0\44\0\12\0\13\0\0\0\0\5PLAIN\0\0\0\14\0guest\0guest\5en_US\316" >&3
    take_frame
    [ "${method[1]}" = 10 ] && [ "${method[3]}" = 30 ]
  ' amqp_answers "$1" 2>/dev/null
}

# The start of a PostgreSQL session as `postgres`, which succeeds when no password is required.
postgres_answers() { # PORT
  at_most 10 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf "\0\0\0\51\0\3\0\0user\0postgres\0database\0postgres\0\0" >&3
    [ "$(head -c 9 <&3 | od -An -v -tx1 | tr -d " ")" = 520000000800000000 ]
  ' postgres_answers "$1" 2>/dev/null
}

# Installs Debian packages; fails if that needs a password.
install_packages() { # PACKAGE...
  local as_root=()
  command -v apt-get >/dev/null || return 1
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  say "installing $* with apt-get"
  {
    ${as_root[@]+"${as_root[@]}"} apt-get update -qq &&
      ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@"
  } >&2 </dev/null || say "apt-get could not install $*"
}

# The browser that tests/it/browser.rs controls. The chromedriver of Chrome also works.
need_browser() {
  command -v chromedriver >/dev/null || {
    install_packages chromium chromium-driver
    command -v chromedriver >/dev/null
  } || die "there is no chromedriver; on Debian: apt-get install chromium chromium-driver"
}

need_compilers() {
  command -v cargo >/dev/null || die "Rust is not installed; get it from https://rustup.rs"
  # The crates ring and libsqlite3-sys are partly in C.
  command -v cc >/dev/null || {
    install_packages gcc libc6-dev
    command -v cc >/dev/null
  } || die "there is no C compiler; on Debian: apt-get install gcc libc6-dev"
}

# Sets `relay` to the program: $ORDER_RELAY if it is set, otherwise what is built now. (The tests build it as well, with
# other features of the libraries: building it again without tests takes minutes.)
find_relay() {
  if [ -n "${ORDER_RELAY:-}" ]; then
    relay=$ORDER_RELAY
  else
    cargo build --locked --quiet
    relay=${CARGO_TARGET_DIR:-target}/debug/order-relay
  fi
  relay=$(realpath "$relay")
}

# A server of a private ERP: its process is named in DIR/pid, and it answers at the address in DIR/url.
server_is_alive() { # DIR
  [ -s "$1/pid" ] && kill -0 "$(cat "$1/pid")" 2>/dev/null
}

# Any answer counts, also a refusal.
server_answers() { # DIR
  curl --silent --max-time 5 --output /dev/null "$(cat "$1/url")/"
}

server_start() { # DIR COMMAND...
  local dir=$1
  shift
  ! server_is_alive "$dir" || return 0
  setsid "$@" </dev/null >"$dir/server.log" 2>&1 &
  echo $! >"$dir/pid"
  for _ in $(seq 240); do
    ! server_answers "$dir" || return 0
    server_is_alive "$dir" || break
    sleep 0.5
  done
  tail -n 5 "$dir/server.log" >&2
  die "$1 does not answer at $(cat "$dir/url")"
}

server_stop() { # DIR
  server_is_alive "$1" || return 0
  local pid
  pid=$(cat "$1/pid")
  kill -CONT "$pid" && kill "$pid"
  for _ in $(seq 100); do
    server_is_alive "$1" || break
    sleep 0.1
  done
  ! server_is_alive "$1" || kill -9 "$pid"
  rm -f "$1/pid"
}

need_for_servers() {
  command -v python3 >/dev/null || die "python3 is not installed; on Debian: apt-get install python3 python3-venv"
  command -v curl >/dev/null || die "curl is not installed; on Debian: apt-get install curl"
}
