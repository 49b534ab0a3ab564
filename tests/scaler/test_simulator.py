"""The simulator of `benchmarks/scaler`: does it keep its own laws, and what is known of Dask?"""

from __future__ import annotations

import math
from collections import Counter

import pytest

from benchmarks.scaler.adaptive import Adaptive
from benchmarks.scaler.bound import known
from benchmarks.scaler.deciders import Fixed
from benchmarks.scaler.engine import Clock
from benchmarks.scaler.fleet import Platform, SimulatedFleet
from benchmarks.scaler.measure import elasticity, outcome, percentile
from benchmarks.scaler.model import Model
from benchmarks.scaler.report import geometric, ratios
from benchmarks.scaler.run import decider, foreseen, play, prepared, world
from benchmarks.scaler.schedule import levels
from benchmarks.scaler.seen import Reader
from benchmarks.scaler.tasks import ANY, Prefix, Request, Task, Worker
from benchmarks.scaler.traces import GPU, TRACES, batch, cpu
from benchmarks.scaler.world import Sample, Trace, World
from perennial.scaler.values import Group, Load, Rules

SMALL = [name for name in TRACES if name not in ("ramp", "diurnal")]


@pytest.fixture(scope="module")
def adaptive_burst() -> World:
    """The two bursts of the measured baseline: Dask's Adaptive, 8 workers, start-up 3.6 s."""
    trace = TRACES["burst"](0, 3.6)
    held = Task(Prefix("scatter"), 0.0, nbytes=10**7, kept=True)
    trace.rounds[0].tasks.insert(0, held)
    made = World(trace, Platform(3.6, failing=0.0), seed=0)
    made.run(Adaptive("cpu"))
    return made


# The engine


def test_time_passes_in_order_and_stops_where_it_is_told() -> None:
    clock, seen = Clock(), []
    clock.at(2.0, seen.append, "b")
    clock.after(1.0, seen.append, "a")
    clock.at(2.0, seen.append, "c")
    clock.at(9.0, seen.append, "never")
    clock.run(lambda: 5.0)
    assert seen == ["a", "b", "c"]
    assert clock.now == 5.0


# Tasks: every one runs once, whatever happens to workers


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("who", ["ours", "adaptive", "fixed"])
def test_every_task_runs_exactly_once_unless_its_worker_has_left(name: str, who: str) -> None:
    made = prepared(name, 20.0, 1, who)
    made.run(decider(who, name, 20.0, 1))
    tasks = [task for request in made.trace.everything for task in request.tasks]
    ended = [task for task in tasks if task.state == "memory"]
    assert made.model.ended == len(ended)
    assert sum(task.runs for task in tasks) == len(ended) + made.model.recomputed + sum(
        len(worker.running) for worker in made.model.workers.values()
    )
    assert made.model.useful == pytest.approx(sum(task.seconds for task in ended))
    if who != "adaptive":
        assert made.model.recomputed == made.model.lost == 0
        assert all(
            t.state == "memory" for r in made.trace.everything if r.feasible for t in r.tasks
        )


@pytest.mark.parametrize("name", SMALL)
def test_sums_agree_with_a_look_at_everything(name: str) -> None:
    made = prepared(name, 20.0, 2, "ours")
    model, looks = made.model, []

    def look() -> None:
        given = Counter(
            (task.needs, worker.group, task.prefix)
            for worker in model.workers.values()
            for task in worker.processing
        )
        assert given == +model.processing
        assert +model.queued == Counter((t.needs, t.prefix) for _, t in model.queue)
        for group, tally in model.tallies.items():
            there = [worker for worker in model.workers.values() if worker.group == group]
            assert tally.busy == sum(bool(worker.processing) for worker in there)
            assert set(tally.parked) == {worker for worker in there if worker.status != "running"}
            assert tally.nbytes == sum(worker.nbytes for worker in there)
            assert tally.slots == sum(worker.nthreads for worker in there)
            assert all(
                worker.nbytes == sum(task.nbytes for task in worker.held) for worker in there
            )
        assert model.threads == sum(worker.nthreads for worker in model.workers.values())
        looks.append(sum(given.values()))

    made.clock.every(0.7, 0.3, look)
    made.run(decider("ours", name, 20.0, 2))
    assert max(looks) > 0


