#!/bin/sh
# Installs what comes from the system and is not there yet: `setup/system.sh [server] [python] [gdal]` (default: all).
# Debian 12 and 13, as root or with sudo. Elsewhere it says what is missing and the line that installs it.
set -eu
cd "$(dirname "$0")"
say() { printf '%s\n' "$*" >&2; }

server_ready() { # a PostgreSQL 15 to 18 with PostGIS and pgvector
    [ -z "${GEOSEARCH_DATABASE_URL:-}${GEOSEARCH_TEST_SERVER:-}" ] || return 0 # somebody else's
    for bin in ${GEOSEARCH_SERVER_BIN:-/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin \
        /usr/local/opt/postgresql@*/bin /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin "$(pg_config --bindir 2>/dev/null)"}; do
        [ -x "$bin/initdb" ] && [ -x "$bin/pg_ctl" ] && [ -x "$bin/pg_config" ] || continue
        case "$("$bin/pg_config" --version)" in
            "PostgreSQL 15"* | "PostgreSQL 16"* | "PostgreSQL 17"* | "PostgreSQL 18"*) ;;
            *) continue ;;
        esac
        share=$("$bin/pg_config" --sharedir)/extension
        [ -f "$share/postgis.control" ] && [ -f "$share/vector.control" ] && return 0
    done
    return 1
}
gdal_ready() { command -v ogr2ogr >/dev/null && command -v ogrinfo >/dev/null; }
python_ready() { ./find-python.sh >/dev/null; }

missing=
for part in "${@:-server python gdal}"; do
    for name in $part; do # the default is one word of three
        "${name}_ready" || missing="$missing $name"
    done
done
[ -n "$missing" ] || exit 0

ID= VERSION_ID= ID_LIKE=
[ -r /etc/os-release ] && . /etc/os-release
case "$ID-$VERSION_ID" in
    debian-12) major=15 ;;
    debian-13) major=17 ;;
    *) major= ;;
esac

explain() { # what is missing, and the line that installs it
    say "geosearch needs, and this machine lacks:"
    for name in $missing; do
        case "$name" in
            server) say "  - PostgreSQL 15 to 18 with PostGIS and pgvector 0.8 or newer" ;;
            python) say "  - Python 3.11 to 3.13 with its venv module" ;;
            gdal) say "  - ogrinfo and ogr2ogr (only for the tests)" ;;
        esac
    done
    say "Install it:"
    case " $ID $ID_LIKE " in
        *" debian "*) if [ -n "$major" ]; then
            say "  as root, or with sudo: setup/system.sh"
        else
            say "  sudo apt-get install postgresql-common python3-venv gdal-bin"
            say "  sudo /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh   # PGDG, the PostgreSQL project's packages"
            say "  sudo apt-get install postgresql-17 postgresql-17-postgis-3 postgresql-17-pgvector"
        fi ;;
        *" fedora "* | *" rhel "*)
            say "  with PGDG's repository: sudo dnf install postgresql17-server postgis35_17 pgvector_17 python3.12 gdal" ;;
        *) if [ "$(uname)" = Darwin ] || command -v brew >/dev/null; then
            say "  brew install postgresql@17 postgis pgvector python@3.13 gdal"
        else
            say "  PostgreSQL, PostGIS and pgvector from PGDG or your system, Python from your system"
        fi ;;
    esac
    case "$missing" in *server*)
        say "Or without installing a server: docker compose run --rm migrate"
        say "  and GEOSEARCH_DATABASE_URL=postgresql://geosearch:geosearch@localhost:5433/geosearch" ;;
    esac
    exit 1
}

[ -n "$major" ] || explain
if [ "$(id -u)" != 0 ]; then
    # Without a terminal sudo must not wait for a password.
    if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        say "Installing with sudo:$missing"
        # shellcheck disable=SC2086
        exec sudo env PYTHON="${PYTHON:-}" GEOSEARCH_SERVER_BIN="${GEOSEARCH_SERVER_BIN:-}" ./system.sh $missing
    fi
    explain
fi

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
work=$(mktemp -d)
trap 'rm -rf "$work" "${dropin:-$work}"' EXIT
trap 'exit 1' INT TERM
unset MAKEFLAGS MFLAGS MAKELEVEL # those of our own Makefile are not meant for pgvector's
apt() { apt-get -q -y -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"; }
install() { # the lists may be missing or old: then, and only then, they are read anew
    apt install --no-install-recommends "$@" >"$work/log" 2>&1 && return
    apt update >"$work/log" 2>&1 && apt install --no-install-recommends "$@" >"$work/log" 2>&1 && return
    tail -n 20 "$work/log" >&2
    say "apt-get install $* failed; see above."
    exit 1
}

install_vector() { # pgvector: a package, or Debian's own source package of the next release
    if apt-cache policy "postgresql-$major-pgvector" | grep -q 'Candidate: [0-9]'; then
        install "postgresql-$major-pgvector"
        return
    fi
    say "This Debian has no package of pgvector: building it from the source package of the next release"
    install "postgresql-server-dev-$major" gcc make libc6-dev dpkg-dev ca-certificates
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/parts" "$work/source"
    # The address is taken from the system's own list, which stays as it is: this one is private to three commands.
    if [ -f /etc/apt/sources.list.d/debian.sources ]; then
        sed -n '1,/^$/p' /etc/apt/sources.list.d/debian.sources |
            sed -e 's/^Types:.*/Types: deb-src/' -e 's/^Suites:.*/Suites: trixie/' >"$work/parts/next.sources"
    else
        sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\)  *bookworm  *main.*/deb-src \1\2 trixie main/p' \
            /etc/apt/sources.list | head -n 1 >"$work/parts/next.list"
    fi
    chmod -R a+rX "$work" # apt downloads as its own user
    apt_next() {
        apt -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts" \
            -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
    }
    (
        # OPTFLAGS: portable code (no -march=native), as the files may be copied to another machine with an image.
        config=/usr/lib/postgresql/$major/bin/pg_config
        cd "$work/source" && apt_next update && apt_next source --only-source pgvector && cd pgvector-*/ &&
            make with_llvm=no OPTFLAGS="" PG_CONFIG="$config" -j"$(nproc)" &&
            make install with_llvm=no PG_CONFIG="$config"
    ) >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        say "pgvector could not be built; see above."
        exit 1
    }
}

say "Installing system packages:$missing"
for name in $missing; do
    case "$name" in
        server)
            install postgresql-common
            # No cluster of the system's own: it would run as a service that nobody asked for.
            dropin=/etc/postgresql-common/createcluster.d/geosearch.conf
            mkdir -p "${dropin%/*}"
            echo "create_main_cluster = false" >"$dropin"
            install "postgresql-$major" "postgresql-$major-postgis-3" "postgresql-$major-postgis-3-scripts"
            rm -f "$dropin"
            server_ready || install_vector
            ;;
        python) install python3 python3-venv ;;
        gdal) install gdal-bin ;;
    esac
    "${name}_ready" || explain
done
