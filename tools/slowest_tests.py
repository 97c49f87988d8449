#!/usr/bin/env python3
"""Print the slowest tests of a JUnit report, one per line, longest first.

    tools/slowest_tests.py target/nextest/ci/junit.xml [COUNT]
"""

import sys
from pathlib import Path
from xml.etree import ElementTree


def slowest(report, count):
    """Return (seconds, binary and test) of the `count` slowest test cases of the report's text."""
    cases = ElementTree.fromstring(report).iter("testcase")
    timed = [(float(case.get("time", 0)), f"{case.get('classname')} {case.get('name')}") for case in cases]
    return sorted(timed, reverse=True)[:count]


def main(path, count="20"):
    timed = slowest(Path(path).read_text(), int(count))
    print(f"The {len(timed)} slowest tests, in seconds:")
    for seconds, name in timed:
        print(f"{seconds:8.1f}  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
