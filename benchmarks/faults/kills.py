"""kill -9 at any moment; two starts in one folder."""

import time

from benchmarks.faults.commands import COMMANDS
from benchmarks.faults.judge import judge
from benchmarks.faults.lab import Lab
from benchmarks.faults.results import differences, left_over, result


def kills(lab: Lab, rounds: int, only: str) -> None:
  """Kills each command at moments drawn evenly over the time it takes in peace, sometimes several times in a row."""
  expected = {}
  for name, attempt in (bar := lab.jobs(COMMANDS, only, range(rounds))):
    call, where = COMMANDS[name]
    bar.set_postfix_str(name)
    if name not in expected:
      expected[name] = lab.peaceful(call, where)
    wanted, peace = expected[name]
    lab.lay(where)
    times = [lab.rng.uniform(0, peace.seconds) for _ in range(lab.rng.randint(2, 4) if attempt % 4 == 3 else 1)]
    killed = [_killed(lab, call, seconds) for seconds in times]
    _settle(lab, name, wanted, peace, lab.run(call), killed, [round(seconds, 2) for seconds in times])


def _killed(lab, call, seconds):
  started = lab.start(call)
  time.sleep(seconds)
  return started.kill()


def _settle(lab, name, wanted, peace, run, killed, times):
  """Notes what came of the last run, and what those said that were killed."""
  unequal = differences(wanted, result(lab.place / 'out'))
  worst = next((each for each in killed if _failed(each)), None)
  outcome = _failed(worst) if worst else judge(run, not unequal, peace)
  details = {'unequal': unequal[:10], 'left_over': left_over(lab.place / 'out'), 'killed_after': times}
  lab.note(name, outcome, worst or run, call=COMMANDS[name].call, **details)


def _failed(killed):
  """What went wrong in a run before it was killed; '' where nothing did, or it ended before."""
  if killed.status in (0, -9):
    killed = killed._replace(status=0)
  outcome = judge(killed, True)
  return outcome if outcome in ('traceback', 'otherwise') else ''


# ---- Starts

STARTS = {
  'table missing': ('train, fixed', 'inputs'),
  'table ready': ('train, fixed', 'table alone'),
  'with cache': ('train, cache', 'inputs'),
  'half a run': ('train, fixed', 'half a run'),
  'finished': ('train, fixed', 'run'),
}


def starts(lab: Lab, rounds: int, only: str) -> None:
  """Starts each twice, the second at any moment of the first third of the first; notes both."""
  expected = {}
  for what, _ in (bar := lab.jobs(STARTS, only, range(rounds))):
    name, where = STARTS[what]
    bar.set_postfix_str(what)
    if what not in expected:
      expected[what] = lab.peaceful(COMMANDS[name].call, where)
    wanted, peace = expected[what]
    lab.lay(where)
    delay = lab.rng.choice((0.0, lab.rng.uniform(0, peace.seconds / 3)))
    both = [lab.start(COMMANDS[name].call)]
    time.sleep(delay)
    both.append(lab.start(COMMANDS[name].call))
    _note_both(lab, what, wanted, peace, [started.end() for started in both], delay)


def _note_both(lab, what, wanted, peace, runs, delay):
  """One must end equal, the other be refused: two attacks, either of which may be wrong."""
  unequal = differences(wanted, result(lab.place / 'out'))
  outcomes = [judge(run, not unequal, peace) for run in runs]
  for run, outcome in zip(runs, outcomes):
    other = outcomes[0] if run is runs[1] else outcomes[1]
    alike = {outcome, other} <= {'equal', 'noticed'} or outcome == other == 'refused'
    details = {'unequal': unequal[:10], 'left_over': left_over(lab.place / 'out'), 'delay': round(delay, 2)}
    lab.note(what, 'otherwise' if alike else outcome, run, both=outcomes, **details)
