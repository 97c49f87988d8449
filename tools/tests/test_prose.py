"""The checker of prose finds what the rules forbid, and leaves code and tables alone."""

import unittest

from prose import of_code, of_markdown


def rules(text):
    return [(found.line, found.rule) for found in of_markdown("docs/a.md", text)]


class Markdown(unittest.TestCase):
    def test_a_long_line_of_prose_is_found_and_one_of_a_table_or_of_code_is_not(self):
        long = "word " * 30
        text = f"# {long}\n\n| {long} |\n\n    {long}\n\n```\n{long}\n```\n\nShort.\n* {long.replace('d w', 'd. w')}\n"
        self.assertEqual(rules(text), [(12, "width")])

    def test_a_sentence_of_more_than_25_words_is_found_where_it_begins(self):
        text = "One.\nTwo " + "word " * 15 + "\n" + "word " * 10 + "end.\n"
        self.assertEqual(rules(text), [(2, "sentence")])

    def test_a_colon_ends_a_sentence_and_code_is_one_word(self):
        self.assertEqual(rules("word " * 15 + ": " + "word " * 5 + "\n`" + "code " * 10 + "`\n" + "word " * 5 + "\n"), [])

    def test_phrases_are_found_and_code_is_not_searched(self):
        self.assertEqual(rules("Methods and their kin.\n`kin`\nAn episode ends.\n"), [(1, "phrase")])

    def test_per_is_asked_for(self):
        self.assertEqual(rules("It has one row a prompt.\nOne file a method.\n8 images a step.\n"), [(n, "phrase") for n in (1, 2, 3)])
        self.assertEqual(rules("It has one row per prompt.\nThis is one of a row.\nEach is a picture.\n"), [])


class Code(unittest.TestCase):
    def test_the_opening_of_a_doc_comment_is_checked_and_only_that(self):
        text = "/// Of a picture.\n/// Of course.\nfn f() {}\n// What it is.\n/// The sum.\n"
        self.assertEqual([(found.line, found.rule) for found in of_code("src/a.rs", text)], [(1, "opening")])

    def test_phrases_are_found_in_comments_and_messages(self):
        self.assertEqual([found.line for found in of_code("src/a.rs", '"goes on with a"\nlet goes_on = 1; // kin\n')], [1, 2])


if __name__ == "__main__":
    unittest.main()
