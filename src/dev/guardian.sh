# Waits for its standard input to close, which happens when the process that started it is gone for whatever
# reason; then stops the processes it was told to watch, and removes the directory $1 if one is given.
alive() {
    kill -0 "$1" 2>/dev/null || return 1
    # Ended but not waited for is as good as gone.
    if [ -r "/proc/$1/stat" ] && read -r state <"/proc/$1/stat" 2>/dev/null; then
        case $state in *") Z "*) return 1 ;; esac
    fi
}

watched=
while read -r word pid signal; do
    case $word in
    watch) watched="$watched $pid:$signal" ;;
    forget)
        kept=
        for entry in $watched; do
            [ "${entry%:*}" = "$pid" ] || kept="$kept $entry"
        done
        watched=$kept
        ;;
    esac
done
for entry in $watched; do
    kill -s "${entry#*:}" "${entry%:*}" 2>/dev/null
done
for entry in $watched; do
    tenths=0
    while alive "${entry%:*}"; do
        [ "$tenths" -lt 50 ] || kill -s KILL "${entry%:*}" 2>/dev/null
        [ "$tenths" -lt 60 ] || break
        tenths=$((tenths + 1))
        sleep 0.1
    done
done
[ -z "${1-}" ] || rm -rf -- "$1"
