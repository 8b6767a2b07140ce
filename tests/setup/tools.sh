# What the programs need, as questions: has_redis, has_ffmpeg, ... Read by the scripts beside it.

tools="${CARGO_TARGET_DIR:-target}/tools"
case "$tools" in /*) ;; *) tools="$(pwd)/$tools" ;; esac
PATH="$tools/bin:${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export PATH

has() { command -v "$1" >/dev/null 2>&1; }

# at_least 6.2 7.0.15
at_least() {
    [ -n "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

has_redis() { has redis-server && at_least 6.2 "$(redis-server --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p')"; }
has_ffmpeg() { has ffmpeg; }
has_cc() { has cc; }
has_node() { has npm && has node && at_least 18 "$(node --version | tr -d v)"; }
has_python() { has python3; }
has_nextest() { has cargo-nextest; }
has_setpriv() { has setpriv; }
has_promtool() { has promtool; }
has_openssl() { has openssl; }
has_pip() { has python3 && python3 -m pip --version >/dev/null 2>&1; }
has_chromium() { has chromium || has chromium-browser || has google-chrome; }
# Started, as a program for another system would be found as well.
has_redis_6() { redis-server-6.2 --version >/dev/null 2>&1; }
has_valkey_9() { valkey-server-9 --version >/dev/null 2>&1; }

has_postgres() {
    has initdb && has postgres && return
    for initdb in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$initdb" ] && return
    done
    return 1
}

# Names are drawn in Latin and Cyrillic letters.
has_font() {
    [ -n "${ONETAKE_VIDEOS__FONT:-}" ] && return
    has fc-list && [ -n "$(fc-list :lang=ru family 2>/dev/null | head -n 1)" ] && return
    [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ]
}

# The system does not know a font that was only unpacked.
unpacked_font="$tools/unpacked/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
if [ -e "$unpacked_font" ] && ! has_font; then
    export ONETAKE_VIDEOS__FONT="$unpacked_font"
fi