def test_a_worker_that_is_removed_loses_what_it_runs_and_it_runs_again() -> None:
    clock = Clock()
    model = Model(clock)
    first, second = (Worker(name, "cpu", 1, 2**30, {}) for name in ("cpu-0", "cpu-1"))
    model.join(first)
    request = batch(0, Prefix("work"), 1, 10.0)
    model.submit(request)
    clock.at(4.0, model.join, second)
    clock.at(6.0, model.leave, first)
    clock.run(lambda: 30.0)
    assert request.ended == 16.0
    assert (model.recomputed, model.thrown) == (1, 6.0)


def test_a_parked_worker_ends_what_it_runs_hands_back_the_rest_and_moves_its_data() -> None:
    clock = Clock()
    model = Model(clock)
    first, second = (Worker(name, "cpu", 1, 2**32, {}) for name in ("cpu-0", "cpu-1"))
    model.join(first)
    held = Task(Prefix("scatter"), 0.0, nbytes=10**9, kept=True)
    model.submit(Request(0, [held]))
    clock.run(lambda: 1.0)
    request = batch(0, Prefix("work"), 2, 10.0)
    model.submit(request)
    empty: list[float] = []
    clock.at(4.0, model.join, second)
    clock.at(4.5, model.park, first, lambda: empty.append(clock.now), 1.0)
    clock.run(lambda: 60.0)
    assert empty == [pytest.approx(11.0 + 2.0)]  # its task has ended, and 1 GB has moved
    assert request.ended == pytest.approx(14.0, abs=0.2)
    assert held.worker is second
    assert model.recomputed == model.lost == 0


def test_data_that_nobody_can_take_keeps_a_parked_worker_there() -> None:
    clock = Clock()
    model = Model(clock)
    first, second = (Worker(name, "cpu", 1, 2**30, {}) for name in ("cpu-0", "cpu-1"))
    model.join(first)
    model.submit(Request(0, [Task(Prefix("scatter"), 0.0, nbytes=100, kept=True)]))
    empty: list[float] = []
    clock.at(1.0, model.park, first, lambda: empty.append(clock.now), 1.0)
    clock.at(50.0, model.join, second)
    clock.run(lambda: 49.0)
    assert not empty
    clock.run(lambda: 60.0)
    assert empty
    assert model.lost == 0


def test_tasks_with_resources_pile_up_on_the_first_worker_that_has_them() -> None:
    clock = Clock()
    model, prefix = Model(clock), Prefix("train")
    model.submit(Request(0, [Task(prefix, 5.0, GPU) for _ in range(10)]))
    assert Reader(model).read(()).work[0].unrunnable == Load(10, 0.0, 10)
    model.join(Worker("gpu-0", "gpu", 1, 2**30, {"GPU": 1.0}))
    work = Reader(model).read(()).work[0]
    assert work.unrunnable.tasks == 0
    assert work.processing["gpu"].tasks == 10
    model.join(Worker("gpu-1", "gpu", 1, 2**30, {"GPU": 1.0}))
    clock.run(lambda: 30.0)
    assert model.moves > 0
    assert model.ended == 10


# The platform


def test_the_fleet_keeps_the_contract_of_fleets() -> None:
    clock = Clock()
    model = Model(clock)
    fleet = SimulatedFleet(model, Group("cpu", max=8), Platform(10.0, failing=0.0), seed=0)
    assert fleet.resize(4) == fleet.resize(4) == 4
    assert len(fleet.pieces) == 4
    assert [m.state for m in fleet.observe().members] == ["starting"] * 4
    fleet.resize(3)  # one that has not started is given up
    clock.run(lambda: 11.0)
    assert [m.worker for m in fleet.observe().members] == ["cpu-0", "cpu-1", "cpu-2"]
    assert fleet.resize(1) == 3, "a running member that nobody has named stays"
    assert fleet.resize(2, fleet.observe().members[:1]) == 2
    assert list(model.workers) == ["cpu-1", "cpu-2"]
    assert (fleet.starts, fleet.stops) == (4, 1)


