#!/usr/bin/env bash
# What is asked of a machine with a GPU, in one call: do all strategies compute the same
# gradient there, how fast are they beside PyTorch on the same card, and how many small
# runs fit side by side?
#
#   bash benchmarks/on_gpu.sh OUT [--data_dir=DIR]
#   PARTS="seeds accuracy" bash benchmarks/on_gpu.sh OUT     # some parts only
#   QUICK=1 PLATFORM=cpu bash benchmarks/on_gpu.sh OUT       # a rehearsal without a GPU
#
# The parts, each with its own time limit of SECONDS_EACH a command, write what they find
# into OUT as it is found: strategies.txt, gpu.jsonl, throughput.txt, seeds.txt,
# accuracy.txt. PYTHON names an interpreter with a CUDA build of JAX and of PyTorch, and
# with what pyproject.toml names; a peer that is not installed is listed as absent.
# Without --data_dir, MNIST is downloaded. Other arguments go to every command.
set -uo pipefail
if [ $# -lt 1 ] || [ "${1#-}" != "$1" ]; then
  echo "usage: bash benchmarks/on_gpu.sh OUT [--data_dir=DIR]" >&2
  exit 2
fi
out=$1
shift
flags=("$@")
python=${PYTHON:-python3}
seconds=${SECONDS_EACH:-240}
platform=${PLATFORM:-gpu}
here=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false
[ "$platform" = gpu ] || export JAX_PLATFORMS=$platform
mkdir -p "$out" || exit 2
wrong=0
size() { [ -n "${QUICK:-}" ] && echo "$1" || echo "$2"; } # in a rehearsal, or not
dataset=$(size digits mnist)

within() { # a command, whose status is not hidden by what it prints into a file
  local file=$1
  shift
  echo "$ ${*#"$here"/}" >>"$out/$file"
  timeout "$seconds" "$@" ${flags[@]+"${flags[@]}"} >>"$out/$file" 2>&1
  local status=$?
  [ "$status" = 124 ] && echo "cut off after $seconds s (SECONDS_EACH)" >>"$out/$file"
  [ "$status" = 0 ] || wrong=1
  echo "$SECONDS s: $file, status $status: ${*#"$here"/}"
}

# Gradients first: a fast wrong gradient is worth nothing.
strategies() {
  local recipe
  for recipe in $(size adam_cosine_cnn "adam_cosine_cnn sgd_dropout_cnn"); do
    within "strategies_$recipe.txt" "$python" "$here/scripts/compare_strategies.py" \
      --recipe="$recipe" --batch_size=64 --num_steps=2 &
  done
  wait # they compile, most of the time: side by side
  local file
  for file in "$out"/strategies_*.txt; do
    cat "$file" >>"$out/strategies.txt" && rm "$file"
  done
  tail -3 "$out/strategies.txt"
}

compared() { # recipe, batch size, tasks, contenders
  within throughput.txt "$python" "$here/benchmarks/throughput.py" --recipes="$1" \
    --batch_sizes="$2" --tasks="$3" --only="$4" --out="$out/gpu.jsonl" \
    --rounds="$(size 1 5)" --round_seconds="$(size 0.01 0.2)"
}

ours='^cnnjax (jit|factored)$'
peers='^pytorch (eager|channels_last|compile|cuda_graphs), fused$|^matmul'

throughput() {
  compared adam_cosine_cnn 64 mean "$ours|$peers"
  [ -n "${QUICK:-}" ] || compared adam_cosine_cnn 1024 mean "$ours|$peers"
}

per_example() {
  local rules='^cnnjax (norms|clipped)_by_(factors|rows)$'
  compared adam_cosine_cnn "$(size 64 1024)" "$(size clipped norms,clipped)" \
    "$rules|^torch.func (norms|clipped)$|^opacus .*(norms|clipped)$"
}

others() {
  local few='^cnnjax (jit|factored)$|^pytorch (eager|channels_last), fused$|^matmul'
  compared sgd_dropout_cnn 64 mean "$few"
  compared momentum_mlp_per_sample 8 mean "$few"
  compared sgd_wide_cnn 64 mean "$few"
  compared adam_cosine_cnn 4096 mean "$few"
}

# How many runs of the default recipe fit side by side, and what a seed then costs.
seeds() {
  local count group
  for count in $(size 2 "1 4 16 64"); do
    group=()
    [ "$count" = 1 ] || group=(--group_size="$count")
    within seeds.txt "$python" "$here/scripts/train.py" --dataset="$dataset" \
      --epochs="$(size 1 2)" --num_seeds="$count" ${group[@]+"${group[@]}"}
  done
}

accuracy() {
  local others=()
  [ -n "${QUICK:-}" ] || others=(--contender="pytorch eager, fused")
  within accuracy.txt "$python" "$here/benchmarks/accuracy.py" \
    --num_seeds="$(size 1 10)" --epochs="$(size 1 3)" --out="$out/gpu.jsonl" \
    --contender="cnnjax jit" ${others[@]+"${others[@]}"}
}

"$python" - "$platform" <<'PYTHON' | tee "$out/environment.txt" || exit 2
import sys, jax
print("jax", jax.__version__, *jax.devices())
if jax.default_backend() != sys.argv[1]:
    sys.exit(f"expected a {sys.argv[1]}; JAX finds {jax.default_backend()}")
PYTHON
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader \
  2>/dev/null | tee -a "$out/environment.txt"
for part in ${PARTS:-strategies throughput seeds accuracy per_example others}; do
  "$part"
done
exit "$wrong"
