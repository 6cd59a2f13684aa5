"""Facts about the CI that runs us (or the laptop): commit, branch, event, fork, protection, run URL."""
