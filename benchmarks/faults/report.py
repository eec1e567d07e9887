"""The attacks counted, as a table."""

import json
from collections import Counter

from benchmarks.faults.judge import COLUMNS, WRONG


def counted(records: list[dict]) -> dict[str, dict[str, int]]:
  """{what: {'attempts': .., outcome: ..}}."""
  rows: dict[str, Counter] = {}
  for record in records:
    rows.setdefault(record['what'], Counter()).update(['attempts', record['outcome']])
  return {what: {key: row[key] for key in ('attempts', *COLUMNS)} for what, row in rows.items()}


def table(records: list[dict]) -> str:
  """The rows in Markdown, and a line for every attack that went wrong or left files behind."""
  rows = counted(records)
  rows['all'] = {key: sum(row[key] for row in rows.values()) for key in ('attempts', *COLUMNS)}
  lines = [' | '.join(['', 'what', 'attempts', *COLUMNS.values(), '']).strip(), '| --- ' * (2 + len(COLUMNS)) + '|']
  lines += [f'| {what} | {" | ".join(map(str, row.values()))} |' for what, row in rows.items()]
  for number, record in enumerate(records):
    if record['outcome'] in WRONG or record.get('left_over') or record.get('named') is False:
      lines.append(f'\n{number:03} {json.dumps(record)}')
  return '\n'.join(lines)
