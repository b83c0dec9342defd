# Runs make targets one after the other, continues after a failure, and prints a summary. Sourced, never run.

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
summary=()
failed=0

# Run one make target, with its arguments.
check() {
    local name="make $*" log="$logs/${*// /-}" started=$SECONDS verdict=ok
    echo
    echo "### $name"
    # pytest fails when it finds no test at all (exit code 5), and so does the check
    if ! make "$@" 2>&1 | tee "$log"; then
        verdict=FAILED
        failed=1
    fi
    summary+=("$(printf '%-6s %-26s %4d s  %s' "$verdict" "$name" $((SECONDS - started)) "$(closing_line "$log")")")
}

# Note that a make target was skipped, and why.
skip() {
    summary+=("$(printf '%-6s %-26s %4s    %s' skip "make $1" - "$2")")
}

# pytest's own count of what passed, if it printed one
closing_line() {
    { grep -E '^=+ .* in [0-9.]+s.*=+$' "$1" || true; } | tail -n 1 | sed -e 's/^=* *//' -e 's/ *=*$//'
}

# Print the result of each, and end with a failure if one failed.
sum_up() {
    echo
    echo "### summary after $SECONDS s"
    printf '%s\n' "${summary[@]}"
    exit "$failed"
}
