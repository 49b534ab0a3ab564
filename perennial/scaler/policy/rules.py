"""The rules by name, and the numbers that they are made of."""

from __future__ import annotations

#: Seconds that a task of unknown duration is taken for, until one has run longer. Dask's own guess.
GUESS = 0.5
#: Members that unknown work may ask for, however short it may turn out to be.
PROBE = 4
#: Work shall be done in this many seconds at least, or in this part of the group's start-up.
HORIZON = 1.0
HORIZON_PART = 0.05
#: Part of their memory that members shall use at most.
FULL = 0.6
#: A member that has not registered after so many start-ups, and a minute, is taken for lost.
LOST = 3.0
#: Before any start-up was measured, when there is only a guess of it, not earlier than this.
UNMEASURED = 900.0
#: How many measured start-ups count, and which of them: three in four were quicker.
START_UPS = 10
QUANTILE = 0.75
#: A member that is not needed is kept for half its start-up, but not for longer than this; the
#: first members of a group are kept longer, up to this part of their start-up. This holds until
#: the group's own pauses are known.
LEAST = 5.0
PART = 0.5
#: A return costs so many start-ups: that of the member, and the time of those who wait for it.
RETURN = 2.0
#: How many pauses are remembered, and how many it takes to learn from them.
GAPS = 32
ENOUGH = 3

#: Work that has come is counted in stretches of so many seconds; so many are remembered, and it
#: takes so many to call it steady.
STRETCH = 5.0
STRETCHES = 12
STRETCHES_ENOUGH = 4

#: Rule → what it says. `Decision.rule` is one of these names.
RULES = {
    "steady": "The group has what its work needs.",
    "demand": "Ready work would still be there when a new member has come; it is asked for.",
    "probe": "How long the ready tasks take is not known; a few members measure it.",
    "memory": "Members hold more data than fits in 0.6 of their memory; more members share it.",
    "back": "Work came back while members were being drained; they begin tasks again.",
    "client": "A client has connected or scatters data, and no group has a member; one is started.",
    "min": "The group is never smaller than its min.",
    "max": "The group is never larger than its max.",
    "pin": "A person has set the size; bounds and demand do not matter.",
    "budget": "All members together may not cost more than the budget.",
    "step-up": "No more members may be on their way at a time (step_up).",
    "pace": "No more members may be on their way at a time, so that the platform keeps answering.",
    "platform": "The platform does not hold so many.",
    "blocked": "The platform has refused; nothing is asked of it until the pause is over.",
    "unwanted": "Members on their way are not needed any more; they are given up.",
    "idle": "Members were not needed for as long as a return would cost; they leave.",
    "waiting": "Fewer members would do, but not for long enough yet to remove the others.",
    "busy": "The group is larger than needed, but its members have tasks.",
    "actors": "The group is larger than needed, but actors live on its members.",
    "kept": "Members without a task are needed where they are: a shuffle, or work bound to them.",
    "paused": "Members that are paused, or parked by somebody else, are not drained.",
    "last": "The other members take no tasks, such as those not registered; one that does stays.",
    "starting": "Members that have not started yet cannot be drained.",
    "step-down": "No more members may leave at a time (step_down).",
    "data": "What the members hold does not fit in 0.6 of the memory of those who would stay.",
    "detail": "Single members are not known, so that none can be chosen to leave.",
    "restarted": "The scheduler is new to the scaler; first all members must register.",
    "no-demand": "The scheduler does not answer; nothing is changed.",
    "no-observation": "The platform does not answer; nothing is changed.",
}
