"""`make bench-scaler`: the real policy in virtual time, beside Dask's own and a clairvoyant.

How to run one trace::

    from benchmarks.scaler.run import play
    outcome = play("burst", start_up=60, seed=1, who="ours")   # "adaptive", "fixed", …
    print(outcome.makespan, outcome.cost, outcome.numbers)

From a shell::

    python -m benchmarks.scaler --only burst,mix --start-up 60 --who ours,adaptive --seeds 1
    python -m benchmarks.scaler --log burst --start-up 60    # what ours decided

Where what is: `engine` virtual time; `tasks`, `pools`, `model` Dask's scheduler and workers;
`fleet` a platform; `seen` the `Demand` that our preload would read; `deciders` who decides
(`Ours` does what the scaler's loop does at a tick, `Adaptive` calls distributed's own code);
`traces` the work; `bound` what somebody who knows the future would do; `measure` the metrics.
"""
