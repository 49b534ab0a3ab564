"""When an alarm of a cluster goes off. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from perennial.aws import names
from perennial.spec import ClusterSpec

#: How long before the first certificate ends somebody is told; `perennial up` renews what ends
#: within 30 days.
NOTICE = timedelta(days=14)
#: Where the lines of the scaler about overdue drains are counted, and the words in each of them,
#: see `perennial.scaler.drain_state`.
NAMESPACE = "dask-perennial"
OVERDUE = "past the deadline of its drain"
#: Seconds of a point of a metric: of AWS's own, and of these lines, which come as often.
PERIOD, LINES = 60, 300


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of CloudWatch, and what is taken of it."""

    namespace: str
    name: str
    statistic: str
    dimensions: Mapping[str, str]
    period: int = PERIOD


@dataclass(frozen=True, slots=True)
class Rule:
    """When an alarm goes off: a metric is below 1, or not, for so many periods in a row."""

    part: str
    title: str
    text: str
    metric: Metric
    below: bool
    periods: int

    @property
    def name(self) -> str:
        """Name of the alarm among those of its cluster."""
        return f"{self.part}-{self.title}"

    @property
    def comparison(self) -> str:
        """How CloudWatch compares with 1."""
        return "LessThanThreshold" if self.below else "GreaterThanOrEqualToThreshold"

    @property
    def missing(self) -> str:
        """What no data means: that nothing is there."""
        return "breaching" if self.below else "notBreaching"


def overdue(spec: ClusterSpec) -> Iterator[Rule]:
    """List the alarm of drains that the scaler has begun and cannot end, where it sizes groups."""
    if spec.scaled:
        metric = Metric(NAMESPACE, overdue_metric(spec.name), "Sum", {}, LINES)
        text = "a member is past the deadline of its drain for a quarter of an hour"
        yield Rule("scaler", "drain-overdue", text, metric, below=False, periods=3)


def overdue_metric(cluster: str) -> str:
    """Name the metric of overdue drains."""
    return names.name_of(cluster, "drain-overdue")


def expiry(ends: Sequence[str]) -> float:
    """Return from when on the first certificate ends soon, in seconds of Unix."""
    return (min(map(datetime.fromisoformat, ends)) - NOTICE).timestamp()
