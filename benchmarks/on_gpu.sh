#!/usr/bin/env bash
# What is asked of a machine with a GPU, in one call: do all strategies compute the same
# gradient there, and how fast are they beside PyTorch on the same card?
#
#   bash benchmarks/on_gpu.sh OUT [--data_dir=DIR]
#
# Writes OUT/strategies.txt, OUT/gpu.jsonl and OUT/throughput.txt. PYTHON names an
# interpreter with a CUDA build of JAX (and of PyTorch: without it there are no peers);
# SECONDS_EACH bounds every part, so that one that hangs does not cost the others.
# Other arguments go to benchmarks/throughput.py.
set -uo pipefail
if [ $# -lt 1 ]; then
  echo "usage: bash benchmarks/on_gpu.sh OUT [--data_dir=DIR]" >&2
  exit 2
fi
out=$1
shift
data=()
for flag in "$@"; do
  case $flag in --data_dir=*) data+=("$flag") ;; esac
done
python=${PYTHON:-python3}
seconds=${SECONDS_EACH:-240}
here=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$out" || exit 2
wrong=0

within() {
  timeout "$seconds" "$@"
  local status=$?
  [ "$status" = 124 ] && echo "cut off after $seconds s (SECONDS_EACH): $*"
  return "$status"
}

"$python" - <<'PYTHON' | tee "$out/strategies.txt" || exit 2
import sys, jax
print(*jax.devices())
sys.exit("no GPU here: JAX finds " + jax.default_backend() if jax.default_backend() != "gpu" else 0)
PYTHON
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader \
  | tee -a "$out/strategies.txt"

# Gradients first: a fast wrong gradient is worth nothing.
for recipe in adam_cosine_cnn sgd_dropout_cnn; do
  within "$python" "$here/scripts/compare_strategies.py" \
    --recipe="$recipe" --batch_size=64 --num_steps=2 ${data[@]+"${data[@]}"} 2>&1 \
    | tee -a "$out/strategies.txt" || wrong=1
done

only=${ONLY:-'^cnnjax (jit|factored)$|^pytorch (eager|channels_last), fused$|^matmul'}
for size in ${BATCH_SIZES:-64 1024}; do
  for recipe in ${RECIPES:-adam_cosine_cnn}; do
    within "$python" "$here/benchmarks/throughput.py" --recipes="$recipe" \
      --batch_sizes="$size" --tasks=mean --rounds=5 --round_seconds=0.2 \
      --only="$only" --out="$out/gpu.jsonl" "$@" 2>&1 \
      | tee -a "$out/throughput.txt" || wrong=1
  done
done
exit "$wrong"