def test_a_start_that_fails_is_made_again_and_paid_for() -> None:
    clock = Clock()
    fleet = SimulatedFleet(Model(clock), Group("cpu", max=200), Platform(10.0, 0.05), seed=3)
    fleet.resize(200)
    clock.run(lambda: 100.0)
    assert 2 <= fleet.failures <= 25
    assert len(fleet.model.workers) == 200
    paid, served = fleet.bill()
    assert paid == 200 * 100
    assert served == pytest.approx(200 * 90 - 10 * fleet.failures)


# Dask's Adaptive, as measured on a real cluster


def test_adaptive_does_what_was_measured(adaptive_burst: World) -> None:
    assert adaptive_burst.end == pytest.approx(53.7, rel=0.03)
    assert adaptive_burst.served_at_end == pytest.approx(240.9, rel=0.05)
    fleet = adaptive_burst.fleets["cpu"]
    assert fleet.starts == 15
    first = adaptive_burst.trace.rounds[0]
    assert first.ended == pytest.approx(17.15, rel=0.05)


def test_adaptive_stops_seven_of_eight_within_seconds_of_the_first_burst(
    adaptive_burst: World,
) -> None:
    samples = {round(s.time, 2): s.there for s in adaptive_burst.samples["cpu"]}
    ended = adaptive_burst.trace.rounds[0].ended
    assert ended
    assert samples[math.floor(ended)] == 8
    assert samples[math.floor(ended) + 5] == 1, "the eighth holds data"


def test_adaptive_flaps_for_ever_over_work_that_no_worker_of_its_can_run() -> None:
    """60 tasks need a GPU, workers of 2 threads have none: 36 to 48 starts in 60 s were seen."""
    tasks = Request(0, [Task(Prefix("train"), 1.0, GPU) for _ in range(60)])
    trace = Trace("livelock", Rules((Group("cpu", max=8, slots=2),)), [tasks], limit=60.0)
    made = World(trace, Platform(3.6, failing=0.0), seed=0)
    made.run(Adaptive("cpu"))
    fleet = made.fleets["cpu"]
    assert made.model.ended == 0
    assert made.end is None
    assert 30 <= fleet.starts <= 60
    assert fleet.stops >= fleet.starts - 8


# The clairvoyant, and the bound


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("start_up", [4.0, 60.0])
def test_nobody_beats_the_bound(name: str, start_up: float) -> None:
    found, best = foreseen(name, start_up, 1)
    assert found.bound.makespan <= best.makespan + 1e-6
    assert found.bound.cost <= best.cost + 1e-6
    for who in ("ours", "adaptive", "fixed"):
        one = play(name, start_up, 1, who)
        assert found.bound.makespan <= one.makespan + 1e-6
        if one.makespan <= best.makespan:
            assert found.bound.cost <= one.cost + 1e-6


@pytest.mark.parametrize("name", [name for name in SMALL if name != "memory"])
def test_the_clairvoyant_can_be_carried_out(name: str) -> None:
    """In Dask's world, which takes tasks in another order and moves data, which no plan knows."""
    for start_up in (4.0, 60.0):
        _, best = foreseen(name, start_up, 1)
        replayed = play(name, start_up, 1, "replayed")
        assert replayed.makespan <= best.makespan * 1.1
        assert replayed.cost <= best.cost * 1.05


def test_the_clairvoyant_of_one_burst_by_hand() -> None:
    trace = Trace("hand", Rules((cpu(10.0, 4),)), [batch(0, Prefix("work"), 8, 5.0)])
    found = known(trace, 10.0)
    assert found.makespan == 20.0
    assert found.cost == 4 * 20.0
    assert found.bound.makespan == 20.0
    assert found.bound.cost == 4 * 10.0 + 8 * 5.0


