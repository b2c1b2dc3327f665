"""What the words of the report mean, on the page itself."""

from __future__ import annotations

TERMS = """\
- **published**: what the report says. *derived*: worked out from what it says.
  *measured*: ours, with a correct program of the same settings.
- **ours**: the mean over the seeds that are trained, with its 95 % interval (Student's)
  and their number n, where there are several. A *seed* is one training, from its own
  random parameters and order.
- **band**: the range where a run of ours should fall.
- **verdict**: *in band* or *out of band* is ours against the band; *no band*: nothing
  says where it should fall; *open*: not trained yet, or not as far.
- **like ours**, **unlike ours**: where there is no band, whether the published value
  falls where one more seed of ours would, with 95 %. It takes three seeds to tell.
- **times as fast**: how many times as fast ours is. The machines differ, too.
- **fault**: a mistake of the original program, switched into ours; a run that
  *corrects* another is the same without it.
- **quick scale**: one seed of each run, long ones cut short. *Full scale* is all of it.

Sizes and counts are in band by arithmetic alone."""
