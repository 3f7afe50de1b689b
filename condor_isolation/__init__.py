"""condor-isolation: isolates each HTCondor job from every other one, also of the same uid."""

VERSION = "0.1.0"
