#!/usr/bin/env bash
# What is asked of a machine with a GPU, in one call: do all strategies compute the same
# gradient there, how fast are they beside PyTorch on the same card, how many small runs
# fit side by side, and how soon is 99 % reached?
#
#   bash benchmarks/on_gpu.sh OUT [--parts=A,B] [--data_dir=DIR]
#   bash benchmarks/on_gpu.sh OUT --platform=cpu --quick     # a rehearsal without a GPU
#
# The parts (strategies, resumed, fast, throughput, seeds, per_example, accuracy, others)
# write what they find into OUT as they find it: PART.txt, and the rows of the tables in
# gpu.jsonl.
# Each command has a time limit, --seconds=N. PYTHON names an interpreter with a CUDA build
# of JAX and of PyTorch, and with what pyproject.toml names; a peer that is not installed is
# listed as absent. Without --data_dir, MNIST is downloaded.
set -uo pipefail
usage="usage: bash benchmarks/on_gpu.sh OUT [--platform=gpu] [--quick] [--parts=A,B]
       [--seconds=N] [--data_dir=DIR]"
refuse() {
  printf 'on_gpu.sh: error: %s\n%s\n' "$1" "$usage" >&2
  exit 2
}
all=strategies,resumed,fast,throughput,seeds,per_example,accuracy,others
out='' data=() platform=gpu quick='' parts=$all seconds=240
for argument in "$@"; do
  case $argument in
    --platform=*) platform=${argument#*=} ;;
    --quick) quick=yes ;;
    --parts=*) parts=${argument#*=} ;;
    --seconds=*) seconds=${argument#*=} ;;
    --data_dir=*) data+=("$argument") ;;
    -*) refuse "unknown flag $argument" ;;
    *) [ -z "$out" ] || refuse "expected one folder, got $out and $argument"; out=$argument ;;
  esac
done
[ -n "$out" ] || refuse "expected a folder for the results, got none"
IFS=, read -ra chosen <<<"$parts"
for part in "${chosen[@]}"; do
  case ",$all," in *",$part,"*) ;; *) refuse "unknown part '$part'; known: $all" ;; esac
done
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false
export TF_CPP_MIN_LOG_LEVEL=2 # one line for each convolution that XLA does not fuse
[ "$platform" = gpu ] || export JAX_PLATFORMS=$platform
mkdir -p "$out" || exit 2
wrong=0
size() { [ -n "$quick" ] && echo "$1" || echo "$2"; } # in a rehearsal, or not
dataset=$(size digits mnist)

within() { # file, command: its output goes into the file, its status into a line
  local file=$1
  shift
  echo "$ ${*#"$here"/}" >>"$out/$file"
  timeout "$seconds" "$@" ${data[@]+"${data[@]}"} >>"$out/$file" 2>&1
  local status=$?
  [ "$status" = 124 ] && echo "cut off after $seconds s (--seconds)" >>"$out/$file"
  [ "$status" = 0 ] || wrong=1
  echo "$SECONDS s: $file, status $status: ${*#"$here"/}"
}

# Gradients first: a fast wrong gradient is worth nothing. They are compared with those of
# the CPU, so JAX must be able to start both platforms.
strategies() {
  local recipe
  for recipe in $(size adam_cosine_cnn "adam_cosine_cnn sgd_dropout_cnn"); do
    within "strategies_$recipe.txt" "$python" "$here/scripts/compare_strategies.py" \
      --recipe="$recipe" --batch_size=64 --num_steps=2 \
      --reference_platform=cpu &
  done
  wait # they compile, most of the time: side by side
  local file
  for file in "$out"/strategies_*.txt; do
    tail -1 "$file" | grep -q '^\([0-9]*\) of \1 ' || wrong=1
    cat "$file" >>"$out/strategies.txt" && rm "$file"
  done
}

compared() { # file, recipe, batch size, tasks, contenders
  within "$1" "$python" "$here/benchmarks/throughput.py" --recipes="$2" \
    --batch_sizes="$3" --tasks="$4" --only="$5" --out="$out/gpu.jsonl" \
    --rounds="$(size 1 5)" --round_seconds="$(size 0.01 0.2)"
}

