#!/bin/sh
# Says how a job is doing, in Snakemake's words.
#   status.sh NAME
state=$(kubectl get "$1" --ignore-not-found --output \
  'jsonpath={.metadata.name} {.status.conditions[?(@.status=="True")].type}') || {
  echo running # the server did not answer, and says why; Snakemake asks again
  exit
}
case $state in
*Complete*) echo success ;;
*Failed* | '') echo failed ;; # or somebody deleted it
*) echo running ;;
esac
