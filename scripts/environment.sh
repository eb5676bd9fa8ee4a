# Sourced by the other scripts: `environment demo|bench|test` makes .venv as they need it, and nothing if it is made.
# The current directory is the project's from here on. $python is the interpreter to use.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python

say() { echo "$(basename "$0"): $*" >&2; }

# The first interpreter that is new enough and can make virtual environments. PYTHON= names another one.
find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 python}; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    say "no Python 3.11 or newer with the venv module was found${PYTHON:+ at $PYTHON}."
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
