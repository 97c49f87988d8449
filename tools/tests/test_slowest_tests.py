"""The slowest tests of a JUnit report, longest first."""

import unittest

from slowest_tests import slowest

REPORT = """<testsuites><testsuite name="it">
<testcase name="a" classname="it" time="0.5"/><testcase name="b" classname="it" time="12.25"/><testcase name="c" classname="it"/>
</testsuite></testsuites>"""


class Slowest(unittest.TestCase):
    def test_longest_first(self):
        self.assertEqual(slowest(REPORT, 2), [(12.25, "it b"), (0.5, "it a")])


if __name__ == "__main__":
    unittest.main()
