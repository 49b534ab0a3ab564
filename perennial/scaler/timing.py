"""The scaler's times in one place, in seconds where nothing else is said. Standard library alone.

Modules ask for them as `timing.NAME`. The policy's numbers are `perennial.scaler.policy.rules`.
"""

from __future__ import annotations

# How long an answer is waited for

#: The scheduler's to a question about demand, or of a person about the scaler.
SCHEDULER_ANSWER = 10.0
#: The scaler's own, to a question from within its pod.
SCALER_ANSWER = 10.0
#: The scheduler's to a question about a drain, which may be one about many members.
DRAIN_ANSWER = 15.0
#: A worker's, or its nanny's, through the scheduler.
WORKER_ANSWER = 10.0
#: A dashboard's; it looks at every task.
DASHBOARD_ANSWER = 20.0
#: A platform's; then the loop goes on without it.
PLATFORM_ANSWER = 30.0
#: For which a question for changes waits at the scheduler.
CHANGE = 30.0
#: That the scheduler has to move what a worker holds; then it is asked again.
MOVE = 300.0

# After which something that has failed is tried again

#: Waiting for changes.
CHANGE_AGAIN = 10.0
#: A scheduler without the preload.
PRELOAD_AGAIN = 60.0
#: A dashboard's page that Dask could not write, and the preload of a scheduler that had none.
SOURCE_AGAIN = 300.0
#: A platform that has refused: the first pause, each next one is twice as long; and the longest.
PLATFORM_AGAIN, PLATFORM_AGAIN_MOST = 5.0, 300.0
#: The drain of a member that could not be drained; likewise.
DRAIN_AGAIN, DRAIN_AGAIN_MOST = 60.0, 3600.0

# Drains

#: Between two rounds: while something changes, and while tasks are waited for.
QUICK, SLOW = 0.2, 1.0
#: Rounds take at most this part of the time: they cost the scheduler something.
SHARE = 0.05
#: Yet no pause is longer, nor than `SLOW` while a member is brought back: a round that took long
#: has mostly waited for a scheduler that was busy with something else.
LONGEST = 5.0
#: That a round waits for workers to answer; slower answers are taken up in a later one.
BRIEF = 2.0
#: For which a worker that has not answered is not asked again.
SILENT = 10.0
#: After which a worker is parked again: a task can have been on its way to it.
PARK = 5.0
#: The same, where the scheduler counts on it for a task that it does not run.
PARK_AGAIN = 1.0
#: Without unique data, after which copies that Dask keeps there are left behind.
SETTLED = 2.0
#: For which nobody can take the data until the drain is given up.
REFUSED = 5.0
#: For which the scheduler does not know the member until it counts as empty. Longer than a worker
#: takes to come back to a scheduler that was restarted.
ABSENT = 30.0
#: That a nanny's own drain gets when the group's rule is to stop at the deadline.
HASTE = 2.0
#: Between two lines of the log about one that is overdue.
OVERDUE = 240.0
#: Beside its drain, for which a member can be parked by somebody else, such as its nanny.
STRAY = 60.0

# The loop

#: A tick that the scheduler asks for comes at the earliest this part of the interval after another.
SOONEST = 0.2
#: Without a step, after which a platform that is not settled is asked once more.
STILL = 30.0
#: In which members that are being drained are brought back when the scaler stops.
STOPPING = 8.0
#: Between two times that what the policy remembers is written down.
SAVE = 30.0
#: Until a record is written although it says nothing new, and nothing new but figures.
SAME_AGAIN, FIGURES_AGAIN = 60.0, 10.0

# Heartbeats

#: Between two of them, where no watchdog asks for more.
HEARTBEAT = 10.0
#: Without the end of a tick, after which none is given any more.
HUNG = 4 * PLATFORM_ANSWER
#: After which a scaler that has said nothing counts as away.
SILENCE = 30.0
#: Intervals without a complete tick after which it is not healthy; and the seconds above them that
#: a slow platform may take.
MISSED, GRACE = 3, 5.0
