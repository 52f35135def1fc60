"""Walks over lists that change between any two answers: nothing lost, nothing repeated.

`python -m tests.core.living_explore` runs these machines for many more steps.
"""

from tests.core.living_exports import LivingExports
from tests.core.living_fan_out import LivingFanOut
from tests.core.living_walks import LivingWalks

TestLivingWalks = LivingWalks.TestCase
TestLivingFanOut = LivingFanOut.TestCase
TestLivingExports = LivingExports.TestCase
