# Shared by the scripts next to it: find a Python, find or fetch uv. Sourced, never run.

# Trust what the machine trusts, as pip does: many networks have a certificate authority of their own.
export UV_SYSTEM_CERTS=1

# The first Python that fits: $PYTHON, then by name. A name on PATH proves nothing (version managers leave
# stubs), so each candidate is started.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# uv from PATH, else one installed once into .tools. Prints its path; fails where it cannot be installed, and then
# the callers use pip instead.
find_uv() {
    if [ -n "${NO_UV:-}" ]; then
        return 1
    fi
    if command -v uv; then
        return 0
    fi
    local python=$1 home=.tools/uv
    if [ ! -x "$home/bin/uv" ]; then
        echo "fetching uv into $home" >&2
        rm -rf "$home"
        "$python" -m venv "$home" >&2 || return 1
        "$home/bin/python" -m pip install --quiet --quiet --disable-pip-version-check 'uv>=0.8' >&2 || return 1
    fi
    echo "$PWD/$home/bin/uv"
}
