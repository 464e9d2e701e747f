# shellcheck shell=bash
# Parts of a long check that run side by side. Sourced, not run.
#   part NAME COMMAND…   runs it with its output apart, and shows that whole at its end: of parts that fail, last of all
#   beside FUNCTION…     runs functions that call `part` side by side, and returns when all of them have ended
#   conclude             what each part took; of those that failed the output, and in the end what each failed test said
# A part that fails keeps no other one from running.

outputs=$PWD/target/outputs
rm -rf "$outputs"
mkdir -p "$outputs"
groups=()

part() {
    local name=$1 began=$SECONDS
    shift
    "$@" >"$outputs/$name" 2>&1 </dev/null &
    if wait $!; then
        # One at a time.
        {
            flock 9
            printf '\n=== %s: passed after %s s\n' "$name" $((SECONDS - began))
            cat "$outputs/$name"
        } 9>"$outputs/.lock"
    else
        printf '\n=== %s: FAILED after %s s; what it wrote comes last\n' "$name" $((SECONDS - began))
        : >"$outputs/$name.failed"
    fi
    printf '%6s s  %s\n' $((SECONDS - began)) "$name" >>"$outputs/.times"
}

# Each has a process group of its own, so that all of it can be ended.
start() {
    set -m
    "$@" &
    set +m
    groups+=($!)
}

end_groups() {
    local group
    for group in ${groups[@]+"${groups[@]}"}; do
        kill -- "-$group" 2>/dev/null || true
    done
}
trap end_groups EXIT
trap 'exit 130' INT TERM

beside() {
    local track
    for track; do
        start "$track"
    done
    await
}

await() {
    local group
    for group in ${groups[@]+"${groups[@]}"}; do
        wait "$group" || fail "a part was not run"
    done
    groups=()
}

# For what needs no answer in time: it takes what others leave of the machine. Tests of timeouts do not notice it.
give_way() { renice -n "$1" -p "$BASHPID" >/dev/null || true; }

# Of a test binary's output, the failed tests, each with the message of its panic: logs of servers follow that, and hide it.
failed_tests() {
    awk '
        /^---- .* stdout ----$/ { name = $2; next }
        /^failures:$/ { name = "" }
        name != "" && /^thread .* panicked at / { printf "\n%s\n    %s\n", name, $0; left = 15; next }
        /^(stack backtrace:|note: |--- log of )/ { left = 0 }
        left > 0 && NF { print "    " substr($0, 1, 400); left-- }
    ' "$1"
}

conclude() {
    local failed=() file name said
    for file in "$outputs"/*.failed; do
        [ -e "$file" ] || continue
        name=$(basename "$file" .failed)
        failed+=("$name")
        printf '\n=== %s\n' "$name"
        cat "$outputs/$name"
    done
    printf '\n=== what it took\n'
    sort -rn "$outputs/.times"
    printf '%6s s  in all\n' "$SECONDS"
    [ ${#failed[@]} != 0 ] || return 0
    for name in "${failed[@]}"; do
        said=$(failed_tests "$outputs/$name")
        printf '\n=== %s failed: %s\n' "$name" "${said:-$(tail -n 20 "$outputs/$name" | cut -c 1-400)}"
    done
    fail "failed: ${failed[*]}"
}
