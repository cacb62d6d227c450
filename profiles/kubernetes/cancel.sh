#!/bin/sh
# Deletes jobs, running ones too.
#   cancel.sh NAME...
exec kubectl delete --wait=false --ignore-not-found "$@"
