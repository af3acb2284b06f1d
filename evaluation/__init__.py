"""Run policies, judge rollouts, compare with reality, report."""
