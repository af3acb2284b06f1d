"""Run policies on the stand-in robot (a simulated robot); the same command resumes."""

from v2w_gym.configs.evaluate import TrialsConfig

SCHEMA = TrialsConfig


def main(cfg: TrialsConfig) -> None:
    """Run the trials, then print the success rates."""
    from v2w_gym.evaluation.records.trials import load_trials
    from v2w_gym.evaluation.trials import run_trials

    table = run_trials(cfg)
    rates = load_trials(table).groupby(["task", "policy"])["success"].agg(["mean", "count"])
    print(rates.rename(columns={"mean": "success rate", "count": "trials"}).round(2).to_string())
    print(f"\ntrials are in {table}")
