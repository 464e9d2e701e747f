# Waits for its standard input to close, which happens when the process that started it is gone for whatever
# reason; then stops the processes it was told to watch, and removes the directory $1 if one is given.

# Whether the process $1 runs that was started at $2, in ticks of the kernel: numbers are reused. Without /proc the
# number has to do.
alive() {
    [ -r /proc/self/stat ] || {
        kill -0 "$1" 2>/dev/null
        return
    }
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    expected=$2
    # The name may hold anything. Behind it the state is the first field, the start the twentieth.
    set -- ${line##*) }
    # Ended but not waited for is as good as gone.
    [ "$1" != Z ] && [ "${20}" = "$expected" ]
}
send() { if alive "$2" "$3"; then kill -s "$1" "$2" 2>/dev/null; fi; }

# Entries have the form PID:START:SIGNAL.
watched=
while read -r word pid started signal; do
    case $word in
    watch) watched="$watched $pid:$started:$signal" ;;
    forget)
        kept=
        for entry in $watched; do
            [ "${entry%%:*}" = "$pid" ] || kept="$kept $entry"
        done
        watched=$kept
        ;;
    esac
done
for entry in $watched; do
    process=${entry%:*}
    send "${entry##*:}" "${process%:*}" "${process#*:}"
done
for entry in $watched; do
    process=${entry%:*}
    pid=${process%:*}
    started=${process#*:}
    tenths=0
    while alive "$pid" "$started"; do
        [ "$tenths" -lt 50 ] || send KILL "$pid" "$started"
        [ "$tenths" -lt 60 ] || break
        tenths=$((tenths + 1))
        sleep 0.1
    done
done
[ -z "${1-}" ] || rm -rf -- "$1"
