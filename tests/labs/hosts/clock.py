"""A machine whose clock is wrong.

Containers share the clock of their kernel. So the time of day is changed between the kernel and
the C library, by a library that every program of the machine loads first: what starts while it
is there sees the other time, whoever starts it. systemd and what ran before keep the right one.
Only the time of day is wrong, as it is on a real machine: what counts seconds is not.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.labs.hosts.base import cache, install
from tests.labs.hosts.machine import Machine

_LIBRARY = "/usr/local/lib/lab-clock.so"
_OFFSET = "/etc/lab-clock"

_SOURCE = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

static long offset;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
  FILE *file = fopen("@OFFSET@", "r");
  if (file == NULL) return;
  if (fscanf(file, "%ld", &offset) != 1) offset = 0;
  fclose(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (real == NULL) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += offset;
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (out != NULL) *out = now.tv_sec;
  return now.tv_sec;
}
"""


@contextmanager
def wrong_clock(machine: Machine, seconds: int = 3600) -> Iterator[None]:
    """Have every program that starts in the block see a time that is later by so many seconds."""
    folder = str(Path(_LIBRARY).parent)
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made) / Path(_LIBRARY).name
        copy.write_bytes(_library().read_bytes())
        machine.copy(copy, folder)
    machine.write(_OFFSET, f"{seconds}\n")
    machine.write("/etc/ld.so.preload", f"{_LIBRARY}\n")
    try:
        yield
    finally:
        machine.run("rm", "-f", "/etc/ld.so.preload", _OFFSET)


def _library() -> Path:
    source = _SOURCE.replace("@OFFSET@", _OFFSET)
    made = cache("hosts") / f"clock-{hashlib.sha256(source.encode()).hexdigest()[:12]}.so"
    if not made.exists():
        install("cc")
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            built = Path(folder) / made.name
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", built, "-x", "c", "-"],
                check=True,
                input=source.encode(),
            )
            built.rename(made)
    return made
