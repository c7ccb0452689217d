#!/usr/bin/env bash
# The architectures that CUDA kernels must be compiled for to run on this machine's cards, as CMake wants them (80;90a);
# nothing where there is no card, or none that the backend can use. CUDA=0 in the environment: nothing; CUDA=1: what
# there is, or `all` for the backend's own list.
set -uo pipefail
[ "${CUDA:-}" != 0 ] || exit 0
found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -u | while IFS=. read -r major minor; do
    case $major in
    8) echo 80 ;;
    9) echo 90a ;;
    12) echo 120 ;;
    [1-9][0-9]) echo 90a ;; # by the PTX that always comes along
    esac
done | sort -u | paste -sd ';')
[ -n "$found" ] || [ "${CUDA:-}" != 1 ] || found=all
[ -z "$found" ] || echo "$found"
