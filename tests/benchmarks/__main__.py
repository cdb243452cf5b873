"""
Measure this library beside its peers, and beside the cheapest code that could do the job.

    python tests/benchmarks [--only W1,W7] [--rounds N] [--json FILE] [--plot FILE]

The peers come with the extra `benchmarks`, what draws the plots with `plots`; peers that are not
installed are left out. `--compare REVISION` measures the package as it was at that revision of git
beside it, `--show FILE ...` shows what was found before, side by side.
"""

from suite.command import main

main()
