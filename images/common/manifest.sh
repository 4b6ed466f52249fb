#!/bin/sh
# Usage: manifest.sh FOLDER (in a RUN step of an engine's Dockerfile)
# Writes FOLDER/manifest.json: which engine an image holds, and the size and sha256 of every regular
# file below FOLDER, so that a copy of the image can be checked file by file. What it says comes from
# the build arguments that the labels are made of: ENGINE, VARIANT, VERSION, ACCELERATOR, FORMATS and
# MODES (words with commas between), TARGETOS and TARGETARCH. The same files give the same bytes.
set -eu
export LC_ALL=C
folder=$1

fail() {
    echo "manifest.sh: $*" >&2
    exit 1
}

for name in ENGINE VARIANT VERSION ACCELERATOR FORMATS MODES TARGETOS TARGETARCH; do
    eval "value=\${$name:-}"
    case $value in
    '' | *[!A-Za-z0-9._,+-]*) fail "the build argument $name is '$value'" ;;
    esac
done

cd "$folder"
rm -f manifest.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
find . -type f -print0 | sort -z >"$work/names"
xargs -0 -r sha256sum <"$work/names" >"$work/sums"
xargs -0 -r stat -c %s <"$work/names" >"$work/sizes"
# Names that sha256sum has to escape begin their line with a backslash: a line break or a backslash.
if grep -q '^\\' "$work/sums" || grep -q '[[:cntrl:]"]' "$work/sums"; then
    fail "a file's name has a character that does not belong into one"
fi

list() { printf '["%s"]' "$1" | sed 's/,/", "/g'; }

{
    printf '{\n  "schema": 1,\n'
    printf '  "engine": "%s",\n  "variant": "%s",\n  "version": "%s",\n' "$ENGINE" "$VARIANT" "$VERSION"
    printf '  "accelerator": "%s",\n  "platform": "%s/%s",\n' "$ACCELERATOR" "$TARGETOS" "$TARGETARCH"
    printf '  "formats": %s,\n  "modes": %s,\n' "$(list "$FORMATS")" "$(list "$MODES")"
    printf '  "files": ['
    # A line of sums is 64 digits, two spaces, ./ and the name.
    paste -d ' ' "$work/sizes" "$work/sums" | awk '
        {
            size = $1
            line = substr($0, length(size) + 2)
            printf "%s\n    {\"path\": \"%s\", \"size\": %s, \"sha256\": \"%s\"}", \
                separator, substr(line, 69), size, substr(line, 1, 64)
            separator = ","
        }
        END { if (NR) printf "\n  " }'
    printf ']\n}\n'
} >"$work/manifest.json"
cp "$work/manifest.json" manifest.json
chmod 0644 manifest.json
