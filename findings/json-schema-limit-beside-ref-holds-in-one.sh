#!/usr/bin/env bash
# Version:   jsonschema 4.26.0 and jsonschema-rs 0.61.0 (PyPI; the second is the Rust crate), and ajv 8.20.0 (npm), each with
#            its default options. Needs `npm`.
# Input:     a schema in which a property is a `$ref` to an integer with `"maximum": 8` beside it, and the value 16: as draft-07,
#            in which many schemas of configuration files are written, and as 2020-12. Draft-07 says that all that stands beside
#            a `$ref` must be ignored; 2020-12 says that it holds as well.
# Behaviour: under draft-07 the two first ignore the limit, as the text asks, and ajv holds it. Nothing is printed by any of
#            them, ajv's strict mode included. A schema whose limit is tried in JavaScript accepts 16 everywhere else. Under
#            2020-12, or with the `$ref` inside an `allOf`, all three hold the limit.
# Seen:      2026-11-28
seen="16 with a maximum of 8 beside \$ref: draft-07 jsonschema valid, jsonschema-rs valid, ajv invalid; "
seen+="2020-12 jsonschema invalid, jsonschema-rs invalid, ajv invalid; "
seen+="draft-07 with allOf jsonschema invalid, jsonschema-rs invalid, ajv invalid"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile jsonschema==4.26.0 jsonschema-rs==0.61.0
npm install --silent --no-audit --no-fund --prefix "$scratch" ajv@8.20.0

draft_07=http://json-schema.org/draft-07/schema#
draft_2020_12=https://json-schema.org/draft/2020-12/schema
limited='"type":"object","properties":{"bits":{"$ref":"#/definitions/width","type":"integer","maximum":8}}'
wrapped=${limited/'"$ref":"#/definitions/width"'/'"allOf":[{"$ref":"#/definitions/width"}]'}
definitions='"definitions":{"width":{"type":"integer"}}'
echo "{\"\$schema\":\"$draft_07\",$limited,$definitions}" >"$scratch/draft-07.json"
echo "{\"\$schema\":\"$draft_2020_12\",$limited,$definitions}" >"$scratch/2020-12.json"
echo "{\"\$schema\":\"$draft_07\",$wrapped,$definitions}" >"$scratch/draft-07 with allOf.json"

cat >"$scratch/by_python.py" <<'PYTHON'
import json
import sys
import jsonschema
import jsonschema_rs

schema = json.load(open(sys.argv[1]))
of_python = jsonschema.validators.validator_for(schema)(schema).is_valid({"bits": 16})
of_rust = jsonschema_rs.validator_for(schema).is_valid({"bits": 16})
said = {True: "valid", False: "invalid"}
print(f"jsonschema {said[of_python]}, jsonschema-rs {said[of_rust]}")
PYTHON
cat >"$scratch/by_ajv.cjs" <<'JAVASCRIPT'
const schema = JSON.parse(require("node:fs").readFileSync(process.argv[2], "utf8"));
const { default: Ajv } = schema.$schema.includes("2020-12") ? require("ajv/dist/2020") : require("ajv");
console.log(`ajv ${new Ajv().validate(schema, { bits: 16 }) ? "valid" : "invalid"}`);
JAVASCRIPT

found="16 with a maximum of 8 beside \$ref:"
for kind in draft-07 2020-12 "draft-07 with allOf"; do
    by_python=$("$python" "$scratch/by_python.py" "$scratch/$kind.json" 2>&1)
    by_ajv=$(node "$scratch/by_ajv.cjs" "$scratch/$kind.json" 2>&1)
    found+=" $kind $by_python, $by_ajv;"
done
found=${found%;}
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "jsonschema, jsonschema-rs and ajv no longer read what stands beside \$ref as this script says" >&2
    exit 1
fi
