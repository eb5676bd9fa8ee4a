# Sourced by the other scripts: `environment demo|bench|test` makes .venv as they need it, and nothing if it is made.
# The current directory is the project's from here on. $python is the interpreter to use.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python

say() { echo "$(basename "$0"): $*" >&2; }

# The newest Python that the project is tested on and that can make virtual environments: it has the most years of
# repairs before it. `python3` comes last, because it may be anything. PYTHON= names another one, newer ones too.
find_python() {
    newest=14
    [ -z "${PYTHON:-}" ] || newest=99
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
        if "$candidate" -c "import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $newest))" \
            >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    if [ -n "${PYTHON:-}" ]; then
        say "$PYTHON is no Python 3.11 or newer with the modules venv and ensurepip."
    else
        say "no Python 3.11, 3.12, 3.13 or 3.14 with the modules venv and ensurepip is on the PATH."
    fi
    say "Install one (on Debian and Ubuntu: python3 and python3-venv), or name it: PYTHON=/path/to/python3 $0"
    return 1
}

environment() {
    case $1 in
        demo) target=. satisfied_by="demo bench test" ;;
        bench) target='.[bench]' satisfied_by="bench test" ;;
        test) target='.[test,bench]' satisfied_by=test ;;
    esac
    # The folder is part of it, because a virtual environment does not survive a move.
    wanted="$(pwd) $(cat setup.cfg constraints.txt gateway/__init__.py | cksum)"
    for kind in $satisfied_by; do
        if [ "$(cat ".venv/installed-$kind" 2>/dev/null)" = "$wanted" ] && "$python" -c '' 2>/dev/null; then
            return
        fi
    done
    base=$(find_python)
    say "preparing .venv with $base (once, and again when the pinned versions change)"
    "$base" -m venv --clear .venv
    "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable "$target"
    echo "$wanted" >".venv/installed-$1"
}
