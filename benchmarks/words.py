"""What the page of the results says by itself."""

PREFACE = (
    "How fast, how large and how accurate the forms of cnnjax are, beside PyTorch, "
    "Opacus, libraries for JAX, Keras and NumPy. Everybody trains the same network on "
    "the same batches. A speed is given only for who computed the gradient of the "
    "serial reference in the same run. Bars are medians over interleaved rounds; a "
    "bar, and a ratio, is of one run on one machine. Click on the name of a column to "
    "sort."
)
SUMMARY = (
    "For each recipe: our fastest form beside the fastest peer. *Tuned* means an "
    "allocator that keeps the memory that it frees, which helps many peers on a CPU; "
    "*fused* an optimizer that passes through memory once. The ratio is to the "
    "fastest peer of all; ours is as installed."
)
FORMS = (
    "The forms of cnnjax that compute an update from the mean gradient of a batch. "
    "All compute the same gradient."
)
PEERS = (
    "Our fastest form beside the fastest variant of each peer. *Ours is*: how many "
    "times as fast ours is."
)
BFLOAT16 = (
    "The arithmetic in bfloat16, the parameters in float32. *To batch*: how many times "
    "the time of `jit`'s batch gradient in float32 in the same run."
)
PER_EXAMPLE = (
    "The norm of each example's gradient, the mean of clipped gradients, or all of "
    "them. *To batch*: how many times the time of `jit`'s plain batch gradient in the "
    "same run."
)
GROWTH = (
    "The dashed line is ideal growth from the first point. The devices of a CPU are "
    "virtual: they share its cores, and show what dividing costs, not what it brings."
)
COMPILE = (
    "Seconds for one update, traced, lowered, compiled and run once: without a "
    "compile cache / with one that has it."
)
ACCURACY = (
    "Lines are medians over seeds, bands go from the lowest seed to the highest. The "
    "table has the seconds of training alone / of everything but the start of the "
    "process."
)
ALL = "Every row, with quartiles, memory, compile time and the error of its gradient."
TEMPORARY = (
    "**Temporary memory of an update, in MiB**, by XLA's own analysis: what the "
    "compiled program needs besides its arguments and results."
)
PEAK = (
    "**Peak memory of the whole process, in MiB**, with its libraries and the data "
    "set. Of a GPU's process this is the memory of the host."
)