def test_a_gap_is_bridged_when_that_is_cheaper_than_a_start() -> None:
    assert list(levels([(10, 20), (25, 30)], 1, 6.0)) == [(4.0, 30.0)]
    assert list(levels([(10, 20), (27, 30)], 1, 6.0)) == [(4.0, 20.0), (21.0, 30.0)]
    assert sorted(levels([(10, 20), (10, 12)], 1, 6.0)) == [(4.0, 12.0), (4.0, 20.0)]
    assert list(levels([(10, 20), (10, 12)], 2, 6.0)) == [(4.0, 20.0)]


# Measures


def test_elasticity_by_hand() -> None:
    pairs = [(0, 0), (4, 0), (4, 2), (4, 4), (2, 4), (0, 4)]
    samples = [Sample(float(i), d, s, s) for i, (d, s) in enumerate(pairs)]
    found = elasticity([(8, samples), (8, [Sample(0.0, 0, 5, 5)])])
    assert found["under"] == pytest.approx((4 + 2) / (6 * 8))
    assert found["over"] == pytest.approx((2 + 4) / (6 * 8))
    assert found["under_time"] == found["over_time"] == pytest.approx(2 / 6)
    assert found["instability"] == 1.0


def test_demand_and_supply_are_sampled_until_nothing_more_is_paid() -> None:
    made = world("burst", 10.0, 0, "fixed")
    assert made.end
    times = [sample.time for sample in made.samples["cpu"]]
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(made.end + made.tail, abs=made.trace.sample)
    idle = [sample for sample in made.samples["cpu"] if sample.time > made.end]
    assert all((sample.demand, sample.there) == (0, 8) for sample in idle)


def test_percentile_by_hand() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert percentile(list(map(float, range(1, 101))), 0.95) == 95.0


@pytest.mark.parametrize("who", ["ours", "adaptive"])
def test_the_same_seed_gives_the_same_run(who: str) -> None:
    first, second = play("mix", 20.0, 5, who), play("mix", 20.0, 5, who)
    assert first == second
    assert play("burst", 20.0, 5, who) != play("burst", 20.0, 6, who)


def test_fixed_costs_as_much_as_it_must() -> None:
    made = prepared("burst", 10.0, 0, "fixed")
    made.run(Fixed())
    assert made.end
    assert outcome(made, "fixed").cost == pytest.approx(8 * (made.end + made.tail))


# Ours


def test_ours_ends_all_that_is_feasible_where_adaptive_never_does() -> None:
    assert math.isfinite(play("mix", 60.0, 0, "ours").makespan)
    assert math.isinf(play("mix", 60.0, 0, "adaptive").makespan)


def test_ours_asks_for_nothing_for_work_that_nobody_can_run() -> None:
    made = prepared("mix", 10.0, 0, "ours")
    made.trace.requests[:] = [request for request in made.trace.requests if not request.feasible]
    made.trace.limit = 600.0
    made.run(decider("ours", "mix", 10.0, 0))
    assert sum(fleet.starts for fleet in made.fleets.values()) <= 1, "a client may have one"


def test_ours_loses_and_repeats_nothing() -> None:
    for name in SMALL:
        one = play(name, 20.0, 3, "ours")
        assert one.numbers["lost"] == one.numbers["recomputed"] == 0


def test_ours_stays_near_the_clairvoyant() -> None:
    outcomes = []
    for name in SMALL:
        for start_up in (4.0, 60.0):
            outcomes.append(foreseen(name, start_up, 1)[1])
            outcomes += [play(name, start_up, 1, who) for who in ("ours", "adaptive")]
    ours, adaptive = ratios(outcomes, "ours"), ratios(outcomes, "adaptive")
    assert geometric(makespan for makespan, _ in ours) <= 1.25
    assert geometric(cost for _, cost in ours) <= 1.65
    assert len(ours) > len(adaptive), "Adaptive never ends the mix"
    assert geometric(m for m, _ in ours) < geometric(m for m, _ in adaptive)


def test_all_members_leave_after_the_work() -> None:
    made = world("burst", 20.0, 0, "ours")
    assert all(not fleet.pieces for fleet in made.fleets.values())


def test_plain_tasks_need_nothing() -> None:
    assert Worker("cpu-0", "cpu", 1, 0, {}).can(ANY)
