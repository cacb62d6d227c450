#!/usr/bin/env bash
# Snakemake 9.27.1, its scheduler while jobs run and others wait for their cores.
#
# One would guess: it weighs which job to run next when one has ended, and at most once a second beside,
# for the limit on jobs a second (100/1s unless told otherwise).
# What happens: each weighing sets a timer of one second for the next, and so does each job that ends.
# Timers never grow fewer while a job waits: after n jobs it weighs n times a second, and looks at all
# inputs of all waiting jobs each time. With --max-jobs-per-timespan 1000/10s timers take ten seconds.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check snakemake==9.27.1
cd "$place"
cat >Snakefile <<'RULES'
rule all:
    input: expand("done/{i}", i=range(config["ended"])), "done/long", "done/waiting"
rule short:
    output: "done/{i,[0-9]+}"
    priority: 2
    shell: "touch {output}"
rule long:
    output: "done/long"
    threads: 2
    priority: 1
    shell: "sleep 12; touch {output}"
rule waiting:
    output: "done/waiting"
    threads: 2
    shell: "touch {output}"
RULES
weighed() { # how often jobs are weighed in a run in which so many end first, with these words
  rm -rf done .snakemake
  "$place/env/bin/snakemake" --cores 2 --verbose "${@:2}" --config "ended=$1" 2>&1 |
    grep -c "Resources before job selection"
}
few=$(weighed 4)
many=$(weighed 64)
rare=$(weighed 64 --max-jobs-per-timespan 1000/10s)
echo "Snakemake $("$place/env/bin/snakemake" --version): jobs are weighed $few times where 4 end before" \
  "one of 12 seconds, $many times where 64 do, $rare times with a timespan of ten seconds"
[ "$many" -gt $((4 * few)) ]
[ "$rare" -lt $((many / 3)) ]
