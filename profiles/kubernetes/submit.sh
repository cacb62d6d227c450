#!/bin/sh
# Starts a job script of Snakemake's as a Kubernetes job, by job.yaml, and prints the job's name.
#   submit.sh THREADS MEGABYTES MINUTES SCRIPT
set -eu
sed -e "s|CORES|$1|" -e "s|MEMORY|$2|" -e "s|SECONDS|$(($3 * 60))|" -e "s|SCRIPT|$4|" \
  "$(dirname "$0")/job.yaml" | kubectl create --filename - --output name