ours='^cnnjax (jit|factored)(, bfloat16)?$'
peers='^pytorch (eager|channels_last|compile|cuda_graphs), fused(, bfloat16)?$|^matmul'

throughput() {
  local batch
  for batch in $(size 64 "64 1024"); do
    compared throughput.txt adam_cosine_cnn "$batch" mean,bfloat16 "$ours|$peers"
  done
}

per_example() {
  local rules='^cnnjax (norms|clipped)_by_(factors|rows)$'
  rules="$rules|^torch.func (norms|clipped)$|^opacus .*(norms|clipped)$|^jax_privacy"
  compared per_example.txt adam_cosine_cnn "$(size 64 1024)" \
    "$(size clipped norms,clipped)" "$rules"
}

others() {
  local few='^cnnjax (jit|factored)$|^pytorch (eager|channels_last), fused$|^matmul'
  compared others.txt sgd_dropout_cnn 64 mean "$few"
  within others.txt "$python" "$here/benchmarks/scaling.py" \
    --questions="$(size units batch,units)" --recipe=momentum_mlp_per_sample \
    --rounds="$(size 1 3)" --round_seconds="$(size 0.01 0.2)" --out="$out/gpu.jsonl"
  [ -z "$quick" ] || return
  compared others.txt momentum_mlp_per_sample 8 mean "$few"
  compared others.txt sgd_wide_cnn 64 mean "$few"
  compared others.txt adam_cosine_cnn 4096 mean "$few"
}

trained() { # file, flags of train.py
  local file=$1
  shift
  within "$file" "$python" "$here/scripts/train.py" --dataset="$dataset" "$@"
}

# Is a run that is killed in its first epoch and started again the run that was not? XLA
# times its kernels at each start and takes the fastest: not here.
resumed() {
  local XLA_FLAGS="--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
  export XLA_FLAGS
  local settings=(--recipe=sgd_dropout_cnn --epochs="$(size 1 2)" --overwrite
    --checkpoint_every=20updates)
  trained resumed.txt "${settings[@]}" --workdir="$out/whole"
  "$python" "$here/scripts/train.py" --dataset="$dataset" "${settings[@]}" \
    --workdir="$out/killed" ${data[@]+"${data[@]}"} >>"$out/resumed.txt" 2>&1 &
  local child=$!
  local saved="$out/killed/checkpoints/0*[0-9]/manifest.json" end=$((SECONDS + seconds))
  until compgen -G "$saved" >/dev/null || [ "$SECONDS" -ge "$end" ]; do sleep 0.01; done
  if ! kill -KILL $child 2>/dev/null; then
    echo "it ended before it was killed" | tee -a "$out/resumed.txt"
    wrong=1
    return
  fi
  wait $child 2>/dev/null
  trained resumed.txt "${settings[@]/--overwrite/--resume=must}" --workdir="$out/killed"
  if cmp "$out"/{whole,killed}/params.safetensors >>"$out/resumed.txt" 2>&1; then
    echo "killed and resumed: the same bits" | tee -a "$out/resumed.txt"
  else
    echo "killed and resumed: other bits (docs/reliability.md)" | tee -a "$out/resumed.txt"
    wrong=1
  fi
}

# How many runs of the default recipe fit side by side, and what a seed then costs.
seeds() {
  local count group
  for count in $(size 2 "1 4 16 64"); do
    group=()
    [ "$count" = 1 ] || group=(--group_size="$count")
    trained seeds.txt --epochs="$(size 1 2)" --num_seeds="$count" \
      ${group[@]+"${group[@]}"}
  done
}

# The shortest time to 99 % on MNIST, one seed after another: OUT/fast_mnist has each.
fast() {
  trained fast.txt --recipe=fast_mnist_cnn --num_seeds="$(size 2 30)" \
    --workdir="$out/fast_mnist" --overwrite
}

accuracy() {
  local others=()
  [ -n "$quick" ] || others=(--contender="pytorch eager, fused")
  within accuracy.txt "$python" "$here/benchmarks/accuracy.py" \
    --num_seeds="$(size 1 5)" --epochs="$(size 1 3)" --out="$out/gpu.jsonl" \
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
for part in "${chosen[@]}"; do
  "$part"
done
exit "$wrong"
