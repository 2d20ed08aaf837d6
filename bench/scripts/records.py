"""The CSV files that the scripts of this folder write: facts about the run in comments, then a row for each result."""

import csv
import os


def write(path, facts, rows):
    """All rows so far, so that a run that is cut off leaves them. Does nothing without a path."""
    if not path:
        return
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", newline="") as file:
        file.writelines(f"# {name}: {value}\n" for name, value in facts.items())
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
