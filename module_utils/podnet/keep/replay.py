"""The script that replays a network's boot files: at boot, and whenever drift is to be repaired.

It is plain POSIX sh with iproute2 and nft, so a host can rebuild its networks without podnet and
Python. A host has one copy, which serves all its networks.
"""

from __future__ import annotations

from ..backends.registry import MAIN_KINDS
from .files import STATE
from .lock import DIRECTORY, REPLAY

PATH = STATE + "/replay"

_TEMPLATE = r"""#!/bin/sh
# Made by podnet. Brings a network of podnet into the state that its boot files describe:
#
#   sh @STATE/replay NAME [boot|wait]
#   sh @STATE/replay NAME health [FILE]
#
# Every line of those files may be replayed at any time; what is right already is not touched. It
# tells what it changed, and nothing when there was nothing to do. It ends with 0 when all stands,
# with 75 when a run of podnet is at work, else with 1. With `boot` it tries for some seconds, with
# `wait` until all stands. With `health` it changes nothing and tells Prometheus what it finds.
set -uf
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
name=$1
top=@STATE/$name
mode=${2:-}
umask 022
mkdir -p @RUN

# As long as it takes: a link, an address or a lease may come minutes after the boot. What is told
# is told once.
if [ "$mode" = wait ]; then
  tries=0
  until sh "$0" "$name"; do
    # A reset takes the files away.
    [ -e "$top/boot" ] || exit 0
    tries=$((tries + 1))
    [ $tries -lt 60 ] && sleep 2 || sleep 10
  done
  # The unit that failed at boot is right from now on.
  [ ! -d /run/systemd/system ] || systemctl start --no-block "podnet@$name.service"
  exit 0
fi

# Whoever can open the lock can hold it (flock(2)).
[ -e "@RUN/$name.lock" ] || (umask 077 && : >>"@RUN/$name.lock")

# One at a time: a run of podnet holds this lock, and afterwards leaves boot files of its own.
exec 9>>"@RUN/$name.lock"
flock -w 60 9 || { echo "a run of podnet holds the network; nothing replayed"; exit 75; }
# Who removes the network takes the lock away, too.
[ "@RUN/$name.lock" -ef /proc/$$/fd/9 ] || exit 0
echo "@HOLDER $$" >"@RUN/$name.lock"
# A change that waits for its confirmation is undone by a timer of its own.
[ ! -e "@RUN/$name.rollback" ] || [ "$mode" = health ] || exit 75

# The link moves when a run writes a new state; from here on all files are of one state.
cd -P "$top/boot" 2>/dev/null || exit 0
seen=@RUN/$name.seen

# An interface of the host's own may have another name after a boot. So the files name it by the
# address that it serves: `underlay` has FAMILY ADDRESS NAME, and @FAMILY stands for the interface.
find_underlay() {
  names='' keys='' absent=''
  [ -s underlay ] || return 0
  while read -r family address usual; do
    device=$(ip -o addr show to "$address" | awk '{ print $2; exit }')
    case $device in
    '' | *[!A-Za-z0-9_.-]*) absent="$absent $address (it was on $usual)" ;;
    *)
      names="$names s,@$family,$device,g;"
      # In a sysctl's name, a dot of the interface's is a slash.
      keys="$keys s,@$family,$(printf %s "$device" | tr . /),g;"
      ;;
    esac
  done <underlay
}

# Print a file with today's names, without the lines about an interface that is not there.
named() {
  case $1 in sysctl.conf) sed "$keys /@[46]/d" "$1" ;; *) sed "$names /@[46]/d" "$1" ;; esac
}

devices() { sed -n 's/^link add \([^ ]*\) .*/\1/p' devices.batch; }

setting() { echo "/proc/sys/$(printf %s "$1" | tr ./ /.)"; }

chain() { echo "$1 $2 $3"; }

# Put what is missing first into a chain of others; see podnet_manage_forward.
accept() {
  while read -r tool rest; do
    command -v "$tool" >/dev/null || continue
    case $tool in
    nft)
      # No such chain: its owner has not come yet, and nothing is dropped by it.
      rules=$(nft list chain $(chain $rest) 2>/dev/null) || continue
      mark=${rest#*comment }
      case $rules in *"$mark"*) ;; *) echo "insert rule $rest" | nft -f - ;; esac || return 1
      ;;
    *)
      "$tool" -w -C $rest 2>/dev/null || "$tool" -w -I $rest || return 1
      ;;
    esac
  done
}

# Chains of others that came since the last run of podnet, or changed their policy, and drop what
# they do not know: print the accepts that pods need there, as in the file.
dropping() {
  [ -s forward ] || return 0
  read -r bridge families <forward
  comment="-m comment --comment podnet:$name -j ACCEPT"
  nft list chains | awk -v name="$name" '
    $1 == "table" { family = $2; table = $3 }
    $1 == "chain" { chain = $2 }
    /^\t*type filter hook forward .*policy drop;/ && family ~ /^(ip|ip6|inet)$/ &&
      !(family == "inet" && (table == name || table == "firewalld")) &&
      (table chain) ~ /^[A-Za-z0-9_.\/-]+$/ { print family, table, chain }' |
    while read -r family table chain; do
      tool=nft
      case "$family $table $chain" in
      "ip filter FORWARD") tool=iptables-nft ;;
      "ip6 filter FORWARD") tool=ip6tables-nft ;;
      esac
      case "$family $families" in "ip 6" | "ip6 4") continue ;; esac
      if [ $tool = nft ] || ! command -v $tool >/dev/null; then
        rule="nft $family $table $chain"
        echo "$rule iifname \"$bridge\" accept comment \"podnet:$name from $bridge\""
        echo "$rule oifname \"$bridge\" accept comment \"podnet:$name to $bridge\""
      else
        echo "$tool FORWARD -i $bridge $comment"
        echo "$tool FORWARD -o $bridge $comment"
      fi
    done
  for family in $families; do
    case $family in 4) ip=ip ;; *) ip=ip6 ;; esac
    grep -qx filter "/proc/net/${ip}_tables_names" || continue
    tool=${ip}tables-legacy
    if ! command -v $tool >/dev/null; then
      tool=${ip}tables
      $tool -V | grep -q nf_tables && continue
    fi
    $tool -w -S FORWARD | grep -qx -e "-P FORWARD DROP" || continue
    echo "$tool FORWARD -i $bridge $comment"
    echo "$tool FORWARD -o $bridge $comment"
  done
} 2>/dev/null

# All accepts, each once.
accepts() {
  { cat accepts; dropping; } 2>/dev/null | awk '!seen[$0]++'
}

# All addresses that any network namespace has.
everywhere() {
  {
    ls /proc | sed -n 's,^[0-9][0-9]*$,/proc/&/ns/net,p'
    for place in /run/netns /run/docker/netns; do ls "$place" | sed "s,^,$place/,"; done
  } | xargs -r stat -L -c '%i %n' | awk '!seen[$1]++ { print $2 }' |
    while read -r namespace; do nsenter --net="$namespace" ip -o addr show; done |
    awk '{ sub("/.*", "", $4); print $4 }'
} 2>/dev/null

# Names of host-local's files that are addresses.
ipv4='^([0-9]+\.){3}[0-9]+$' ipv6='^[0-9a-f:]*:[0-9a-f:.]*$'

# host-local keeps the addresses of pods that ended with the last boot. They are freed once in a
# boot, before anything can have attached a pod: as long as the bridge is missing, which the plugin
# makes before it asks for an address. So it does not matter whether the clock is right.
free_leases() {
  [ -s leases ] || return 0
  read -r bridge directory <leases
  freed="@RUN/$name.leases"
  now=$(cat /proc/sys/kernel/random/boot_id)
  [ ! -e "$freed" ] || [ "$(cat "$freed")" != "$now" ] || return 0
  if [ -d "$directory" ]; then
    (
      # The lock that host-local takes.
      exec 8>>"$directory/lock"
      flock -w 10 8 || { echo "$directory: locked; no address freed"; exit 1; }
      # In this order: what a pod of this boot holds is not among them, or there is a bridge.
      given=$(ls "$directory" | grep -E "$ipv4|$ipv6")
      ! ip link show dev "$bridge" >/dev/null 2>&1 || exit 0
      [ -n "$given" ] && command -v nsenter >/dev/null || exit 0
      gone=$(echo "$given" | grep -vxF -e "$(everywhere)")
      set -- $gone
      [ $# -gt 0 ] || exit 0
      echo "$gone" | sed "s,^,$directory/," | xargs rm -f
      echo "freed $# addresses of pods that ended with the last boot:" $(echo "$gone" | head -n 5) \
        $([ $# -le 5 ] || echo ...)
    ) || return 0
  fi
  echo "$now" >"$freed"
}

# A device on one line, without what follows from the pods that come and go.
device() {
  ip -o link show dev "$1" 2>/dev/null | sed 's/^[0-9]*: /link /; s/NO-CARRIER,//; s/,LOWER_UP//
    s/ state [A-Z]*//; s/ qdisc [a-z]*//; s/\\ */ /g'
}

# Everything that the files are about, in the tools' own words; nothing for what is not there.
show() {
  named sysctl.conf | while IFS=' =' read -r key value; do
    echo "sysctl $key = $(cat "$(setting "$key")")"
  done
  for device in $(sed -n 's/^link add \([^ ]*\) .*/\1/p' devices.batch); do
    device "$device"
    ip -o addr show dev "$device" scope global | sed 's/^[0-9]*: /addr /; s/\\.*//; s/  */ /g'
    ip -4 route show dev "$device" proto kernel | sed "s/^/route /; s/ linkdown//"
    ip neigh show dev "$device" nud permanent | sed "s/^/neigh $device /"
    @SHOW
  done
  ip -4 route show proto 112 | sed 's/^/route /; s/ linkdown//g'
  ip -6 route show proto 112 | sed 's/^/route /; s/ linkdown//g'
  # -s: without what its rules have counted. Sets have no order.
  nft -s list table inet "$name" | awk '
    /elements = [{]/ { inside = 1 }
    inside {
      last = /[}]/
      gsub(/elements =|[{},]/, " ")
      for (at = 1; at <= NF; at++) print "element " $at | "sort"
      inside = !last
      next
    }
    { print }
    END { fflush(); close("sort") }'
  accepts | while read -r tool rest; do
    case $tool in
    nft)
      rules=$(nft list chain $(chain $rest)) &&
        echo "nft $rest: $(echo "$rules" | grep -cF "${rest#*comment }")"
      ;;
    *) "$tool" -w -C $rest && echo "$tool $rest" || echo "no $tool $rest" ;;
    esac
  done
  [ ! -s "$top/endpoints.batch" ] ||
    sed -n 's/^link add \([^ ]*\) .* netns \(.*\)/\1 \2/p' "$top/endpoints.batch" |
    while read -r device endpoint; do
      device "$device"
      ip -n "$endpoint" -o addr show dev eth0 scope global |
        sed "s/^[0-9]*: /addr in $endpoint: /; s/\\\\.*//; s/  */ /g"
      ip -n "$endpoint" -4 route show default | sed "s/^/route in $endpoint: /"
      ip -n "$endpoint" -6 route show default | sed "s/^/route in $endpoint: /"
    done
  true
} 2>/dev/null

# Leave out what would fail or needlessly disturb: a device or namespace that is there already,
# and a MAC that is right (setting it again makes the kernel forget neighbours).
missing() {
  while read -r line; do
    set -- $line
    case $line in
    "link add "*) ip link show dev "$3" >/dev/null 2>&1 && continue ;;
    "netns add "*) [ -e "/run/netns/$3" ] && continue ;;
    "link set dev "*" address "*) ip -o link show dev "$4" 2>&1 | grep -q " $6 " && continue ;;
    esac
    echo "$line"
  done
}

# Those of devices that are not there yet are left for a second turn.
settings() {
  named sysctl.conf | while IFS=' =' read -r key value; do
    file=$(setting "$key")
    [ -e "$file" ] || continue
    [ "$(cat "$file")" = "$value" ] || echo "$value" >"$file" || exit 1
  done
}

@FUNCTIONS
# br_netfilter makes packets of the bridge pass iptables. What is built in has no such directory.
modules() {
  while read -r module; do
    [ -d "/sys/module/$module" ] || modprobe "$module" || return 1
  done <modules
}

replay() {
  status=0
  settings || status=1
@MAKE
  missing <devices.batch | ip -force -batch - || status=1
  settings || status=1
  @REPLAY
  [ ! -s routes.batch ] || named routes.batch | ip -force -batch - || status=1
  [ ! -s tables.nft ] || nft -f tables.nft || status=1
  accepts | accept || status=1
  # Only now, because chains that drop see bridged packets, too, from here on.
  [ ! -s modules ] || { modules && settings; } || status=1
  if [ -s "$top/endpoints.batch" ]; then
    missing <"$top/endpoints.batch" | ip -force -batch - || status=1
    # Not -force: ip goes on with the rest in two processes when it cannot enter a namespace.
    ip -batch "$top/endpoints-inside.batch" || status=1
  fi
  [ -z "$absent" ] || { echo "no interface has$absent now"; status=1; }
  return $status
}

# Whether all routes and addresses of the files are in what `show` has printed.
complete() {
  { named routes.batch; cat devices.batch; printf '%s\n' "$1"; } | awk '
    function whole(to) { return to ~ /\// ? to : to (to ~ /:/ ? "/128" : "/32") }
    $2 == "replace" && $1 ~ /^(route|addr)$/ { wanted[$1, whole($3)] = 1; next }
    $1 == "route" { delete wanted[$1, whole($2)] }
    $1 == "addr" { delete wanted[$1, $4] }
    END { for (one in wanted) exit 1 }'
}

gauge() {
  metric=podnet_host_$1
  printf '# HELP %s %s\n# TYPE %s gauge\n' $metric "$2" $metric
  shift 2
  # The rest is pairs: further labels, and a value.
  while [ $# -gt 0 ]; do
    echo "$metric{network=\"$name\"$1} $2"
    shift 2
  done
}

health() {
  now=$(show)
  [ -z "$absent" ] && complete "$now" && stands=1 || stands=0
  gauge complete "Whether all addresses and routes of the pod network are there" "" $stands
  # What the last replay of these very files left; or what stood when they were looked at first,
  # which a run of podnet asks for when it ends.
  left=$seen
  [ "$(head -n 1 "$left" 2>/dev/null)" = "$PWD" ] || left=$seen.left
  [ "$(head -n 1 "$left" 2>/dev/null)" = "$PWD" ] || printf '%s\n%s\n' "$PWD" "$now" >"$left"
  differs=$(printf '%s\n%s\n' "$PWD" "$now" | diff "$left" - | grep -c '^[<>]')
  gauge drift_lines "Lines of what stands that differ from what podnet left" "" "$differs"
  if [ -s leases ]; then
    read -r bridge directory <leases
    gauge leases "Addresses that host-local has given to pods" \
      ',family="4"' "$(ls "$directory" 2>/dev/null | grep -cE "$ipv4")" \
      ',family="6"' "$(ls "$directory" 2>/dev/null | grep -cE "$ipv6")"
  fi
  [ -e "@RUN/$name.rollback" ] && armed=1 || armed=0
  gauge rollback_armed "Whether a change waits for its confirmation, or is undone" "" $armed
  gauge changed_time_seconds "When a run of podnet last changed what boots" \
    "" "$(stat -c %Y "$top/boot")"
  gauge checked_time_seconds "When this was written" "" "$(date +%s)"
}

if [ "$mode" = health ]; then
  find_underlay
  if [ -n "${3:-}" ]; then
    # A file that is there is whole.
    health >"$3.new" && mv "$3.new" "$3" || { rm -f "$3.new"; exit 1; }
  else
    health
  fi
  exit
fi

free_leases
find_underlay
before=$(show)
# The state that the last replay of these very files ended in needs no other.
state="$PWD
$before"
[ -e "$seen" ] && [ "$(cat "$seen")" = "$state" ] && exit 0

# At boot, what the host's own network lacks is nearly always there a moment later.
tries=5
[ "$mode" = boot ] || tries=1
until said=$(replay 2>&1); do
  tries=$((tries - 1))
  [ $tries -gt 0 ] || break
  sleep 1
  find_underlay
done
status=$((tries == 0))
if [ $status -ne 0 ]; then
  # What is told once need not be told at each try.
  [ -e "$seen.failed" ] && [ "$(cat "$seen.failed")" = "$said" ] ||
    printf '%s\n' "$said" "not everything could be set; see the lines above" | tail -n 40
  printf '%s\n' "$said" >"$seen.failed"
else
  rm -f "$seen.failed"
fi

after=$(show)
if [ "$before" = "$after" ]; then
  # Only what this replay found and left needs no other: what it has just set, whatever configures
  # the host's links may be taking away at this moment.
  [ $status -ne 0 ] || ! complete "$after" || printf '%s\n%s\n' "$PWD" "$after" >"$seen"
  exit $status
fi
# One line for each object: `<` what was found, `>` what stands there now.
printf '%s\n' "$before" >"$seen.before"
printf '%s\n' "$after" | diff "$seen.before" - | sed -n 's/^[<>] /&/p' |
  awk 'NR <= 40 { print } END { if (NR > 40) print "... and " NR - 40 " lines more" }'
rm -f "$seen.before"
exit $status
"""

#: It reads the files that `boot.render` and `state.endpoint_diff.boot_files` make; it skips empty
#: ones.
SCRIPT = (
    _TEMPLATE.replace(
        "@FUNCTIONS\n",
        "".join(f"{kind.functions}\n" for kind in MAIN_KINDS.values() if kind.functions),
    )
    .replace("@SHOW", "\n    ".join(kind.show for kind in MAIN_KINDS.values()))
    .replace("@MAKE\n", "".join(f"  {kind.make}\n" for kind in MAIN_KINDS.values() if kind.make))
    .replace("@REPLAY", "\n  ".join(kind.replay for kind in MAIN_KINDS.values()))
    .replace("@STATE", STATE)
    .replace("@RUN", DIRECTORY)
    .replace("@HOLDER", REPLAY)
)
